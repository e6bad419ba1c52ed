"""The grid of a sweep: every combination of values of lr, batch size, momentum and penalties."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from gd_lightning.data import RegressionDataModule
from gd_lightning.errors import InputError
from gd_lightning.experiments.sweeps.ranges import BATCH_SIZES, LRS, Given, numbers, whole_numbers
from gd_lightning.module import RegressionModule, check_options
from gd_lightning.variants import Variant

_MOST_RUNS = 1_000_000


@dataclass(frozen=True)
class Grid:
    """The values of each axis, in ascending order, each once.

    Args:
        batch_size: Batch sizes, of at most N samples.
        lr: Learning rates.
        momentum: Values of the momentum.
        weight_decay: Values of the L2 penalty.
        l1: Values of the L1 penalty.

    Example:
        >>> grid = Grid((1, 100), (0.01, 0.1, 1.0))
        >>> grid.shape, grid.swept, str(grid)
        ((2, 3, 1, 1, 1), ['batch_size', 'lr'], '2 batch sizes x 3 learning rates')
    """

    batch_size: tuple[int, ...]
    lr: tuple[float, ...]
    momentum: tuple[float, ...] = (0.0,)
    weight_decay: tuple[float, ...] = (0.0,)
    l1: tuple[float, ...] = (0.0,)

    AXES: ClassVar[dict[str, str]] = {
        "batch_size": "batch size",
        "lr": "learning rate",
        "momentum": "momentum",
        "weight_decay": "weight decay",
        "l1": "l1 penalty",
    }
    """The axes in the order of all arrays, with their names in words."""

    @classmethod
    def of(
        cls, given: Mapping[str, Given | None], module: RegressionModule, data: RegressionDataModule, seeds: int
    ) -> Grid:
        """Return the grid for the values given by the user.

        Args:
            given: Values for some axes. Without values, learning rates and batch sizes have their default ranges, and
                other axes the value of module or data.
            module: The module, with the configured values.
            data: The data, with the configured values.
            seeds: Number of runs of each combination.

        Raises:
            InputError: Values cannot be parsed or used, or the number of runs is too large, or 1.
        """
        n = data.variant.train_samples
        sizes, lrs = (given.get(name) for name in ("batch_size", "lr"))
        others = {}
        for name in ("momentum", "weight_decay", "l1"):
            values = given.get(name)
            others[name] = tuple(numbers(f"{name}s", module.hparams[name] if values is None else values))
        grid = cls(
            tuple(whole_numbers("batch_sizes", BATCH_SIZES if sizes is None else sizes, n)),
            tuple(numbers("lrs", LRS if lrs is None else lrs)),
            **others,
        )
        grid._check(module, n, seeds)
        return grid

    def _check(self, module: RegressionModule, n: int, seeds: int) -> None:
        if seeds < 1:
            raise InputError(f"cannot sweep with {seeds} seeds; use 1 or more")
        for size in self.batch_size:
            Variant.of(size, n)
        for name in ("lr", "momentum", "weight_decay", "l1"):
            for value in getattr(self, name):
                check_options({**module.hparams, name: value})
        if self.cells * seeds > _MOST_RUNS:
            raise InputError(f"cannot sweep {self.cells * seeds:,} runs, {_MOST_RUNS:,} at most; give fewer values")
        if self.cells == 1:
            raise InputError(
                "cannot sweep a single combination; give several values of an option, such as --model.lr "
                "'log(1e-4,1,40)' or --data.batch_size 1,2,4,...,full (in Python lrs and batch_sizes)"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of values on each axis."""
        return tuple(len(getattr(self, name)) for name in self.AXES)

    @property
    def cells(self) -> int:
        """The number of combinations."""
        return math.prod(self.shape)

    @property
    def swept(self) -> list[str]:
        """The axes with several values."""
        return [name for name in self.AXES if len(getattr(self, name)) > 1]

    def __str__(self) -> str:
        parts = []
        for name in self.swept:
            count, words = len(getattr(self, name)), self.AXES[name]
            parts.append(f"{count} {words}s" if words.endswith(("size", "rate")) else f"{count} values of {words}")
        return " x ".join(parts)
