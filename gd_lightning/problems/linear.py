"""A synthetic linear problem with configurable size, noise and conditioning.

Letters: N samples, D features, K outputs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gd_lightning.affine import Affine
from gd_lightning.errors import InputError
from gd_lightning.memory_checks import WithinFreeMemory
from gd_lightning.problems.problem import Problem, check_count, check_noise


@dataclass
class LinearProblem(Problem):
    """y = x W' + b + noise, with features whose Hessian has exactly a given condition number.

    The features are centred and X'X / N has eigenvalues spaced geometrically from 1 down to 1 / condition_number,
    so the Hessian of the mean squared error, 2 X'X / N with the column of the bias (whose eigenvalue is 2), has the
    largest eigenvalue 2 and that condition number.

    Outliers are samples whose targets are shifted up or down with equal probability, so the true function stays the
    expected target.

    Args:
        n_samples: N.
        n_features: D, less than N.
        n_targets: K.
        noise: Standard deviation of the Gaussian noise, in units of y.
        bias: Whether the true function has an intercept.
        condition_number: Largest over smallest eigenvalue of the Hessian, at least 1.
        seed: Seed of features, true parameters, noise and outliers.
        outliers: Fraction of the samples that are outliers, rounded to whole samples.
        outlier_size: Shift of their targets, in units of y.

    Raises:
        InputError: A number is out of its range, or there are too few samples for the condition number.
    """

    n_samples: int = 1000
    n_features: int = 10
    n_targets: int = 1
    noise: float = 0.1
    bias: bool = True
    condition_number: float = 10.0
    seed: int = 0
    outliers: float = 0.0
    outlier_size: float = 10.0

    def __post_init__(self) -> None:
        for name in ("n_samples", "n_features", "n_targets"):
            check_count(name, getattr(self, name))
        if self.n_samples <= self.n_features:
            raise InputError(
                f"cannot make a LinearProblem of {self.n_samples} samples with {self.n_features} features and a chosen "
                f"condition number; use n_samples above n_features"
            )
        if not 1 <= self.condition_number < math.inf:
            raise InputError(
                f"cannot use {self.condition_number} as condition_number; use a finite number of 1 or more"
            )
        if self.n_features == 1 and not self.bias and self.condition_number != 1:
            raise InputError(
                "a single feature without bias has condition number 1; set condition_number to 1, or more features"
            )
        check_noise(self.noise)
        if not 0 <= self.outliers <= 1:
            raise InputError(f"cannot use outliers {self.outliers} as a fraction of the samples; use 0 to 1")
        if not 0 <= self.outlier_size < math.inf:
            raise InputError(f"cannot use outlier_size {self.outlier_size} as the size of a shift; use 0 or more")

    @property
    def _n_outliers(self) -> int:
        return round(self.outliers * self.n_samples)

    def _draw(self) -> tuple[Tensor, Affine, Tensor]:
        generator = torch.Generator().manual_seed(int(self.seed))
        shape = (self.n_samples, self.n_features)
        fits = WithinFreeMemory("sample LinearProblem", "fewer samples or features", 4, "what they are made from")
        with fits:
            x = torch.randn(shape, generator=generator, dtype=torch.float64)
        directions = torch.linalg.qr(x - x.mean(dim=0)).Q  # orthonormal columns, each with mean 0
        rotation = torch.linalg.qr(torch.randn(shape[1], shape[1], generator=generator, dtype=torch.float64)).Q
        scales = torch.logspace(0, -0.5, shape[1], base=self.condition_number, dtype=torch.float64)
        if shape[1] == 1:
            scales = scales / self.condition_number**0.5  # compared with the bias, whose eigenvalue is the larger one
        x = self.n_samples**0.5 * (directions * scales) @ rotation
        weight = torch.randn(self.n_targets, self.n_features, generator=generator, dtype=torch.float64)
        bias = torch.randn(self.n_targets, generator=generator, dtype=torch.float64) if self.bias else None
        noise = torch.randn(self.n_samples, self.n_targets, generator=generator, dtype=torch.float64)
        # Drawn last, so that the other samples are the same with and without outliers.
        rows = torch.randperm(self.n_samples, generator=generator)[: self._n_outliers]
        signs = 2 * torch.randint(2, (len(rows), self.n_targets), generator=generator, dtype=torch.float64) - 1
        return x, Affine(weight, bias), (self.noise * noise).index_add(0, rows, self.outlier_size * signs)

    def sample(self) -> tuple[Tensor, Tensor]:
        """Make x of shape (N, D) and y of shape (N, K), float64."""
        x, truth, noise = self._draw()
        return x, truth(x) + noise

    @property
    def true_parameters(self) -> Affine:
        """Standard normal weights and biases, drawn from the seed."""
        return self._draw()[1]

    @property
    def irreducible_loss(self) -> float:
        """Variance of noise and outliers together."""
        return self.noise**2 + self._n_outliers / self.n_samples * self.outlier_size**2
