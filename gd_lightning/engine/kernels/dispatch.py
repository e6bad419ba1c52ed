"""Choice of the kernel that fits a network and a batch size; importing this module imports Numba.

:func:`carry_out` takes arrays and numbers alone, so that compiled functions can call it as well, from many
threads at once.

Letters: N samples, D features, K outputs, B batch, P parameters, R saved updates, L layers, U units.
"""

from __future__ import annotations

from gd_lightning.engine.compiling import outer
from gd_lightning.engine.kernels.linear import carry_out_linear
from gd_lightning.engine.kernels.network import carry_out_network
from gd_lightning.engine.kernels.structures import Array, Network, Rule, Samples, Saved, Scratch, Span, State


@outer
def carry_out(
    samples: Samples, network: Network, state: State, lrs: Array, rule: Rule, span: Span, saved: Saved, scratch: Scratch
) -> tuple[int, int, bool]:
    """Make updates of a network, one after the other, in one thread.

    Args:
        samples: The training samples.
        network: The layers.
        state: Parameters and momentum buffers, changed in place.
        lrs: Learning rates, shape (updates,), or (1,) for all.
        rule: Loss, penalties and settings of SGD.
        span: The range of updates, and which of them are saved.
        saved: Arrays that receive losses, parameters and gradients.
        scratch: Uninitialised working memory.

    Returns:
        Number of updates made, number of updates saved, and whether divergence is suspected.
    """
    if len(network.layers) == 1:
        return carry_out_linear(samples, network, state, lrs, rule, span, saved, scratch)
    return carry_out_network(samples, network, state, lrs, rule, span, saved, scratch)
