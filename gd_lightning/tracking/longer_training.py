"""Whether a run ended while its loss still fell, and how many epochs may end it."""

from __future__ import annotations

import math

import numpy as np

from gd_lightning.records.history import History, Outcome

# Fractions of the loss at the start: if it is that of the best constant, differences of R2. A train loss also falls
# where a network only memorises its samples; a validation loss does not.
_LITTLE = {"train_loss": 0.01, "val_loss": 0.003}
_MOST = 10  # largest ratio of the advised epochs to those of the run
_FEWEST_EPOCHS = 4  # minimum number of epochs from which this advice is given


def longer_training(history: History) -> str:
    """Return what to do about a run that reached its last epoch while its loss still fell; "" if it did not fall.

    It fell if the lowest loss of the last half of the epochs is below that of the first half by more than a hundredth
    of the loss at the start, or three thousandths of that of validation, which is taken where it was measured. The
    epochs that are named are those at which it would fall by less, if its distance to where it ends were inversely
    proportional to the epochs, so that each doubling of them halves what it falls by; at most ten times as many.

    Args:
        history: The history of the run.
    """
    if history.outcome is not Outcome.COMPLETED or not history.reason.startswith("max_epochs"):
        return ""
    name = "val_loss" if "val_loss" in history else "train_loss"
    at = history.measured(name)
    if len(at) < _FEWEST_EPOCHS:
        return ""
    epochs, losses = history["epoch"][at], np.minimum.accumulate(history[name][at])
    half = losses[np.searchsorted(epochs, epochs[-1] / 2, side="right") - 1]
    fell = (half - losses[-1]) / losses[0] if losses[0] > 0 else 0.0
    if not fell > _LITTLE[name]:
        return ""
    more = math.ceil(epochs[-1] * min(_MOST, 2 ** math.ceil(math.log2(fell / _LITTLE[name]))))
    loss = "validation loss" if name == "val_loss" else "train loss"
    return (
        f"the {loss} still fell by {fell:.2g} of its start in the last half of the epochs; train longer, such as fit "
        f"--ckpt_path last --trainer.max_epochs {more} (in Python epochs={more})"
    )
