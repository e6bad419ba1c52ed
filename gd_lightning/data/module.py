"""The ``LightningDataModule``: a problem, split, and loaded in batches of the size that defines the algorithm.

Letters: N training samples, D features, K outputs.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gd_lightning.data.evaluation_batches import samples_at_once
from gd_lightning.data.loader import BatchLoader
from gd_lightning.data.order import ORDERS, Order
from gd_lightning.data.placement import device_of, model_of, placed
from gd_lightning.data.problem_data import ProblemDataModule
from gd_lightning.data.process_shares import process_of
from gd_lightning.data.samples import Samples
from gd_lightning.errors import InputError, first_line
from gd_lightning.lightning_internals import frame_without_callers, give_advice_on_workers, leave_out_advice_on_workers
from gd_lightning.models import Standardized, standardized_before
from gd_lightning.plain_numbers import as_python
from gd_lightning.problems import Names, Problem, ProblemLike, as_problem, problem_class
from gd_lightning.tracking.checkpoint_file import read_checkpoint
from gd_lightning.tracking.checkpoint_schema import check_checkpoint
from gd_lightning.variants import BatchSize, Variant

if not TYPE_CHECKING:  # noqa: SIM108  # a type checker reads no conditional expression
    # The parser of the command line makes a problem of a class; it would read imports below "if TYPE_CHECKING".
    _Problem = Problem
else:
    _Problem = ProblemLike

_OPTIONS = (
    *("batch_size", "order", "drop_last", "val_size", "test_size", "seed", "standardize", "micro_batch_size"),
)  # options that are saved in checkpoints, besides the problem


class RegressionDataModule(ProblemDataModule):
    """Regression data whose batch size is the algorithm.

    Args:
        problem: The problem, which generates or reads the data and may know the true function; a class name or class
            path. In Python also whatever :func:`~gd_lightning.as_problem` takes, such as a pair of arrays (x, y).
        batch_size: Samples per update over all devices: full (batch gradient descent), 1 (stochastic), or any
            number between (mini-batch).
        order: In which order an epoch visits the training samples: sequential (as given), shuffled (in each epoch),
            or with_replacement (independent draws).
        drop_last: Leave out the last batch of an epoch where it would be shorter than the others.
        val_size: Part of the data for validation, a fraction below 1 or a number of samples; null: the split that the
            problem itself prescribes, or none.
        test_size: Part of the data for test, a fraction below 1 or a number of samples.
        seed: Seed of the split and of the order.
        standardize: Bring each feature, and each target, to mean 0 and std 1, by statistics of the training set, in
            the first and the last layer of the model: features, targets, both (or true), or none (or false). Null: both
            for tables, arrays and frames, none for other problems. Losses, metrics, predictions and parameters are
            reported in original units. For a model without biases both are only scaled, to a mean square of 1: to
            centre features would force its prediction at their mean to be 0.
        micro_batch_size: The most samples that are on the device at once; never changes the mathematics. Null: large
            batches are split where that makes them faster.
        predict_inputs: A table with the columns of the features, for predict; null: the problem's own inputs.
        targets: The columns of a data frame to predict; None: the last one.
        features: The columns of a data frame to predict from; None: all others.

    Raises:
        InputError: The order is unknown, or a seed or a size is out of range; checks that need the data are made in
            ``setup``.

    Example:
        >>> from gd_lightning import RegressionDataModule, SteepLine
        >>> data = RegressionDataModule(SteepLine(), batch_size=16, val_size=20)
        >>> data.setup("fit")
        >>> print(data.variant)
        mini-batch gradient descent: batch_size 16 of 80 samples, 5 updates per epoch (5 x 16)
        >>> data.train_dataloader().batch_size
        16
    """

    numbers_at_once: int | None = None
    """Where ``micro_batch_size`` is null: how many numbers of a layer are computed at a time; None: by the device."""

    def __init__(
        self,
        problem: _Problem,
        batch_size: BatchSize = "full",
        order: Order = "shuffled",
        drop_last: bool = False,
        val_size: int | float | None = None,
        test_size: int | float = 0,
        seed: int = 0,
        standardize: Standardized | bool | None = None,
        micro_batch_size: int | None = None,
        predict_inputs: str | None = None,
        targets: Names | None = None,
        features: Names | None = None,
    ) -> None:
        problem = as_problem(problem, targets, features)
        given = as_python({name: value for name, value in locals().items() if name in _OPTIONS})
        super().__init__(
            problem, predict_inputs, *(given[name] for name in ("val_size", "test_size", "seed", "standardize"))
        )
        given["standardize"] = self.standardize
        _check_options(order, given["seed"], given["micro_batch_size"])
        self.batch_size: BatchSize = given["batch_size"]
        self.order: Order = order
        self.drop_last: bool = given["drop_last"]
        self.micro_batch_size: int | None = given["micro_batch_size"]
        self._limit_val_batches: int | float | None = None
        self._is_asked = standardize is not None
        class_path = f"{type(problem).__module__}.{type(problem).__qualname__}"
        saved = {"problem": {"class_path": class_path, "init_args": problem.hyperparameters()}}
        # The recorder writes TensorBoard's HParams tab, which has the results, too.
        self.save_hyperparameters(saved | given, logger=False, frame=frame_without_callers())

    def setup(self, stage: str = "fit") -> None:
        """Load, check and split the data, once.

        Raises:
            InputError: The data, the split or the batch size is invalid.
        """
        self.teardown(stage)  # an exception may have ended the last run before its teardown
        if self.trainer is not None:
            leave_out_advice_on_workers()  # the samples are in memory, or mapped: workers would only copy them
        if self._needs_new_inputs_only:
            return
        self._check_standardized()
        Variant.of(self.batch_size, len(self.train), self.drop_last)  # refuses a batch size that does not fit
        if stage == "fit" and self.trainer is not None and not self.held_out("validate"):
            # Without validation data there is nothing to validate on, and Lightning warns of an empty loader.
            self._limit_val_batches = self.trainer.limit_val_batches
            self.trainer.limit_val_batches = 0
        model: Any = model_of(self.trainer)
        if hasattr(model, "configure_for"):
            # The set-up of callbacks follows, which may copy, prune or freeze the network.
            model.configure_for(self)
        # Errors of the loaders are raised here: after an exception while Lightning fetches a loader, DataLoader stays
        # patched with methods that keep a reference to every attribute set.
        process_of(self.trainer)
        if stage == "fit":
            self._in_micro_batches()

    def teardown(self, stage: str) -> None:
        """Restore the Trainer's limit and Lightning's filters of advice, which :meth:`setup` changed."""
        give_advice_on_workers()
        if self._limit_val_batches is not None and self.trainer is not None:
            self.trainer.limit_val_batches, self._limit_val_batches = self._limit_val_batches, None

    def with_seed(self, seed: int) -> RegressionDataModule:
        """Return the same data with another seed of split and order.

        Without a random split, the copy shares the samples in memory.

        Args:
            seed: The other seed.
        """
        other = self._with("seed", seed)
        if self.splits_at_random:
            other._parts = {}
        return other

    def standardized(self) -> RegressionDataModule:
        """Return the same data with standardised features and targets."""
        return self._with("standardize", "both")

    def _with(self, name: str, value: Any) -> RegressionDataModule:
        other = copy.copy(self)
        other._hparams = copy.copy(self.hparams)
        setattr(other, name, value)
        other.hparams[name] = value
        return other

    @property
    def variant(self) -> Variant:
        """The variant of gradient descent: batch size, number of samples, updates per epoch."""
        return Variant.of(self.batch_size, len(self.train), self.drop_last)

    def train_dataloader(self) -> BatchLoader:
        """Return the loader whose ``batch_size`` is the variant's B.

        Raises:
            InputError: The Trainer would also split batches among processes, or the model lacks a standardising layer.
        """
        self._check_standardized()
        parts = self._at_once() if self._in_micro_batches() else None
        samples, process = placed(self.train, device_of(self.trainer)), process_of(self.trainer)
        return BatchLoader(samples, self.variant, self.order, self.seed, *process, micro_batch_size=parts)

    def val_dataloader(self) -> BatchLoader | list[Any]:
        """Return a loader over the validation samples in their order.

        Without held-out samples there is nothing to load while fitting, and ``Trainer.validate`` uses the training
        samples; see ``held_out``.
        """
        if self.held_out("validate"):
            return self._evaluation_loader(self.parts[1])
        fitting = self.trainer is None or self.trainer.state.fn == "fit"
        return [] if fitting else self._evaluation_loader(self.train)

    def test_dataloader(self) -> BatchLoader:
        """Return a loader over the test samples in their order, or the training samples where none are held out."""
        return self._evaluation_loader(self.parts[2] if self.held_out("test") else self.train)

    def predict_dataloader(self) -> DataLoader[Any]:
        """Return a loader over the inputs to predict at, as batches x of shape (B, D)."""
        x = self.prediction_inputs()
        batches = cast("Dataset[Tensor]", x.split(self._at_once()))  # a loader takes any sequence
        return DataLoader(batches, batch_size=None)

    def _evaluation_loader(self, samples: Samples) -> BatchLoader:
        self._check_standardized()
        variant = Variant(min(len(samples), self._at_once()), len(samples))
        rank, world_size = process_of(self.trainer)
        return BatchLoader(placed(samples, device_of(self.trainer)), variant, rank=rank, world_size=world_size)

    def _at_once(self) -> int:
        """Return the number of samples on the device at once."""
        if self.micro_batch_size is not None:
            return self.micro_batch_size
        return samples_at_once(self.trainer, self.in_features, self.out_features, self.numbers_at_once)

    def _in_micro_batches(self) -> bool:
        """Whether large batches are loaded as micro-batches.

        Raises:
            InputError: micro_batch_size is given, and the model does not support it.
        """
        model = model_of(self.trainer)
        obstacle = getattr(model, "needs_whole_batches", f"{type(model).__name__} is no RegressionModule")
        if obstacle and self.micro_batch_size is not None and model is not None:
            raise InputError(
                f"cannot train in parts of micro_batch_size {self.micro_batch_size}, because {obstacle}; leave "
                "micro_batch_size out"
            )
        return not obstacle

    def _check_standardized(self) -> None:
        """Refuse to train a model without standardising layers on data that ask for them; by default there are none."""
        model = model_of(self.trainer)
        if self.standardize == "none" or model is None or hasattr(model, "standardize"):
            return
        if not self._is_asked:
            self.standardize = self.hparams["standardize"] = "none"
            return
        raise InputError(
            f"cannot standardize for {type(model).__name__}, because only a RegressionModule takes the layer from "
            "the data; set standardize to none, and make Standardize.fit(lambda: [data.train.x]) the first layer "
            "of your network"
        )

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]  # fewer arguments: how it is loaded is not a choice
        cls, checkpoint_path: str | Path, **kwargs: Any
    ) -> RegressionDataModule:
        """Return the data module of a checkpoint, with its problem.

        Args:
            checkpoint_path: A checkpoint file; it is loaded as plain values and tensors only.
            kwargs: Arguments that replace saved ones; a ``problem`` given here is used instead of the saved one.

        Raises:
            InputError: The checkpoint cannot be read, or is damaged, or the saved problem is a class that has not been
                imported.
        """
        checkpoint = read_checkpoint(Path(checkpoint_path))
        check_checkpoint(checkpoint, Path(checkpoint_path))
        options = checkpoint.get(cls.CHECKPOINT_HYPER_PARAMS_KEY, {})
        if "standardize" in options:
            kwargs.setdefault("standardize", standardized_before(options["standardize"]))
        if "problem" not in kwargs:
            saved = options.get("problem")
            if saved is None:
                raise InputError(
                    f"cannot recreate the data, because {checkpoint_path} does not name the problem; give problem="
                )
            kwargs["problem"] = _problem_from(saved)
        loaded = super().load_from_checkpoint(checkpoint_path, weights_only=True, **kwargs)
        assert isinstance(loaded, cls)
        return loaded


def _check_options(order: str, seed: int, micro_batch_size: int | None) -> None:
    """Refuse options that are invalid for any data."""
    if order not in ORDERS:
        raise InputError(f"order {order!r} is unknown; use one of {', '.join(ORDERS)}")
    if not (isinstance(seed, int) and 0 <= seed < 2**63):
        raise InputError(f"cannot use the data seed {seed}; use a whole number from 0 to 2**63 - 1")
    if micro_batch_size is not None and not (isinstance(micro_batch_size, int) and 1 <= micro_batch_size < 2**63):
        raise InputError(f"cannot use {micro_batch_size} as micro_batch_size; use a whole number from 1, or null")


def _problem_from(saved: dict[str, Any]) -> Problem:
    """Return the problem of a checkpoint.

    Raises:
        InputError: The problem's class has not been imported, or does not accept the saved arguments.
    """
    cls = problem_class(saved["class_path"])
    if cls.holds_data:
        raise InputError(
            "cannot recreate the data, because checkpoints do not contain the arrays of a run; give problem="
        )
    try:
        return cls(**saved.get("init_args", {}))
    except TypeError as error:
        raise InputError(
            f"cannot recreate the data, because {cls.__name__} cannot be made from the checkpoint "
            f"({first_line(error)}); give problem="
        ) from error
