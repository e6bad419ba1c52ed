"""How many samples of a validation, a test or a prediction are computed at once."""

from __future__ import annotations

from lightning.pytorch import Trainer

from gd_lightning.data.placement import device_of, model_of

# Activations of the widest layer that are computed at a time. On a CPU, parts that fit in its cache are several times
# faster than large batches; a GPU needs more to be busy.
_ON_CPU, _ON_OTHERS = 2**20, 2**26


def samples_at_once(trainer: Trainer | None, features: int, outputs: int, numbers: int | None) -> int:
    """Return the number of samples to process at once, from the widest layer of the model.

    Args:
        trainer: The Trainer, with model and device.
        features: D.
        outputs: K.
        numbers: Number of activations of that layer to compute at once; None: a default for the device.
    """
    model = model_of(trainer)
    shapes = [] if model is None else [parameter.shape for parameter in model.parameters()]
    widest = max([features, outputs, *(size for shape in shapes for size in shape)])
    suitable = _ON_CPU if device_of(trainer).type == "cpu" else _ON_OTHERS
    return max(1, (suitable if numbers is None else numbers) // widest)
