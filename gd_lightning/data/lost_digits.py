"""Columns that lose their digits when they are converted to the precision of a run.

Letters: N samples, C columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gd_lightning.errors import InputError
from gd_lightning.float64 import Moments, in_float64

_MOST = 1e-3  # rounding error over standard deviation, above which a column is named
_ROWS = 65_536  # number of rows that are converted at a time
_SHOWN = 5
_ADVICE = "use --data.standardize both, or train in float64 with --trainer.precision 64-true"


def lost_digits(values: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return the effect of rounding to a precision on each column.

    Args:
        values: Shape (N, C), N at least 1.
        dtype: The precision.

    Returns:
        The root mean square of the rounding error over the standard deviation (0 where the column is constant), and
        whether rounding makes the column constant; both of shape (C,).
    """
    moments, lowest, highest = Moments.of(values[:0]), torch.tensor(torch.inf), torch.tensor(-torch.inf)
    squares = torch.zeros((), dtype=torch.float64)
    for block in values.split(_ROWS):
        exact, rounded = in_float64(block).cpu(), in_float64(block.to(dtype)).cpu()
        moments = moments.merged(Moments.of(exact))
        squares = squares + (exact - rounded).square().sum(dim=0)
        lowest, highest = torch.minimum(lowest, rounded.amin(dim=0)), torch.maximum(highest, rounded.amax(dim=0))
    varies = ~moments.is_constant
    errors = torch.where(varies, (squares / moments.squares).sqrt(), 0.0)
    return errors, varies & (lowest == highest)


def check_digits(
    features: tuple[Tensor, torch.dtype],
    targets: tuple[Tensor, torch.dtype],
    names: tuple[Sequence[str], Sequence[str]],
) -> str:
    """Name the columns that lose their digits.

    Args:
        features: Features, shape (N, D), and the dtype to convert them to.
        targets: Targets, shape (N, K), and the dtype to convert them to.
        names: Names of features and of targets.

    Returns:
        A sentence that names the columns and a remedy; "" if no column loses digits.

    Raises:
        InputError: Rounding makes a column constant.
    """
    lost: dict[str, float] = {}
    for (values, dtype), named in zip((features, targets), names, strict=True):
        if torch.finfo(dtype).eps <= torch.finfo(values.dtype).eps:
            continue
        errors, is_constant = lost_digits(values, dtype)
        for name, error, constant in zip(named, errors.tolist(), is_constant.tolist(), strict=True):
            if constant:
                raise InputError(
                    f"cannot train on column {name!r} in float32, because its values are all the same number there; "
                    f"{_ADVICE}"
                )
            if error > _MOST:
                lost[name] = error
    if not lost:
        return ""
    shown = ", ".join(f"{name!r}" for name in list(lost)[:_SHOWN]) + ", ..." * (len(lost) > _SHOWN)
    few, verb = ("column", "loses") if len(lost) == 1 else ("columns", "lose")
    share = f"{max(lost.values()):.1%} of the standard deviation"
    return f"{few} {shown} {verb} digits in float32: rounding alone is {share}; {_ADVICE}"
