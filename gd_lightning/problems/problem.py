"""The base class of problems: regression data, and the true function if known.

Letters: N samples, D features, K outputs.
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from gd_lightning.affine import Affine
from gd_lightning.errors import InputError
from gd_lightning.plain_numbers import as_python

_TOO_MANY = 2**40


class Problem(ABC):
    """Base class of problems, which generate or read regression data and may know the true function.

    A problem of your own needs one method, :meth:`sample`, and keeps each argument of its constructor as an
    attribute of the same name (a dataclass does); everything else it may know is optional. It then serves in
    Python, and from the command line by its class path::

        @dataclass
        class Cubic(Problem):
            seed: int = 0

            def sample(self) -> tuple[Tensor, Tensor]:
                x = torch.rand(200, 1, generator=torch.Generator().manual_seed(self.seed))
                return x, x**3
    """

    # Not annotated: jsonargparse looks the names of an annotation up in the module of each subclass, and if one is
    # missing, it accepts any value for the problem's own arguments.
    holds_data = False
    """Whether the data themselves are among the arguments of the constructor, and so in no checkpoint."""
    is_read = False
    """Whether the values of :meth:`sample` are read, not computed: they have the same bits on every machine.

    They come in any units, and are standardised where nothing else is said; what is computed is not."""

    @abstractmethod
    def sample(self) -> tuple[Tensor, Tensor]:
        """Return the data, the same at each call, without touching the global random generators.

        Returns:
            x of shape (N, D) and y of shape (N, K), both float32 or float64.
        """

    def function(self, x: Tensor) -> Tensor | None:
        """Return the expected target at x without noise, E[y | x], or None if unknown.

        Args:
            x: Shape (N, D).

        Returns:
            Shape (N, K), or None.
        """
        return None if self.true_parameters is None else self.true_parameters(x)

    @property
    def true_parameters(self) -> Affine | None:
        """The parameters of :meth:`function` where it is affine and known."""
        return None

    @property
    def irreducible_loss(self) -> float | None:
        """Expected mean squared error of :meth:`function`, the variance of the noise, or None if not known."""
        return None

    @property
    def start(self) -> Affine | None:
        """The initial parameters of a published protocol for this problem, for linear regressors."""
        return None

    def split(self) -> tuple[Tensor, Tensor] | None:
        """Return the rows for training and for validation where a published protocol fixes them, else None."""
        return None

    @property
    def mapped(self) -> bool:
        """Whether the tensors of :meth:`sample` are mapped from a file that may be larger than memory.

        Such tensors are then converted, split and moved to the device a piece at a time.
        """
        return False

    def check_source(self) -> None:
        """Check that the file from which :meth:`sample` maps its tensors can still be read; called before each read.

        Raises:
            OSError: The file cannot be read.
        """
        return

    @property
    def label(self) -> str:
        """The name of the data in messages."""
        return f"the data of {type(self).__name__}"

    @property
    def description(self) -> str:
        """A line on the rows and columns that were read, and how they are used; "" if none were."""
        return ""

    def by_names(self, features: Sequence[str], targets: Sequence[str]) -> Problem:
        """Return this problem with the columns that a run was trained on, by name; only a table has columns.

        Args:
            features: Names of the D features, in the order of the trained weights.
            targets: Names of the K targets.
        """
        return self

    def columns_state(self) -> dict[str, Any]:
        """Return how columns of a table or a frame become features and targets, as plain values for a checkpoint.

        It is empty for a problem without such columns, and before they are read.
        """
        return {}

    def with_columns_state(self, state: Any) -> Problem:
        """Return this problem with the columns of a checkpoint; itself if there are none.

        Args:
            state: The result of :meth:`columns_state`, or anything else in a damaged checkpoint.
        """
        return self

    def with_row_numbers(self) -> Problem:
        """Return this problem with the columns that only number its rows, which only a table can have."""
        return self

    @property
    def feature_names(self) -> Sequence[str] | None:
        """Names of the D features, or None."""
        return None

    @property
    def target_names(self) -> Sequence[str] | None:
        """Names of the K targets, or None."""
        return None

    def rows_as_given(self, path: str | Path | None = None) -> Iterator[tuple[Sequence[object], bool]] | None:
        """Return the rows of a table with the cells as given; None if there is no table.

        Args:
            path: Another table with the columns of the features; None: that of this problem.

        Returns:
            The names of all columns; then each row, and whether it is used.
        """
        return None

    def read_inputs(self, path: str | Path) -> Tensor:
        """Read features, shape (N, D), for predictions on new inputs; only a table knows how to.

        Args:
            path: Path of the file.

        Raises:
            InputError: This problem has no named columns.
        """
        raise InputError(
            f"cannot predict on {path}, because {type(self).__name__} is not a table; give a Table problem"
        )

    def hyperparameters(self) -> dict[str, Any]:
        """Return the constructor arguments of this problem as plain values, by name.

        Raises:
            InputError: An argument is not kept as an attribute, or is not a plain value.
        """
        name = type(self).__name__
        values = {}
        for argument in inspect.signature(type(self)).parameters:
            if not hasattr(self, argument):
                raise InputError(
                    f"cannot save how {name} was made, because its argument {argument!r} is not kept; "
                    f"set self.{argument} in its constructor"
                )
            values[argument] = _plain(getattr(self, argument), f"{name}.{argument}")
        return values


def check_noise(noise: float) -> None:
    """Refuse an invalid standard deviation of the noise.

    Raises:
        InputError: The value is below 0, infinite or nan.
    """
    if not 0 <= noise < math.inf:
        raise InputError(f"cannot use noise {noise} as a standard deviation; use 0 or more")


def check_count(name: str, count: int) -> None:
    """Refuse an invalid or too large number of samples, features or targets.

    Raises:
        InputError: The number is below 1, or too large for a tensor's size.
    """
    if not 1 <= count < _TOO_MANY:
        raise InputError(
            f"cannot use {name} {count} as a number of rows or columns; use a whole number from 1 to {_TOO_MANY - 1}"
        )


def _plain(value: object, name: str) -> Any:
    """Return a value of types that every checkpoint reader can load: None, bool, int, float, str, list or dict."""
    value = as_python(value)
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item, name) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item, name) for key, item in value.items()}
    raise InputError(
        f"cannot save {name}, because {type(value).__name__} is not a plain value; "
        "use numbers, strings, lists and dicts as arguments"
    )


def problem_class(name: str) -> type[Problem]:
    """Return the problem class with this class path or name, among those already imported.

    Nothing is imported here, since a checkpoint, which may be untrusted, names its problem.

    Raises:
        InputError: No such class has been imported.
    """
    pending, found = [Problem], {}
    while pending:
        cls = pending.pop()
        pending.extend(cls.__subclasses__())
        found[f"{cls.__module__}.{cls.__qualname__}"] = cls
    for path, cls in found.items():
        if name in (path, cls.__qualname__) and not inspect.isabstract(cls):
            return cls
    raise InputError(
        f"cannot recreate the data, because the problem {name} has not been imported; import it, or give problem="
    )
