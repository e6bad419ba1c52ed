"""What is trained: data, start, batches and learning rate, the same for all that are compared.

Letters: N samples, D features, B batch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gd_lightning import LinearRegressor, MLPRegressor, Problem, Variant
from gd_lightning.models import from_seed

SEED = 0  # of data and start


@functools.lru_cache(maxsize=1)
def draw(n_samples: int, n_features: int) -> tuple[Tensor, Tensor]:
    """Return standard normal features (N, D) and noisy targets (N, 1) of variance 1.01, float32."""
    generator = torch.Generator().manual_seed(SEED)
    x = torch.randn(n_samples, n_features, generator=generator)
    weight = torch.randn(n_features, 1, generator=generator)
    return x, x @ (weight / weight.norm()) + 0.1 * torch.randn(n_samples, 1, generator=generator)


@dataclass
class Drawn(Problem):
    """The first ``rows`` of :func:`draw`."""

    n_samples: int
    n_features: int
    rows: int

    def sample(self) -> tuple[Tensor, Tensor]:
        x, y = draw(self.n_samples, self.n_features)
        return x[: self.rows], y[: self.rows]


@dataclass(frozen=True)
class Case:
    """A run of gradient descent on the mean squared error, samples in their order.

    Args:
        n_samples: How many samples are drawn.
        n_features: D.
        batch_size: B.
        hidden: Widths of the hidden layers of an MLP with ReLU; none for a linear regressor.
        epochs: How often the samples are visited.
        rows: N, how many of the samples are trained on; None: all.
        optimizer: sgd or adam, with the defaults of torch.
    """

    n_samples: int
    n_features: int
    batch_size: int
    hidden: tuple[int, ...] = ()
    epochs: int = 1
    rows: int | None = None
    optimizer: str = "sgd"

    @property
    def name(self) -> str:
        optimizer = "" if self.optimizer == "sgd" else f", {self.optimizer.capitalize()}"
        if self.hidden:
            return "MLP " + "-".join(map(str, (self.n_features, *self.hidden, 1))) + optimizer
        return f"linear, D = {self.n_features:,}{optimizer}"

    @property
    def lr(self) -> float:
        """Far from any limit: a single sample's is about 1 / (D + 1), that of an MLP lower; Adam's is a step."""
        if self.optimizer == "adam":
            return 1e-3
        return (0.02 if self.hidden else 0.1) / (self.n_features + 1)

    @property
    def problem(self) -> Drawn:
        return Drawn(self.n_samples, self.n_features, self.rows or self.n_samples)

    @property
    def variant(self) -> Variant:
        return Variant(self.batch_size, self.problem.rows)

    @property
    def updates(self) -> int:
        return self.epochs * self.variant.updates_per_epoch

    def data(self) -> tuple[Tensor, Tensor]:
        return self.problem.sample()

    def network(self) -> nn.Module:
        """Return a new network at the start."""

        def make() -> nn.Module:
            if self.hidden:
                return MLPRegressor(self.n_features, 1, self.hidden)
            return LinearRegressor(self.n_features, 1)

        return from_seed(make, SEED)

    def first(self, updates: int) -> Case:
        """Return the run that ends behind so many updates: with fewer samples, or with fewer whole epochs."""
        if updates < self.variant.updates_per_epoch:
            return replace(self, epochs=1, rows=updates * self.batch_size)
        return replace(self, epochs=min(self.epochs, updates // self.variant.updates_per_epoch))


@dataclass(frozen=True)
class Run:
    """The results of a run.

    Args:
        seconds: How long training took, once everything was made and compiled.
        parameters: At the end, flat, in the order of torch; None of work that trains nothing.
        losses: Batch loss of every update, shape (updates,); None where a competitor does not tell.
    """

    seconds: float
    parameters: NDArray[np.float64] | None
    losses: NDArray[np.float64] | None = None


def flat(network: nn.Module) -> NDArray[np.float64]:
    """Return all parameters of a network."""
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()]).double().numpy()


Prepared = Callable[[], Run]  # everything is made and compiled; each call trains from the start


def every_case(case: Case) -> bool:
    """What a side without limits takes; it has a name, so that a side can be sent to another process."""
    return True


def torch_optimizer(case: Case, network: nn.Module) -> torch.optim.Optimizer:
    """Return torch's optimiser of a case."""
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[case.optimizer]
    made: torch.optim.Optimizer = kind(network.parameters(), lr=case.lr)
    return made


@dataclass(frozen=True)
class Side:
    """One of those that are compared.

    Args:
        name: What tables call it.
        prepare: Makes a case ready to train.
        package: What must be installed for it.
        fewest: Updates below which it would be another side.
        takes: Whether it can train a case.
    """

    name: str
    prepare: Callable[[Case], Prepared]
    package: str = "torch"
    takes: Callable[[Case], bool] = every_case
    fewest: int = 1

    @property
    def is_installed(self) -> bool:
        return find_spec(self.package) is not None
