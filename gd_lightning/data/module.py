"""The ``LightningDataModule``: a problem, split, and loaded in the batches that make the algorithm.

Letters: N training samples, D features, K outputs.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gd_lightning.data.fingerprint import Fingerprint
from gd_lightning.data.loader import BatchLoader
from gd_lightning.data.order import ORDERS, Order
from gd_lightning.data.samples import Samples, check_split, draw_pair, in_precision, split_rows
from gd_lightning.errors import DataWarning, InputError, first_line
from gd_lightning.lightning_internals import injects_samplers
from gd_lightning.models import Standardize
from gd_lightning.problems import Problem, problem_class
from gd_lightning.tracking.checkpoint_file import read_checkpoint
from gd_lightning.tracking.checkpoint_schema import check_checkpoint
from gd_lightning.tracking.schema import is_plain
from gd_lightning.variants import BatchSize, Variant

# How many numbers of the widest layer are computed at a time, where micro_batch_size does not say it. On a CPU, parts
# that stay in its cache are several times faster than whole large batches; a GPU needs more to be busy.
_NUMBERS_AT_ONCE = {"cpu": 2**20, "cuda": 2**26}


class _Batches(Dataset[Tensor]):
    """Batches that are there already, one an item."""

    def __init__(self, batches: Sequence[Tensor]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Tensor:
        return self.batches[index]


class RegressionDataModule(LightningDataModule):
    """Regression data whose batch size is the algorithm.

    Args:
        problem: What makes the data and knows their truth; a class name or class path.
        batch_size: Samples per update over all devices: full (batch gradient descent), 1 (stochastic), or any
            number between (mini-batch).
        order: In which order an epoch visits the training samples: sequential (as given), shuffled (anew each epoch),
            or with_replacement (independent draws).
        drop_last: Leave out the last batch of an epoch where it would be shorter than the others.
        val_size: Part of the data for validation, a fraction below 1 or a number of samples; null: the split that the
            problem itself prescribes, or none.
        test_size: Part of the data for test, a fraction below 1 or a number of samples.
        seed: Seed of the split and of the order.
        standardize: Bring each feature to mean 0 and deviation 1, by statistics of the training set, as the first
            layer of the model; parameters are still reported in original units. Features of a model without biases are
            only scaled, to a mean square of 1: to centre them would force its prediction at their mean to be 0.
        micro_batch_size: The most samples that are on the device at once; never changes the mathematics. Null: large
            batches are split where that makes them faster.
        predict_inputs: A table with the columns of the features, for predict; null: the problem's own inputs.

    Raises:
        InputError: The order is unknown, or a seed or a size is out of its range; what depends on the data is refused
            in ``setup``.

    Example:
        >>> from gd_lightning import RegressionDataModule, SteepLine
        >>> data = RegressionDataModule(SteepLine(), batch_size=16, val_size=20)
        >>> data.setup("fit")
        >>> print(data.variant)
        mini-batch gradient descent: batch_size 16 of 80 samples, 5 updates per epoch (5 x 16)
        >>> data.train_dataloader().batch_size
        16
    """

    def __init__(
        self,
        problem: Problem,
        batch_size: BatchSize = "full",
        order: Order = "shuffled",
        drop_last: bool = False,
        val_size: int | float | None = None,
        test_size: int | float = 0,
        seed: int = 0,
        standardize: bool = False,
        micro_batch_size: int | None = None,
        predict_inputs: str | None = None,
    ) -> None:
        super().__init__()
        if order not in ORDERS:
            raise InputError(f"order {order!r} is unknown; use one of {', '.join(ORDERS)}")
        if not 0 <= seed < 2**63:
            raise InputError(f"data seed {seed} is no seed; use a whole number from 0 to 2**63 - 1")
        if micro_batch_size is not None and micro_batch_size < 1:
            raise InputError(
                f"micro_batch_size {micro_batch_size} is no number of samples; use a whole number from 1, or null"
            )
        self.problem = problem
        self.batch_size: BatchSize = batch_size
        self.order: Order = order
        self.drop_last = drop_last
        self.val_size = val_size
        self.test_size = test_size
        self.seed = seed
        self.standardize = standardize
        self.micro_batch_size = micro_batch_size
        self.predict_inputs = predict_inputs
        self._parts: dict[tuple[torch.dtype, bool], tuple[Samples, Samples, Samples]] = {}
        self._fingerprint: Fingerprint | None = None
        self._fingerprint_of_run: Fingerprint | None = None
        self._limit_val_batches: int | float | None = None
        made_by = {"class_path": f"{type(problem).__module__}.{type(problem).__qualname__}"}
        self.save_hyperparameters(
            {
                "problem": {**made_by, "init_args": problem.hyperparameters()},
                "batch_size": batch_size,
                "order": order,
                "drop_last": drop_last,
                "val_size": val_size,
                "test_size": test_size,
                "seed": seed,
                "standardize": standardize,
                "micro_batch_size": micro_batch_size,
            },
            logger=False,  # the recorder fills TensorBoard's HParams tab, with the results beside them
        )

    def setup(self, stage: str = "fit") -> None:
        """Make, check and split the data, once.

        Raises:
            InputError: The data, the split or the batch size cannot be used.
        """
        self.teardown(stage)  # an exception may have ended the last run before its own
        if self._needs_new_inputs_only:
            return
        held_out = self.held_out("validate")
        if stage == "fit" and self.trainer is not None and not held_out:
            # Without validation data there is nothing to validate on, and Lightning warns of an empty loader.
            self._limit_val_batches = self.trainer.limit_val_batches
            self.trainer.limit_val_batches = 0
        model: Any = None if self.trainer is None else self.trainer.lightning_module
        if hasattr(model, "configure_for"):
            # Callbacks have their set-up next: to copy the network, to prune it or to freeze a part of it.
            model.configure_for(self)
        # All that the loaders refuse is refused here: of an exception that rises while it fetches a loader, Lightning
        # leaves DataLoader with methods that keep each attribute that is ever set on one.
        self._check_standardized()
        self._process()
        if stage == "fit":
            self._in_micro_batches()

    def teardown(self, stage: str) -> None:
        """Give the Trainer back the limit that :meth:`setup` set."""
        if self._limit_val_batches is not None and self.trainer is not None:
            self.trainer.limit_val_batches, self._limit_val_batches = self._limit_val_batches, None

    def _make_parts(self, dtype: torch.dtype, full_x: bool) -> tuple[Samples, Samples, Samples]:
        samples = self._draw(dtype, full_x)
        if samples.lost_digits:
            rank_zero_warn(samples.lost_digits, category=DataWarning)
        prescribed = self.problem.split() if self.val_size is None else None
        if prescribed is not None and self.test_size:
            raise InputError(
                f"cannot hold out test_size {self.test_size} from {type(self.problem).__name__}, because it prescribes "
                "its own split; give val_size too, to split anew"
            )
        none = torch.empty(0, dtype=torch.long)
        if prescribed is not None:
            check_split(type(self.problem).__name__, prescribed, len(samples))
            train, val, test = samples.subset(prescribed[0]), samples.subset(prescribed[1]), samples.subset(none)
        elif self.val_size or self.test_size:
            rows = split_rows(len(samples), self.val_size or 0, self.test_size, self.seed)
            train, val, test = samples.subset(rows[0]), samples.subset(rows[1]), samples.subset(rows[2])
        else:
            train, val, test = samples, samples.subset(none), samples.subset(none)
        Variant.of(self.batch_size, len(train), self.drop_last)  # refuses a batch size that does not fit
        return train, val, test

    def _draw(self, dtype: torch.dtype, full_x: bool) -> Samples:
        """Make the data, and refuse others than those of the run that is continued or judged."""
        x, y = draw_pair(self.problem)
        self._fingerprint = Fingerprint.of(x, y, exact=self.problem.is_read)
        self._refuse_other_data()
        return in_precision(self.problem, x, y, dtype, full_x)

    def _refuse_other_data(self) -> None:
        """Refuse data that are not those that a run was trained on.

        Raises:
            InputError: They differ.
        """
        if self._fingerprint is None or self._fingerprint_of_run is None:
            return
        names = None if self.column_names is None else [*self.column_names[0], *self.column_names[1]]
        if difference := self._fingerprint.difference(self._fingerprint_of_run, names):
            raise InputError(
                f"cannot use {self.problem.label} with this checkpoint, because {difference}; begin a new run without "
                "the checkpoint, or predict new rows with predict_inputs"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return what the run has to find again: the columns by name, and the fingerprint of the data."""
        fingerprint = self._fingerprint or self._fingerprint_of_run
        if fingerprint is None:
            return {}
        features, targets = self.column_names or (None, None)
        names = {"features": features, "targets": targets}
        return {"problem": self.hparams["problem"], **names, **fingerprint.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the columns of a run by name; where the problem is that of the run, the data have to be the same.

        Raises:
            InputError: The data have been read, and differ.
        """
        state_dict = state_dict if isinstance(state_dict, dict) else {}  # a damaged checkpoint may hold anything
        features: Any = state_dict.get("features")
        targets: Any = state_dict.get("targets")
        if _are_names(features) and _are_names(targets):
            self.take_columns(features, targets)
        problem = state_dict.get("problem")
        is_same = is_plain(problem) and problem == self.hparams["problem"]
        self._fingerprint_of_run = Fingerprint.from_state_dict(state_dict) if is_same else None
        self._refuse_other_data()

    @property
    def column_names(self) -> tuple[list[str], list[str]] | None:
        """Names of features and targets, where the problem has them."""
        features, targets = self.problem.feature_names, self.problem.target_names
        return None if features is None or targets is None else (list(features), list(targets))

    def take_columns(self, features: Sequence[str], targets: Sequence[str]) -> None:
        """Take the columns of a table by their names, in the order of the trained weights; data that are read go."""
        names = None if self._fingerprint is None else self.column_names
        self.problem = self.problem.by_names(features, targets)
        if names is not None and names != self.column_names:
            self._parts, self._fingerprint = {}, None

    def take_row_numbers(self) -> None:
        """Take columns that number the rows, too, as a run did whose checkpoint has no names; data that are read go."""
        self.problem, self._parts, self._fingerprint = self.problem.with_row_numbers(), {}, None

    @property
    def _needs_new_inputs_only(self) -> bool:
        """Whether this is a prediction for other inputs than the problem's own, which need not be there any more."""
        return self.predict_inputs is not None and self.trainer is not None and self.trainer.state.fn == "predict"

    def _dtype(self) -> torch.dtype:
        if self.trainer is None:
            return torch.get_default_dtype()
        return torch.float64 if self.trainer.precision == "64-true" else torch.float32

    @property
    def parts(self) -> tuple[Samples, Samples, Samples]:
        """The samples for training, validation and test; the latter two may be empty."""
        return self._parts_in(self._dtype())

    def _parts_in(self, dtype: torch.dtype) -> tuple[Samples, Samples, Samples]:
        key = dtype, self._has_full_x()
        if key not in self._parts:
            self._parts[key] = self._make_parts(*key)
        return self._parts[key]

    def _has_full_x(self) -> bool:
        """Whether features come in float64 where the data have it: what standardises them brings them to the precision.

        Data that do not standardise may be given to a model that does, from other data.
        """
        model = None if self.trainer is None else self.trainer.lightning_module
        is_standardized = self.standardize or getattr(model, "standardize", None) is not None
        return is_standardized and self._device().type != "mps"  # which has no float64

    def with_seed(self, seed: int) -> RegressionDataModule:
        """Return the same data with another seed of split and order.

        Samples that no split shares out are the same in memory, too.
        """
        other = copy.copy(self)
        other.seed, other._hparams = seed, copy.copy(self.hparams)
        other.hparams["seed"] = seed
        if self.splits_at_random:
            other._parts = {}
        return other

    def standardized(self) -> RegressionDataModule:
        """Return the same data with the option ``standardize``."""
        other = copy.copy(self)
        other.standardize, other._hparams = True, copy.copy(self.hparams)
        other.hparams["standardize"] = True
        return other

    @property
    def splits_at_random(self) -> bool:
        """Whether the seed decides which samples are held out."""
        return bool(self.val_size or self.test_size)

    @property
    def variant(self) -> Variant:
        """What the batch size means for the training set: the algorithm and its bookkeeping."""
        return Variant.of(self.batch_size, len(self.train), self.drop_last)

    @property
    def train(self) -> Samples:
        """The training samples; ``train.x`` (N, D) and ``train.y`` (N, K) are in original units."""
        return self.parts[0]

    def train_in(self, dtype: torch.dtype) -> Samples:
        """Return the training samples in a precision, whatever that of the run."""
        return self._parts_in(dtype)[0]

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
        """Return the layer that standardises features by the statistics of the training set, or None if not wanted.

        Nor is there one where only other inputs are predicted: the checkpoint has it.

        Args:
            centred: Whether the means are subtracted; not for a model without biases.
        """
        if not self.standardize or self._needs_new_inputs_only:
            return None
        return Standardize.fit(lambda: (x for x, _ in self.train.pieces()), centred)

    def train_dataloader(self) -> BatchLoader:
        """Return the loader whose ``batch_size`` is the variant's B.

        Raises:
            InputError: The Trainer would split batches among processes a second time, or the model would not
                standardise.
        """
        self._check_standardized()
        parts = self._at_once() if self._in_micro_batches() else None
        return BatchLoader(
            self._placed(self.train), self.variant, self.order, self.seed, *self._process(), micro_batch_size=parts
        )

    def val_dataloader(self) -> BatchLoader | list[Any]:
        """Return a loader over the validation samples in their order.

        Where none are held out there is nothing to load while fitting, and ``Trainer.validate`` judges the training
        samples; :meth:`held_out` tells.
        """
        if self.held_out("validate"):
            return self._evaluation_loader(self.parts[1])
        fitting = self.trainer is None or self.trainer.state.fn == "fit"
        return [] if fitting else self._evaluation_loader(self.train)

    def test_dataloader(self) -> BatchLoader:
        """Return a loader over the test samples in their order, or the training samples where none are held out."""
        return self._evaluation_loader(self.parts[2] if self.held_out("test") else self.train)

    def held_out(self, stage: Literal["validate", "test"]) -> int:
        """Return the number of samples that were kept from training for a stage."""
        return len(self.parts[1 if stage == "validate" else 2])

    def predict_dataloader(self) -> DataLoader[Any]:
        """Return a loader over the inputs to predict at, as batches x of shape (B, D)."""
        x = self.prediction_inputs()
        return DataLoader(_Batches(x.split(self._at_once())), batch_size=None)

    def prediction_inputs(self) -> Tensor:
        """Return the inputs to predict at, shape (N, D): the table given, else the problem's own.

        Raises:
            InputError: The file cannot be read, lacks a feature, or has a row that is not finite in this precision.
        """
        if self.predict_inputs is None:
            return self._draw(self._dtype(), self._has_full_x()).x
        x, dtype = self.problem.read_inputs(Path(self.predict_inputs)), self._dtype()
        x = x.to(torch.promote_types(x.dtype, dtype) if self._has_full_x() else dtype)
        finite = torch.isfinite(x).all(dim=1)
        if not finite.all():
            row = int((~finite).nonzero()[0]) + 1
            raise InputError(
                f"cannot predict on {self.predict_inputs}, because row {row} of the data is not finite in {dtype}; "
                "correct it, or leave it out"
            )
        return x

    def prediction_targets(self) -> Tensor | None:
        """Return the targets at the inputs to predict at, shape (N, K), where they are the problem's own."""
        return self._draw(self._dtype(), self._has_full_x()).y if self.predict_inputs is None else None

    def _evaluation_loader(self, samples: Samples) -> BatchLoader:
        self._check_standardized()
        variant = Variant(min(len(samples), self._at_once()), len(samples))
        rank, world_size = self._process()
        return BatchLoader(self._placed(samples), variant, rank=rank, world_size=world_size)

    def _at_once(self) -> int:
        """Return how many samples are on the device at once."""
        if self.micro_batch_size is not None:
            return self.micro_batch_size
        model = None if self.trainer is None else self.trainer.lightning_module
        shapes = [] if model is None else [parameter.shape for parameter in model.parameters()]
        widest = max([self.in_features, self.out_features, *(size for shape in shapes for size in shape)])
        return max(1, _NUMBERS_AT_ONCE.get(self._device().type, _NUMBERS_AT_ONCE["cuda"]) // widest)

    def _in_micro_batches(self) -> bool:
        """Whether large batches come in parts.

        Raises:
            InputError: micro_batch_size is given, and the model cannot take parts.
        """
        model = None if self.trainer is None else self.trainer.lightning_module
        obstacle = getattr(model, "needs_whole_batches", f"{type(model).__name__} is no RegressionModule")
        if obstacle and self.micro_batch_size is not None and model is not None:
            raise InputError(
                f"cannot train in parts of micro_batch_size {self.micro_batch_size}, because {obstacle}; leave "
                "micro_batch_size out"
            )
        return not obstacle

    def _check_standardized(self) -> None:
        """The layer that standardises is the model's, so a model without one may not train on such data."""
        model = None if self.trainer is None else self.trainer.lightning_module
        if self.standardize and model is not None and not hasattr(model, "standardize"):
            raise InputError(
                f"cannot standardize for {type(model).__name__}, because only a RegressionModule takes the layer from "
                "the data; set standardize to false, and make Standardize.fit(lambda: [data.train.x]) the first layer "
                "of your network"
            )

    def _process(self) -> tuple[int, int]:
        """Return which process this is, and how many there are."""
        trainer = self.trainer
        if trainer is None or trainer.world_size == 1:
            return 0, 1
        if injects_samplers(trainer):
            raise InputError(
                f"cannot share batches among {trainer.world_size} processes while Lightning shards them a second time; "
                "give Trainer(use_distributed_sampler=False)"
            )
        return trainer.global_rank, trainer.world_size

    def _placed(self, samples: Samples) -> Samples:
        """Move samples to the training device where they fit in half of its free memory; else batches travel."""
        device = self._device()
        if device.type == "cuda" and samples.nbytes > torch.cuda.mem_get_info(device)[0] / 2:
            return samples
        return samples.to(device)

    def _device(self) -> torch.device:
        return torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]  # fewer arguments: how it is loaded is no choice
        cls, checkpoint_path: str | Path, **kwargs: Any
    ) -> RegressionDataModule:
        """Make the data module of a checkpoint again, its problem too, without arguments.

        Args:
            checkpoint_path: A checkpoint file; it is loaded as plain values and tensors only.
            kwargs: Arguments that replace saved ones; a ``problem`` given here is used instead of the saved one.

        Raises:
            InputError: The checkpoint cannot be read, or is damaged, or the saved problem is a class that has not been
                imported.
        """
        checkpoint = read_checkpoint(Path(checkpoint_path))
        check_checkpoint(checkpoint, Path(checkpoint_path))
        if "problem" not in kwargs:
            saved = checkpoint.get(cls.CHECKPOINT_HYPER_PARAMS_KEY, {}).get("problem")
            if saved is None:
                raise InputError(
                    f"cannot make the data again, because {checkpoint_path} does not name the problem; give problem="
                )
            kwargs["problem"] = _problem_from(saved)
        loaded = super().load_from_checkpoint(checkpoint_path, weights_only=True, **kwargs)
        assert isinstance(loaded, cls)
        return loaded


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(name, str) for name in value)


def _problem_from(saved: dict[str, Any]) -> Problem:
    """Make the problem of a checkpoint again.

    Raises:
        InputError: Its class has not been imported, or takes no such arguments.
    """
    cls = problem_class(saved["class_path"])
    try:
        return cls(**saved.get("init_args", {}))
    except TypeError as error:
        raise InputError(
            f"cannot make the data again, because {cls.__name__} cannot be made with what the checkpoint holds "
            f"({first_line(error)}); give problem="
        ) from error
