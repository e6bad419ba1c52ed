"""Choice of the compiled functions that fit a network and a batch size; importing this module imports Numba.

Letters: N samples, D features, K outputs, B batch, P parameters, R saved updates, L layers, U units.
"""

from __future__ import annotations

import numba

from gd_lightning.engine.compiling import CompiledApart
from gd_lightning.engine.kernels.activations import RELU, activate
from gd_lightning.engine.kernels.arithmetic import MSE, SHORT
from gd_lightning.engine.kernels.blocks import sum_losses_of_network
from gd_lightning.engine.kernels.few_features import sum_losses_of_groups
from gd_lightning.engine.kernels.linear import (
    batches,
    large_batches,
    line,
    line_densely,
    line_in_batches,
    plane,
    sum_losses_of_line,
    sum_losses_of_linear,
)
from gd_lightning.engine.kernels.network import FEWEST_IN_BLOCKS, network_in_blocks, network_in_loops
from gd_lightning.engine.kernels.prediction_errors import sum_errors, sum_errors_of_network
from gd_lightning.engine.kernels.products import add_dots, add_product
from gd_lightning.engine.kernels.structures import Array, Calls, Network, Rule, Saved, Span
from gd_lightning.engine.kernels.updates import SGD


def network_of(layers: Array, shapes: Array, places: Array, update: CompiledApart | None = None) -> Network:
    """Return the arguments of compiled code that describe a network, and the functions that it calls by their address.

    Args:
        layers: See :class:`Network`.
        shapes: See there; in the precision of the run.
        places: See there.
        update: Makes the updates, if any are made; see :func:`update_of`.
    """
    dtype, calls = shapes.dtype, Calls()
    if len(layers) > 1:
        calls = calls._replace(add_product=add_product.address(dtype), add_dots=add_dots.address(dtype))
        if (layers[:, 6] > RELU).any():  # activations behind RELU in the list are compiled as functions of their own
            calls = calls._replace(activate=activate.address(dtype))
    if update is not None:
        calls = calls._replace(update=update.address(dtype))
    return Network(layers, shapes, places, calls)


def measuring(network: Network) -> Network:
    """Return a network whose train loss is measured, too; see ``LOSSES``."""
    inputs, outputs = network.layers[0, 0], network.layers[-1, 1]
    if len(network.layers) > 1:
        function = sum_losses_of_network
    elif inputs == outputs == 1:
        function = sum_losses_of_line
    else:
        function = sum_losses_of_groups if inputs < SHORT else sum_losses_of_linear
    return network._replace(calls=network.calls._replace(sum_losses=function.address(network.shapes.dtype)))


def validating(network: Network) -> Network:
    """Return a network that is validated, too; see ``ERRORS``."""
    function = sum_errors if len(network.layers) == 1 else sum_errors_of_network
    return network._replace(calls=network.calls._replace(sum_errors=function.address(network.shapes.dtype)))


def update_of(layers: Array, rule: Rule, batch_size: int, in_threads: bool = False) -> CompiledApart:
    """Return the function that makes updates; see ``UPDATE``.

    Args:
        layers: See :class:`Network`.
        rule: The settings of the optimiser.
        batch_size: B.
        in_threads: Whether several threads make an update of a linear network.
    """
    if in_threads:
        numba.get_num_threads()  # starts the threads, without which code from the cache cannot be linked
        return large_batches
    if len(layers) > 1:
        return network_in_blocks if batch_size >= FEWEST_IN_BLOCKS else network_in_loops
    is_plain = rule.optimizer == SGD and rule.momentum == 0 and rule.weight_decay == 0 and rule.l1 == 0
    if is_plain and layers[0, 0] == layers[0, 1] == 1:
        return line if batch_size == 1 else line_in_batches
    if is_plain and layers[0, 1] == 1 and batch_size == 1:
        return plane
    return batches


def without_records(update: CompiledApart, rule: Rule, span: Span, saved: Saved) -> CompiledApart:
    """Return a function that makes the same updates in less time, if few results are saved.

    Args:
        update: The compiled function that makes the updates.
        rule: The loss.
        span: The updates.
        saved: Arrays that receive losses, parameters and gradients.
    """
    keeps_last = len(saved.losses) == 1 and len(saved.parameters) == len(saved.gradients) == 0
    is_each = span.save_start == 0 and span.save_every == 1
    is_last = span.save_start >= span.updates - 1 and not span.is_checked
    is_dense = update is line and rule.loss == MSE and keeps_last and (is_each or is_last)
    return line_densely if is_dense else update
