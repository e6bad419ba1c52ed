"""Why a run without an exact theory diverged, by the curvature of its loss, and what rate had been stable."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from gd_lightning.callbacks.sharpness_monitor import descended_loss, local_curvature, rule_of
from gd_lightning.data import BatchLoader
from gd_lightning.errors import InputError
from gd_lightning.float64 import NOT_COMPUTABLE
from gd_lightning.module import predicting_part
from gd_lightning.theory.advice import rounded
from gd_lightning.threads import one_thread_if

MOST_PARAMETERS = 10**6
"""The most parameters of which earlier weights are kept."""

_ADVISED = 0.5  # of the limit: with it, the sharpest error shrinks most, and the curvature may double

_NOT_KNOWN: tuple[type[Exception], ...] = (*NOT_COMPUTABLE, InputError)

Weights = Mapping[str, Tensor]


def weights_of(module: LightningModule) -> Weights | None:
    """Return a copy of the weights of what predicts; None where they are too many."""
    state = predicting_part(module).state_dict()
    if sum(each.numel() for each in state.values()) > MOST_PARAMETERS:
        return None
    return {name: each.detach().clone() for name, each in state.items()}


@one_thread_if(True)
def cause_in_curvature(trainer: Trainer, module: LightningModule, weights: Sequence[tuple[str, Weights]]) -> str:
    """Return why a run diverged, and a learning rate that had been stable, as a sentence; "" if it is not this.

    Args:
        trainer: The Trainer.
        module: The module that has diverged.
        weights: Weights that it had before, each with words that say when. The cause is in the first of them at which
            the learning rate is above the limit.
    """
    loader, rule = trainer.train_dataloader, rule_of(trainer)
    if not isinstance(loader, BatchLoader):
        return ""
    variant = loader.variant
    for when, state in weights:
        network = copy.deepcopy(predicting_part(module))
        network.load_state_dict(state)
        try:
            found = local_curvature(network, descended_loss(module), loader.samples, rule)
        except _NOT_KNOWN:
            continue
        limit = found.limit(variant)
        if rule.lr >= limit:
            sharpest = "" if variant.name == "batch" else f" and {found.sample_curvature:.4g} of a single sample"
            return (
                f"lr {rule.lr:g} is above {limit:.4g}, the limit for batch_size {variant.batch_size} by the curvature "
                f"{when}: sharpness {found.sharpness:.4g}{sharpest}; use lr {rounded(_ADVISED * limit)}"
            )
    return ""
