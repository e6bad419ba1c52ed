"""The mean squared error of a linear regressor as what it is: a quadratic function of the parameters.

Letters: N samples, D features, K outputs, C columns of the design (D, and one of ones for the bias). The loss has no
1/2 and is a mean over outputs too, so the Hessian of each output's parameters is H = (2 / K) Z'Z / N.
Source: Boyd and Vandenberghe, Convex Optimization, section 9.1; for the solution, see ``affine.least_squares``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gd_lightning.affine import Affine, least_squares_over
from gd_lightning.theory.thinning import drawn_evenly

_BLOCK = 65_536  # rows that are turned into float64 at a time


@dataclass(frozen=True)
class LinearLoss:
    """The loss of linear regressors on data, in the directions of its Hessian's eigenvectors; float64.

    Directions in which the data do not vary (an eigenvalue of 0 up to rounding) are left out: no gradient points there.

    Args:
        rows: The design in those directions, shape (M, R) with R <= C; M is N, or less where it is thinned.
        residuals: Targets less the least-squares predictions, shape (M, K).
        eigenvalues: Of the Hessian, ascending, shape (R,); each occurs once an output.
        directions: Its eigenvectors as columns, shape (C, R).
        optimum: The least-squares solution.
        irreducible: Its loss: no linear regressor has a smaller one on these data.
        n_samples: N.

    Example:
        >>> x = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
        >>> loss = LinearLoss.of(x, 2 * x, bias=False)
        >>> round(loss.lambda_max, 9), loss.optimum.weight.shape
        (15.0, torch.Size([1, 1]))
    """

    rows: Tensor
    residuals: Tensor
    eigenvalues: Tensor
    directions: Tensor
    optimum: Affine
    irreducible: float
    n_samples: int

    @classmethod
    def of(cls, x: Tensor, y: Tensor, bias: bool = True) -> LinearLoss:
        """Make it from data.

        Args:
            x: Features as the regressor sees them, shape (N, D).
            y: Targets, shape (N, K).
            bias: Whether the regressor has a bias.
        """
        starts = range(0, len(x), _BLOCK)
        return cls.over(lambda: ((x[i : i + _BLOCK], y[i : i + _BLOCK]) for i in starts), bias)

    @classmethod
    def over(
        cls,
        blocks: Callable[[], Iterable[tuple[Tensor, Tensor]]],
        bias: bool = True,
        most: int | None = None,
    ) -> LinearLoss:
        """Make it from data that come block by block.

        Args:
            blocks: Gives all blocks, x of shape (rows, D) and y of shape (rows, K), each time it is called.
            bias: Whether the regressor has a bias.
            most: The number of rows to keep at most, see :meth:`thinned`; None: all.
        """
        optimum, irreducible = least_squares_over(blocks, bias)
        n, gram = 0, torch.zeros((), dtype=torch.float64)
        for x, y in blocks():
            design = _design(x, bias)
            n, outputs, gram = n + len(x), y.shape[1], gram + design.T @ design
        eigenvalues, directions = torch.linalg.eigh(gram / n)
        seen = eigenvalues > max(n, len(gram)) * torch.finfo(torch.float64).eps * eigenvalues[-1]
        eigenvalues, directions = eigenvalues[seen] * (2 / outputs), directions[:, seen]
        kept, rows, residuals, start = drawn_evenly(n, most), [], [], 0
        for x, y in blocks():
            if kept is not None:
                chosen = kept[(kept >= start) & (kept < start + len(x))] - start
                start += len(x)
                x, y = x[chosen.to(x.device)], y[chosen.to(y.device)]
            rows.append(_design(x, bias) @ directions)
            residuals.append(y.detach().cpu().double() - optimum(x.detach().cpu().double()))
        return cls(torch.cat(rows), torch.cat(residuals), eigenvalues, directions, optimum, irreducible, n)

    def thinned(self, most: int) -> LinearLoss:
        """Return the loss with fewer rows, drawn evenly; curvature and optimum stay those of all.

        What depends on single samples is then estimated, at a fraction of the time.

        Args:
            most: The number of rows to leave at most.
        """
        kept = drawn_evenly(len(self.rows), most)
        return self if kept is None else replace(self, rows=self.rows[kept], residuals=self.residuals[kept])

    @property
    def is_thinned(self) -> bool:
        """Whether it has fewer rows than there are samples."""
        return len(self.rows) < self.n_samples

    @property
    def n_outputs(self) -> int:
        """K."""
        return self.residuals.shape[1]

    @property
    def hessian(self) -> Tensor:
        """Hessian of the parameters of one output, weights then bias, shape (C, C); the same for each output."""
        return self.directions * self.eigenvalues @ self.directions.T

    @property
    def lambda_max(self) -> float:
        """Largest eigenvalue."""
        return self.eigenvalues[-1].item()

    @property
    def lambda_min(self) -> float:
        """Smallest eigenvalue that is not 0."""
        return self.eigenvalues[0].item()

    @property
    def condition_number(self) -> float:
        """Largest over smallest eigenvalue that is not 0."""
        return self.lambda_max / self.lambda_min

    def error(self, affine: Affine) -> Tensor:
        """Return the parameters less the optimum in the directions of the eigenvectors, shape (R, K)."""
        return self.directions.T @ (_stacked(affine) - _stacked(self.optimum))

    def excess(self, error: Tensor) -> Tensor:
        """Return the loss above the irreducible one, delta' H delta / 2 summed over outputs.

        Args:
            error: As :meth:`error` returns it, shape (..., R, K).

        Returns:
            Shape (...).
        """
        return (self.eigenvalues[:, None] * error.square()).sum(dim=(-2, -1)) / 2


def _stacked(affine: Affine) -> Tensor:
    """Return the parameters of an affine function, weights then bias, shape (C, K), float64."""
    weight = affine.weight.detach().cpu().double().T
    return weight if affine.bias is None else torch.cat([weight, affine.bias.detach().cpu().double()[None]])


def _design(x: Tensor, bias: bool) -> Tensor:
    """Return features of shape (rows, D) as the design, shape (rows, C), float64."""
    x = x.detach().cpu().double()
    return torch.cat([x, torch.ones(len(x), 1, dtype=torch.float64)], dim=1) if bias else x
