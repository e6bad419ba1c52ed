"""Which of the tags of a Lightning project's event files are train and validation losses."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

# Tags that begin with an axis are those of this package, for killed runs without history.csv.
_TRAIN_TAGS = ("train_loss", "train_loss_epoch", "train/loss", "updates/train_loss", "train_loss_step", "loss")
_VALIDATION_TAGS = ("val_loss", "val_loss_epoch", "val/loss", "validation_loss", "updates/val_loss")
_NOT_TRAINING = re.compile("val|test|dev", re.IGNORECASE)


def train_tag(tags: Collection[str]) -> str | None:
    """Return the tag of the train loss; None where no tag has a loss in its name that is not of held-out samples."""
    losses = [tag for tag in tags if "loss" in tag.lower() and not _NOT_TRAINING.search(tag)]
    return _preferred(losses, _TRAIN_TAGS)


def validation_tag(tags: Collection[str]) -> str | None:
    """Return the tag of the validation loss; None where no tag has both words in its name."""
    return _preferred([tag for tag in tags if re.search("val.*loss|loss.*val", tag, re.IGNORECASE)], _VALIDATION_TAGS)


def _preferred(tags: Collection[str], order: Sequence[str]) -> str | None:
    """Return the tag that is first in an order, or else one of the others, preferably of training and of epochs."""
    known = [tag for tag in order if tag in tags]
    others = sorted(tags, key=lambda tag: ("train" not in tag.lower(), "step" in tag.lower(), tag))
    return next(iter([*known, *others]), None)
