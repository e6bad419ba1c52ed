"""Why a run without an exact theory diverged, by its curvature, and which learning rate would have been stable."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from gd_lightning.callbacks.sharpness_monitor import NOT_KNOWN, descended_loss, local_curvature, rule_of
from gd_lightning.data import BatchLoader
from gd_lightning.module import predicting_part
from gd_lightning.theory.advice import rounded
from gd_lightning.threads import one_thread_if

MOST_PARAMETERS = 10**6
"""The most parameters of which earlier weights are kept."""

_ADVISED = 0.5  # fraction of the limit: there, the sharpest error shrinks fastest, and the curvature may double

Weights = Mapping[str, Tensor]


def weights_of(module: LightningModule) -> Weights | None:
    """Return a copy of the weights of the part that predicts; None if there are too many."""
    state = predicting_part(module).state_dict()
    if sum(each.numel() for each in state.values()) > MOST_PARAMETERS:
        return None
    return {name: each.detach().clone() for name, each in state.items()}


class KeptWeights:
    """The weights of a run at its start, and after the last two of some epochs, the newer of which may have diverged.

    They are kept after epochs 1, 2, 4, 8 and so on: each ends a chunk, which costs as much as a hundred updates.
    The end of a chunk, which may depend on seconds, has no influence, so that equal runs report the same cause.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[int, Weights]] = []  # numbers of updates, with the weights after each

    def epochs_to_next(self, trainer: Trainer) -> int:
        """Return the number of epochs until weights are kept next."""
        return _until_kept(trainer.global_step // int(trainer.num_training_batches))

    def keep(self, trainer: Trainer, module: LightningModule) -> None:
        """Keep the current weights, if they are the first ones or those after such an epoch."""
        updates, per_epoch = trainer.global_step, int(trainer.num_training_batches)
        is_due = updates % per_epoch == 0 and _until_kept(updates // per_epoch - 1) == 1
        is_first = not self._kept
        if (is_first or (is_due and updates > self._kept[-1][0])) and (weights := weights_of(module)) is not None:
            self._kept = [*self._kept[:1], *self._kept[1:][-1:], (updates, weights)]

    def before(self, trainer: Trainer) -> list[tuple[str, Weights]]:
        """Return the weights that were kept before the current ones, each with a description of when."""
        per_epoch = int(trainer.num_training_batches)
        earlier = [each for each in self._kept if each[0] < trainer.global_step] or self._kept
        return [
            (f"at the weights after epoch {updates // per_epoch}" if index else "at the start", weights)
            for index, (updates, weights) in enumerate(earlier)
        ]


def _until_kept(epoch: int) -> int:
    return (1 << epoch.bit_length()) - epoch


@one_thread_if(True)
def cause_in_curvature(trainer: Trainer, module: LightningModule, weights: Sequence[tuple[str, Weights]]) -> str:
    """Return why a run diverged, and a stable learning rate, as a sentence; "" if the curvature does not explain it.

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
        except NOT_KNOWN:
            continue
        limit = found.limit(variant)
        if rule.lr >= limit:
            sharpest = "" if variant.name == "batch" else f" and {found.sample_curvature:.4g} of a single sample"
            return (
                f"lr {rule.lr:g} is above {limit:.4g}, the limit for batch_size {variant.batch_size} by the curvature "
                f"{when}: sharpness {found.sharpness:.4g}{sharpest}; use lr {rounded(_ADVISED * limit)}"
            )
    return ""
