"""The mean squared error of a linear regressor as what it is: a quadratic function of the parameters.

Letters: N samples, D features, K outputs, C columns of the design (D, and one of ones for the bias). The loss has no
1/2 and is a mean over outputs too, so the Hessian of each output's parameters is H = (2 / K) Z'Z / N.
Source: Boyd and Vandenberghe, Convex Optimization, section 9.1; for the solution, see ``affine.least_squares``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gd_lightning.affine import Affine, least_squares


@dataclass(frozen=True)
class LinearLoss:
    """The loss of linear regressors on data, in the directions of its Hessian's eigenvectors; float64.

    Directions in which the data do not vary (an eigenvalue of 0 up to rounding) are left out: no gradient points there.

    Args:
        rows: The design in those directions, shape (N, R) with R <= C.
        residuals: Targets less the least-squares predictions, shape (N, K).
        eigenvalues: Of the Hessian, ascending, shape (R,); each occurs once an output.
        directions: Its eigenvectors as columns, shape (C, R).
        optimum: The least-squares solution.
        irreducible: Its loss: no linear regressor has a smaller one on these data.

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

    @classmethod
    def of(cls, x: Tensor, y: Tensor, bias: bool = True) -> LinearLoss:
        """Make it from data.

        Args:
            x: Features as the regressor sees them, shape (N, D).
            y: Targets, shape (N, K).
            bias: Whether the regressor has a bias.
        """
        x, y = x.detach().cpu().double(), y.detach().cpu().double()
        design = torch.cat([x, torch.ones(len(x), 1, dtype=torch.float64)], dim=1) if bias else x
        eigenvalues, directions = torch.linalg.eigh(design.T @ design / len(x))
        seen = eigenvalues > max(len(x), design.shape[1]) * torch.finfo(torch.float64).eps * eigenvalues[-1]
        eigenvalues, directions = eigenvalues[seen] * (2 / y.shape[1]), directions[:, seen]
        optimum, irreducible = least_squares(x, y, bias)
        return cls(design @ directions, y - optimum(x), eigenvalues, directions, optimum, irreducible)

    def thinned(self, most: int) -> LinearLoss:
        """Return the loss with fewer rows, drawn evenly; curvature and optimum stay those of all.

        What depends on single samples is then estimated, at a fraction of the time.

        Args:
            most: The number of rows to leave at most.
        """
        if len(self.rows) <= most:
            return self
        chosen = torch.randperm(len(self.rows), generator=torch.Generator().manual_seed(0))[:most]
        return replace(self, rows=self.rows[chosen], residuals=self.residuals[chosen])

    @property
    def n_samples(self) -> int:
        """N."""
        return len(self.rows)

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
