"""Problems with one feature and a curve, for multilayer perceptrons."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gd_lightning.memory_checks import WithinFreeMemory
from gd_lightning.problems.problem import Problem, check_count, check_noise


@dataclass
class Parabola(Problem):
    """y = x^2 + 0.2 u on 100 points from -1 to 1, where u is uniform on [0, 1).

    Args:
        seed: The seed of the noise.
        noise: Width of the uniform noise, in units of y.
    """

    seed: int = 0
    noise: float = 0.2

    def __post_init__(self) -> None:
        check_noise(self.noise)

    def sample(self) -> tuple[Tensor, Tensor]:
        """Make x and y of shape (100, 1), float32."""
        x = torch.linspace(-1, 1, 100).view(-1, 1)
        return x, x**2 + self.noise * torch.rand(x.shape, generator=torch.Generator().manual_seed(int(self.seed)))

    def function(self, x: Tensor) -> Tensor:
        """Return x^2 plus the mean of the noise, which is not 0."""
        return x**2 + self.noise / 2

    @property
    def irreducible_loss(self) -> float:
        """Variance of the uniform noise, its width squared over 12."""
        return self.noise**2 / 12


@dataclass
class Sine(Problem):
    """y = sin(2 pi periods x) + noise, with x uniform on [-1, 1).

    Args:
        n_samples: N.
        periods: Number of periods in a unit of x.
        noise: Standard deviation of the Gaussian noise, in units of y.
        seed: The seed of x and the noise.
    """

    n_samples: int = 200
    periods: float = 0.5
    noise: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        check_count("n_samples", self.n_samples)
        check_noise(self.noise)

    def sample(self) -> tuple[Tensor, Tensor]:
        """Make x and y of shape (N, 1), float32."""
        generator = torch.Generator().manual_seed(int(self.seed))
        with WithinFreeMemory("sample Sine", "fewer samples", 3, "what they are made from"):
            x = 2 * torch.rand(self.n_samples, 1, generator=generator) - 1
        return x, self.function(x) + self.noise * torch.randn(x.shape, generator=generator)

    def function(self, x: Tensor) -> Tensor:
        """Return sin(2 pi periods x)."""
        return torch.sin(2 * math.pi * self.periods * x)

    @property
    def irreducible_loss(self) -> float:
        """Variance of the noise."""
        return self.noise**2
