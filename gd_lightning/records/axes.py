"""The axes of a history: updates, epochs, samples and seconds."""

from __future__ import annotations

from typing import Any

import numpy as np

from gd_lightning.variants import Variant

AXES = ("update", "epoch", "samples", "seconds")


def axes_at(variant: Variant, updates_per_epoch: int, epoch: Any, in_epoch: Any) -> dict[str, Any]:
    """Return the values of the axes for epochs and samples.

    Args:
        variant: B and N.
        updates_per_epoch: How many updates an epoch makes in this run.
        epoch: The present epoch, from 0: a number, or an array of them.
        in_epoch: Updates made in that epoch.
    """
    samples = np.minimum(in_epoch * variant.batch_size, variant.train_samples)
    return {
        "epoch": epoch + in_epoch / updates_per_epoch,
        "samples": epoch * variant.samples_at(updates_per_epoch) + samples,
    }
