"""Float64 computation independent of the precision of a run: moments, SVD, and device moves (layer 0).

Letters: N samples, K columns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

EXACT = 2**53
"""Every whole number up to here is a float64 number."""

NOT_COMPUTABLE: tuple[type[Exception], ...] = (ArithmeticError, torch.linalg.LinAlgError)  # type: ignore[attr-defined]
"""What is raised where float64 itself does not reach: overflows, or matrices without an inverse."""

_DOUBLE = ("64-true", "64", 64)
PRECISIONS = (None, "32-true", "64-true", 32, 64, "32", "64")
"""Precisions of a run that takes place without a Trainer, as a Trainer takes them."""

# Maximum number of entries of all decompositions that are kept, and minimum number of entries of such a matrix.
_REMEMBERED, _LEAST_REMEMBERED = 2**25, 2**12
_decompositions: dict[tuple[object, ...], tuple[Tensor, Tensor, Tensor]] = {}
_SAFE = 480  # binary digits: sums of squares of numbers within 2**480 and 2**-480 are float64 numbers
_ROUNDING = 4 * torch.finfo(torch.float64).eps


@dataclass(frozen=True)
class Moments:
    """Count, mean, and sum of squared deviations from the mean of each column, in float64.

    Sums of squares lose all digits once the mean is large against the spread; deviations from the mean do not.
    Source: Chan, Golub and LeVeque, The American Statistician 37 (1983),
        https://doi.org/10.1080/00031305.1983.10483115.

    Args:
        count: N, a scalar tensor or one of shape (K,).
        mean: Shape (K,).
        scaled: Sum of squared deviations in units, shape (K,); exactly 0 for a constant column.
        unit: Unit of the deviations, shape (K,): a power of two where squares may be beyond float64, 1 elsewhere.

    Example:
        >>> years = torch.tensor([[1900.0], [1910.0], [1920.0], [1930.0]])
        >>> found = Moments.of(years[:1]).merged(Moments.of(years[1:]))
        >>> found.mean.item(), found.squares.item()
        (1915.0, 500.0)
    """

    count: Tensor
    mean: Tensor
    scaled: Tensor
    unit: Tensor = field(default_factory=lambda: torch.ones((), dtype=torch.float64))

    @classmethod
    def of(cls, values: Tensor) -> Moments:
        """Return the moments of values of shape (N, K)."""
        values = in_float64(values)
        count = torch.tensor(float(len(values)), dtype=torch.float64, device=values.device)
        if not len(values):
            return cls(count, values.new_zeros(values.shape[1:]), values.new_zeros(values.shape[1:]))
        # The mean of a constant column is exactly this constant, since it is computed from the first value.
        from_first = values - values[0]
        unit = unit_of(from_first.abs().amax(dim=0))
        mean = (from_first / unit).mean(dim=0) * unit
        return cls(count, values[0] + mean, ((from_first - mean) / unit).square().sum(dim=0), unit)

    def merged(self, other: Moments) -> Moments:
        """Return the moments of both sets of samples together."""
        count = self.count + other.count
        share, shift = other.count / count.clamp(min=1), other.mean - self.mean
        sizes = [each.scaled.sqrt() * each.unit for each in (self, other)]
        unit = unit_of(torch.maximum(torch.maximum(*sizes), shift.abs()))
        of_shift = shift / unit * (self.count * share * (shift / unit))
        return Moments(count, self.mean + share * shift, self._in(unit) + other._in(unit) + of_shift, unit)

    def _in(self, unit: Tensor) -> Tensor:
        """Return the sum of squared deviations in another unit."""
        unit = unit.to(self.unit.device)
        return torch.where(self.unit == unit, self.scaled, (self.scaled.sqrt() * (self.unit / unit)).square())

    @property
    def squares(self) -> Tensor:
        """Sum of squared deviations, shape (K,)."""
        return self.scaled * self.unit * self.unit

    @property
    def is_constant(self) -> Tensor:
        """Whether a column varies by no more than rounding in float64, shape (K,)."""
        return self.std <= _ROUNDING * self.mean.abs()

    @property
    def std(self) -> Tensor:
        """Standard deviation (divisor N), shape (K,)."""
        return (self.scaled / self.count).sqrt() * self.unit


def has_squares(sizes: Tensor) -> Tensor:
    """Return whether float64 holds the squares of numbers of these sizes, and sums of many; true of 0, inf and nan."""
    return (torch.frexp(sizes).exponent.abs() <= _SAFE) | ~sizes.isfinite() | (sizes == 0)


def unit_of(size: Tensor) -> Tensor:
    """Return the power of two below sizes whose squares float64 cannot hold; 1 for other sizes.

    Args:
        size: The sizes, in float64, of any shape; not negative.
    """
    return torch.where(has_squares(size), 1.0, size / (2 * torch.frexp(size).mantissa))


@contextmanager
def precision_of_run(precision: object) -> Iterator[None]:
    """Set the precision of new tensors to that of a run, for code that runs without a Trainer.

    Args:
        precision: As a Trainer takes it, such as 64-true; what is mixed has weights and data in float32.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64 if precision in _DOUBLE else torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def as_float64(values: Tensor) -> Tensor:
    """Return values in float64, with their gradient; on the CPU where their device has no float64 (Apple's)."""
    return (values.cpu() if values.device.type == "mps" else values).double()


def in_float64(values: Tensor) -> Tensor:
    """Return values in float64 without gradient; see :func:`as_float64`."""
    return as_float64(values.detach())


def svd(matrix: Tensor, full_matrices: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Return the singular value decomposition of a matrix, that of one of the last ones without computing it again.

    Each run on a table asks for the same few; those of a wide table take longer than many a training.

    Args:
        matrix: Shape (R, C), float64.
        full_matrices: See ``torch.linalg.svd``.

    Returns:
        U, S and Vh, as ``torch.linalg.svd`` returns them; they are shared, and must not be changed.
    """
    if matrix.numel() < _LEAST_REMEMBERED:
        return _svd(matrix, full_matrices)
    content = hashlib.sha256(matrix.detach().cpu().contiguous().numpy().data).digest()
    key = (content, *matrix.shape, full_matrices, torch.get_num_threads())
    found = _decompositions.pop(key, None) or _svd(matrix, full_matrices)
    _decompositions[key] = found  # the newest decomposition is at the end
    size = sum(part.numel() for parts in list(_decompositions.values()) for part in parts)
    for oldest, parts in list(_decompositions.items()):
        if size > _REMEMBERED:
            size -= sum(part.numel() for part in parts)
            _decompositions.pop(oldest, None)
    return found


def _svd(matrix: Tensor, full_matrices: bool) -> tuple[Tensor, Tensor, Tensor]:
    left, values, right = torch.linalg.svd(matrix, full_matrices=full_matrices)
    return left, values, right


def moved_only(convert: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return a function that moves tensors as a conversion of a module does, but keeps float64 tensors float64.

    Args:
        convert: The function that ``torch.nn.Module.to``, ``.float`` and similar methods apply to each tensor.
    """

    def move(values: Tensor) -> Tensor:
        if values.dtype != torch.float64:
            return convert(values)
        device = convert(torch.empty(0, device=values.device)).device
        return values if device.type == "mps" else values.to(device)

    return move
