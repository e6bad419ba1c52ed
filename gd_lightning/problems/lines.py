"""The published problems with one feature and a straight line: a steep one, a noisy one, four points, exam scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gd_lightning.affine import Affine
from gd_lightning.problems.problem import Problem, check_noise


def line(w: float, b: float) -> Affine:
    """Return the function w x + b of one feature."""
    return Affine(torch.tensor([[w]], dtype=torch.float64), torch.tensor([b], dtype=torch.float64))


@dataclass
class SteepLine(Problem):
    """y = -5 x + noise on 100 points from -5 to 4.9, started at w = -10, b = -20.

    Batch gradient descent converges at the published lr 0.1; stochastic gradient descent diverges there, because
    single samples far from 0 have a curvature far above the mean.

    Args:
        seed: The seed of the noise.
        noise: Standard deviation of the noise, in units of y.
    """

    seed: int = 0
    noise: float = 0.4

    def __post_init__(self) -> None:
        check_noise(self.noise)

    def sample(self) -> tuple[Tensor, Tensor]:
        """Make x and y of shape (100, 1), float32."""
        x = torch.arange(-5, 5, 0.1).view(-1, 1)
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(int(self.seed)))
        return x, -5 * x + self.noise * noise

    @property
    def true_parameters(self) -> Affine:
        """The line y = -5 x."""
        return line(-5.0, 0.0)

    @property
    def irreducible_loss(self) -> float:
        """Variance of the noise."""
        return self.noise**2

    @property
    def start(self) -> Affine:
        """The published start, w = -10 and b = -20."""
        return line(-10.0, -20.0)


@dataclass
class NoisyLine(Problem):
    """y = 1 + 2 x + noise on 100 points of [0, 1), 80 to train and 20 to validate, from a random start.

    Data, split and start come from NumPy's legacy generator, as published, so that results have the published digits.

    Args:
        seed: Seed of the generator, for the data and again for the start.
        noise: Standard deviation of the noise, in units of y.
    """

    seed: int = 42
    noise: float = 0.1

    def __post_init__(self) -> None:
        check_noise(self.noise)

    def _draw(self) -> tuple[Tensor, Tensor, Tensor]:
        generator = np.random.RandomState(self.seed)
        x = generator.rand(100, 1)
        y = 1 + 2 * x + self.noise * generator.randn(100, 1)
        rows = np.arange(100)
        generator.shuffle(rows)
        return torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(rows)

    def sample(self) -> tuple[Tensor, Tensor]:
        """Make x and y of shape (100, 1), float64."""
        x, y, _ = self._draw()
        return x, y

    def split(self) -> tuple[Tensor, Tensor]:
        """Return 80 shuffled rows for training and the other 20 for validation."""
        rows = self._draw()[2]
        return rows[:80], rows[80:]

    @property
    def true_parameters(self) -> Affine:
        """The line y = 2 x + 1."""
        return line(2.0, 1.0)

    @property
    def irreducible_loss(self) -> float:
        """Variance of the noise."""
        return self.noise**2

    @property
    def start(self) -> Affine:
        """Two standard normal numbers from the same seed, b first."""
        generator = np.random.RandomState(self.seed)
        b, w = generator.randn(), generator.randn()
        return line(w, b)


@dataclass
class FourPoints(Problem):
    """The points (1, 2), (2, 4), (3, 6), (4, 8), started at w = b = 0."""

    def sample(self) -> tuple[Tensor, Tensor]:
        """Return x and y of shape (4, 1), float32."""
        return torch.tensor([[1.0], [2.0], [3.0], [4.0]]), torch.tensor([[2.0], [4.0], [6.0], [8.0]])

    @property
    def true_parameters(self) -> Affine:
        """The line y = 2 x."""
        return line(2.0, 0.0)

    @property
    def irreducible_loss(self) -> float:
        """The points lie on the line."""
        return 0.0

    @property
    def start(self) -> Affine:
        """The published start, w = b = 0."""
        return line(0.0, 0.0)


@dataclass
class ExamScores(Problem):
    """Scores of four students after 10, 20, 30 and 40 hours of study, started at the prediction 9 x + 350.

    That given prediction (440, 530, 620, 710) has mean squared error 2675; the least-squares line is 7.9 x + 400.
    """

    def sample(self) -> tuple[Tensor, Tensor]:
        """Return hours and scores, both of shape (4, 1), float32."""
        return torch.tensor([[10.0], [20.0], [30.0], [40.0]]), torch.tensor([[480.0], [520.0], [710.0], [680.0]])

    @property
    def start(self) -> Affine:
        """The given prediction, w = 9 and b = 350."""
        return line(9.0, 350.0)

    @property
    def feature_names(self) -> list[str]:
        """Hours."""
        return ["hours"]

    @property
    def target_names(self) -> list[str]:
        """Score."""
        return ["score"]
