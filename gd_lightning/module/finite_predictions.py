"""Refusing predictions that are beyond the precision of a model, in place of infinities (layer 4).

Letters: N samples, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gd_lightning.errors import InputError
from gd_lightning.measures import unchanged


def refuse_overflow(
    predicted: Tensor, model: nn.Module, exact: Callable[[int], Tensor], option: str = "trainer.precision"
) -> None:
    """Refuse predictions of finite features by finite parameters that are not finite.

    Predictions of a model that diverged are left as they are.

    Args:
        predicted: The predictions, shape (N, K).
        model: The model, with all its parameters.
        exact: Returns the prediction of a row, counted from 0, that float64 would give.
        option: The name of the option that chooses the precision.

    Raises:
        InputError: A prediction is not finite.
    """
    finite = torch.isfinite(predicted).flatten(1).all(dim=1)
    if finite.all() or not is_finite(model):
        return
    row = int((~finite).nonzero()[0])
    dtypes = [predicted.dtype, *(value.dtype for value in model.parameters() if value.is_floating_point())]
    precision = str(min(dtypes, key=lambda dtype: dtype.itemsize)).removeprefix("torch.")
    if precision != "float64" and bool(torch.isfinite(exact(row)).all()):
        raise InputError(
            f"cannot predict row {row} (from 0), because its prediction is beyond {precision}; use {option} 64-true"
        )
    raise InputError(
        f"cannot predict row {row} (from 0), because its prediction is not a finite number, in float64 either; leave "
        "the row out"
    )


def is_finite(model: nn.Module) -> bool:
    """Whether all parameters and buffers of a model are finite, as they are unless it diverged."""
    return all(bool(torch.isfinite(value).all()) for value in chain(model.parameters(), model.buffers()))


def predicted_in_float64(model: nn.Module, x: Tensor) -> Tensor:
    """Return a model's output for an input, as if its parameters and all computations were float64.

    Args:
        model: The model, which stays as it is.
        x: Input of the model.
    """
    # On the CPU, since other devices may have no float64.
    values = {name: value.cpu() for name, value in chain(model.named_parameters(), model.named_buffers())}
    wider = {name: value.double() if value.is_floating_point() else value for name, value in values.items()}
    with unchanged(model, torch.device("cpu")):
        found: Tensor = functional_call(model, wider, (x.cpu().double(),))
    return found
