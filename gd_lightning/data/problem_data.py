"""The base of the data module: the samples of a problem, split, and compared with those of a continued run.

Letters: N samples, D features, K outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from gd_lightning.data.fingerprint import Fingerprint
from gd_lightning.data.placement import device_of, loaded, model_of, precision_of
from gd_lightning.data.samples import Samples, draw_pair, in_precision, split_samples
from gd_lightning.errors import DataWarning, InputError
from gd_lightning.models import Standardize, Standardized, standardized_by
from gd_lightning.problems import Problem
from gd_lightning.tracking.schema import is_plain

Parts = tuple[Samples, Samples, Samples]


class ProblemDataModule(LightningDataModule):
    """The samples of a problem for training, validation and test, in the precision of a run.

    Args:
        problem: The problem that generates or reads the data.
        predict_inputs: A table with other inputs to predict at, if there is one.
        val_size: See :class:`~gd_lightning.RegressionDataModule`.
        test_size: See :class:`~gd_lightning.RegressionDataModule`.
        seed: Seed of the split.
        standardize: See :class:`~gd_lightning.RegressionDataModule`.
    """

    max_loaded_bytes: int | None = None
    """Of samples that are mapped from a file, the most that are loaded into memory; None: half of what is free."""

    def __init__(
        self,
        problem: Problem,
        predict_inputs: str | None,
        val_size: int | float | None,
        test_size: int | float,
        seed: int,
        standardize: Standardized | bool | None,
    ) -> None:
        super().__init__()
        self.problem = problem
        self.val_size, self.test_size, self.seed = val_size, test_size, seed
        self.standardize: Standardized = standardized_by(standardize, "both" if problem.is_read else "none")
        """What the model is to standardise."""
        self.predict_inputs = predict_inputs
        self._parts: dict[tuple[torch.dtype, bool, bool], Parts] = {}
        self._fingerprint: Fingerprint | None = None
        self._fingerprint_of_run: Fingerprint | None = None

    # The samples

    @property
    def parts(self) -> Parts:
        """The samples for training, validation and test; the latter two may be empty."""
        return self.parts_in(precision_of(self.trainer))

    def parts_in(self, dtype: torch.dtype) -> Parts:
        """Return the samples for training, validation and test in a given precision."""
        key = dtype, *_stay_in_float64(self)
        if key not in self._parts:
            samples = self._draw(*key)
            if samples.lost_digits:
                rank_zero_warn(samples.lost_digits, category=DataWarning)
            split = split_samples(self.problem, samples, self.val_size, self.test_size, self.seed)
            train, val, test = loaded(split, self.trainer, self.max_loaded_bytes)
            self._parts[key] = train, val, test
        return self._parts[key]

    @property
    def train(self) -> Samples:
        """The training samples; ``train.x`` (N, D) and ``train.y`` (N, K) are in original units."""
        return self.parts[0]

    def held_out(self, stage: Literal["validate", "test"]) -> int:
        """Return the number of samples held out for a stage."""
        return len(self.parts[1 if stage == "validate" else 2])

    @property
    def splits_at_random(self) -> bool:
        """Whether the seed decides which samples are held out."""
        return bool(self.val_size or self.test_size)

    def _draw(self, dtype: torch.dtype, full_x: bool, full_y: bool) -> Samples:
        """Load the data, and refuse data that differ from those of the continued or evaluated run."""
        x, y = draw_pair(self.problem)
        self._fingerprint = Fingerprint.of(x, y, exact=self.problem.is_read)
        _refuse_other_data(self)
        return in_precision(self.problem, x, y, dtype, full_x, full_y)

    @property
    def standardized_parts(self) -> frozenset[str]:
        """What the model is asked to standardise: features, targets, both or nothing."""
        both = frozenset(("features", "targets"))
        return both if self.standardize == "both" else both & {self.standardize}

    @property
    def in_features(self) -> int:
        """D."""
        names = self.problem.feature_names if self._needs_new_inputs_only else None
        return self.train.in_features if names is None else len(names)

    @property
    def out_features(self) -> int:
        """K."""
        names = self.problem.target_names if self._needs_new_inputs_only else None
        return self.train.out_features if names is None else len(names)

    def standardization(self, centred: bool = True) -> Standardize | None:
        """Return the layer that standardises features by the statistics of the training set, or None if not requested.

        It is also None if only other inputs are predicted, because the checkpoint has the layer.

        Args:
            centred: Whether the means are subtracted; not for a model without biases.
        """
        return _fitted_layer(self, "features", 0, centred)

    def standardization_of_targets(self, centred: bool = True) -> Standardize | None:
        """Return the layer that standardises targets, as :meth:`standardization` does for features."""
        return _fitted_layer(self, "targets", 1, centred)

    # Columns, and the data of a run

    @property
    def column_names(self) -> tuple[list[str], list[str]] | None:
        """Names of features and targets, where the problem has them."""
        features, targets = self.problem.feature_names, self.problem.target_names
        return None if features is None or targets is None else (list(features), list(targets))

    def take_columns(self, features: Sequence[str], targets: Sequence[str], state: Any = None) -> None:
        """Select the columns of a table by name, in the order of the trained weights; loaded data are discarded.

        Args:
            features: Names of the features.
            targets: Names of the targets.
            state: How columns become features and targets, where the checkpoint says so.
        """
        names = None if self._fingerprint is None else self.column_names
        self.problem = self.problem.with_columns_state(state).by_names(features, targets)
        if names is not None and names != self.column_names:
            self._parts, self._fingerprint = {}, None

    def take_row_numbers(self) -> None:
        """Include row-number columns, as a run without names in its checkpoint did; loaded data are discarded."""
        self.problem, self._parts, self._fingerprint = self.problem.with_row_numbers(), {}, None

    @property
    def _needs_new_inputs_only(self) -> bool:
        """Whether only other inputs are predicted, so that the problem's own data are not needed."""
        return self.predict_inputs is not None and self.trainer is not None and self.trainer.state.fn == "predict"

    def state_dict(self) -> dict[str, Any]:
        """Return the names of the columns, and the fingerprint of the data, for a checkpoint."""
        fingerprint = self._fingerprint or self._fingerprint_of_run
        if fingerprint is None:
            return {}
        features, targets = self.column_names or (None, None)
        names = {"features": features, "targets": targets, "columns": self.problem.columns_state()}
        return {"problem": self.hparams["problem"], **names, **fingerprint.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Select the columns of a run by name; if the problem is that of the run, the data must be the same.

        Raises:
            InputError: The data are loaded already, and differ.
        """
        state_dict = state_dict if isinstance(state_dict, dict) else {}  # a damaged checkpoint may contain anything
        features: Any = state_dict.get("features")
        targets: Any = state_dict.get("targets")
        if _are_names(features) and _are_names(targets):
            self.take_columns(features, targets, state_dict.get("columns"))
        problem = state_dict.get("problem")
        is_same = is_plain(problem) and problem == self.hparams["problem"]
        self._fingerprint_of_run = Fingerprint.from_state_dict(state_dict) if is_same else None
        _refuse_other_data(self)

    # Inputs to predict at

    def prediction_inputs(self) -> Tensor:
        """Return the inputs to predict at, shape (N, D): the table given, else the problem's own.

        Raises:
            InputError: The file cannot be read, lacks a feature, or has a row that is not finite in this precision.
        """
        if self.predict_inputs is None:
            return self._draw(precision_of(self.trainer), *_stay_in_float64(self)).x
        x, dtype = self.problem.read_inputs(Path(self.predict_inputs)), precision_of(self.trainer)
        x = x.to(torch.promote_types(x.dtype, dtype) if _stay_in_float64(self)[0] else dtype)
        finite = torch.isfinite(x).all(dim=1)
        if not finite.all():
            row = int((~finite).nonzero()[0]) + 1
            raise InputError(
                f"cannot predict on {self.predict_inputs}, because row {row} of the data is not finite in {dtype}; "
                "correct it, or leave it out"
            )
        return x

    def prediction_targets(self) -> Tensor | None:
        """Return the targets of the inputs to predict at, shape (N, K); None for other inputs than the problem's."""
        return (
            self._draw(precision_of(self.trainer), *_stay_in_float64(self)).y if self.predict_inputs is None else None
        )


def _refuse_other_data(data: ProblemDataModule) -> None:
    """Refuse data other than those that a run was trained on, if both are known."""
    now, before, names = data._fingerprint, data._fingerprint_of_run, data.column_names
    if now is None or before is None:
        return
    if difference := now.difference(before, None if names is None else [*names[0], *names[1]]):
        raise InputError(
            f"cannot use {data.problem.label} with this checkpoint, because {difference}; begin a new run without the "
            "checkpoint, or predict new rows with predict_inputs"
        )


def _stay_in_float64(data: ProblemDataModule) -> tuple[bool, bool]:
    """Whether float64 features, and targets, stay in float64, because a standardising layer converts them.

    A model with a standardising layer may also be given data without the option ``standardize``.
    """
    model, has_float64 = model_of(data.trainer), device_of(data.trainer).type != "mps"
    x, y = (
        has_float64 and (part in data.standardized_parts or getattr(model, layer, None) is not None)
        for part, layer in (("features", "standardize"), ("targets", "standardize_targets"))
    )
    return x, y


def _fitted_layer(data: ProblemDataModule, part: str, place: int, centred: bool) -> Standardize | None:
    if part not in data.standardized_parts or data._needs_new_inputs_only:
        return None
    return Standardize.fit(lambda: (pair[place] for pair in data.train.pieces()), centred)


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(name, str) for name in value)
