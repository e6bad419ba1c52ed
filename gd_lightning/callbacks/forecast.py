"""The train loss that theory predicts for a run, computed before its first update and drawn beside the measured one.

Letters: N samples, C columns of the design.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial, reduce
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray
from torch import Tensor

from gd_lightning.affine import Affine
from gd_lightning.callbacks.divergence_cause import KeptWeights, cause_in_curvature
from gd_lightning.callbacks.history_columns import Measuring
from gd_lightning.callbacks.predicted_averages import AverageOfRun
from gd_lightning.callbacks.trainer_info import learning_rate, most_epochs, problem_of
from gd_lightning.data import BatchLoader, Samples
from gd_lightning.engine import ChunkRequest
from gd_lightning.errors import InputError
from gd_lightning.float64 import NOT_COMPUTABLE, Moments
from gd_lightning.models import LinearRegressor, MLPRegressor
from gd_lightning.module import RegressionModule, predictor_of, quadratic_network
from gd_lightning.problems import Problem
from gd_lightning.records.history import PREDICTED
from gd_lightning.shared_results import content_of, shared
from gd_lightning.theory import OutcomePredictor, PredictedOutcome, Verdict, advice, in_words, seconds_to_predict
from gd_lightning.theory.advice import STANDARDIZE
from gd_lightning.threads import one_thread_if
from gd_lightning.variants import Variant

# A forecast takes at most as long as the training, but is allowed a minimum, and has an upper limit.
_UNNOTICED, _LONGEST, _LONGEST_TO_EXPLAIN = 0.5, 5.0, 10.0  # seconds
_MOST_SEQUENTIAL = 2e6  # largest N times C for which the sequential order is followed sample by sample
_MOST_UPDATES = 20_000  # largest number of updates in an epoch that is followed update by update
_FIRST_EPOCHS = 64
# Seconds of an update with its own learning rate; maximum number of epochs with such updates.
_SECONDS_FOLLOWED, _FOLLOWED = 3e-5, 1024
_LAST_EPOCHS, _SETTLED = 100, 1e-13  # epochs over which a prediction with a smaller relative change is constant
_FAR = 10.0  # the root mean square of a feature that can make a run diverge: the curvature grows with its square
_RECORD = "gd_lightning_forecast"  # a key of checkpoints


class Forecast(Measuring):
    """Predicts the train loss of a linear regressor, and warns if its learning rate is above the stability limit.

    The prediction is computed by ``gd_lightning.theory`` before the first update; it is exact for batch gradient
    descent and for samples in sequential order, and an expected value otherwise. With a
    :class:`~gd_lightning.HistoryRecorder` it is recorded as ``train_loss_predicted``, at the ends of epochs, and a
    diverged run is reported with cause and remedy. Training is not affected. With Lightning's ``WeightAveraging``, the
    train loss of the average at the end is predicted, too, as ``averaged_loss_predicted`` of the summary.

    It holds for linear regressors, the mean squared error and SGD at a constant learning rate, on the data of a
    :class:`~gd_lightning.RegressionDataModule`; elsewhere it only names a feature or target that is far from
    standardised, at the start and as a likely cause of divergence. A forecast that would take longer than the training,
    or than 5 seconds, is skipped, as the summary then states. After epoch 32,768 the prediction is constant if it has
    settled, else missing.

    Args:
        announce: Function called with the warning; None: a Python warning.
        max_seconds: Approximate time limit; None: the estimated time of training, between 0.5 and 5 seconds.
        waiting: Returns a context in which the forecast is made before the first update, such as
            ``gd_lightning.callbacks.progress.waiting``.
    """

    max_predicted_epochs: int = 2**15
    """The most epochs that are predicted one by one."""

    def __init__(
        self,
        announce: Callable[[str], None] | None = None,
        max_seconds: float | None = None,
        waiting: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self.max_seconds = max_seconds
        self._waiting = waiting
        self.announce = rank_zero_warn if announce is None else announce
        self.outcome: PredictedOutcome | None = None
        """The predicted outcome of the run; None if theory does not apply or takes too long."""
        self._forget()

    def _forget(self) -> None:
        self.outcome = None
        self._is_asked = False
        self._start: Tensor | None = None
        self._said_before: dict[str, Any] = {}
        self._left_out = ""
        self._predictor: OutcomePredictor | None = None
        self._key: Hashable | None = None  # the key under which runs share the predictor; None if they do not
        self._losses = torch.empty(0)
        self._rates = np.empty(0)
        self._weights = KeptWeights()
        self._holds = True
        self._updates = 0
        self._of_average: tuple[int, float] | None = None

    # Trainer hooks, in the order of their calls

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Reset the state of an earlier run."""
        if stage == "fit":
            self._forget()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the forecast and the initial parameters, for a continued run."""
        # With a callback state, Lightning would warn if the checkpoint is used without this callback.
        if self._start is not None:
            checkpoint[_RECORD] = {"start": self._start, "said": self.said}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Load the forecast and the initial parameters of the continued run."""
        record = checkpoint.get(_RECORD)
        if record is not None:
            self._start, self._said_before = record["start"], record["said"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warn if the learning rate is above the stability limit."""
        self._ask(trainer, pl_module)
        if self.outcome is not None and self.outcome.verdict is Verdict.DIVERGES:
            assert self._predictor is not None
            with suppress(*NOT_COMPUTABLE):
                self.announce(advice(self._predictor, self.outcome))
        elif self._predictor is None and trainer.global_step == 0 and trainer.is_global_zero:
            problem, loader = problem_of(trainer), trainer.train_dataloader
            if problem is not None and problem.is_read and isinstance(loader, BatchLoader):
                raw = _raw_column(pl_module, loader.samples, problem)
                if raw is not None and learning_rate(trainer) > raw.limit and not pl_module.hparams["optimizer"]:
                    self.announce(
                        f"lr {learning_rate(trainer):g} is likely to be far too large for {raw}; use {STANDARDIZE}"
                    )

    def chunk_request(self, trainer: Trainer) -> ChunkRequest:
        """Request an end of the chunk where weights are kept."""
        if trainer.world_size > 1 or not self._explains_by_weights(trainer):  # only the first process may predict
            return ChunkRequest()
        return ChunkRequest(epochs=self._weights.epochs_to_next(trainer))

    def _explains_by_weights(self, trainer: Trainer) -> bool:
        """Whether a divergence is explained by weights of earlier epochs."""
        of_package = isinstance(trainer.lightning_module, RegressionModule)
        return self._predictor is None and of_package and isinstance(trainer.train_dataloader, BatchLoader)

    # Methods that the recorder calls

    @one_thread_if(True)
    def measure(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float]:
        """Return the predicted train loss at an epoch's end."""
        self._ask(trainer, pl_module)
        if self._explains_by_weights(trainer):
            self._weights.keep(trainer, pl_module)
        at = self.measure_at(trainer, pl_module, np.array([trainer.global_step]), np.array([learning_rate(trainer)]))
        return {name: float(values[0]) for name, values in at.items() if not np.isnan(values[0])}

    def measure_at(
        self, trainer: Trainer, pl_module: LightningModule, updates: NDArray[np.int64], lrs: NDArray[np.float64]
    ) -> dict[str, NDArray[np.float64]]:
        """Return the predicted train losses at the ends of epochs."""
        self._ask(trainer, pl_module)
        self._updates = int(updates[-1]) if len(updates) else self._updates
        if self.outcome is None or not self._holds:
            return {}
        per_epoch, found = self.outcome.variant.updates_per_epoch, np.full(len(updates), np.nan)
        is_plain = _plain_network(trainer, trainer.train_dataloader, pl_module, lr=None) is not None
        changed = np.flatnonzero(~self._are_expected(updates, lrs) | (not is_plain))
        held = int(changed[0]) if len(changed) else len(updates)
        ends = np.flatnonzero(updates[:held] % per_epoch == 0)
        found[ends] = self._predicted(updates[ends] // per_epoch)
        self._holds = self._holds and not len(changed)  # otherwise a callback has changed the learning rate
        return {PREDICTED: found}

    def _are_expected(self, updates: NDArray[np.int64], lrs: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return whether learning rates after updates are those of the prediction: of that update or of the next."""
        assert self.outcome is not None
        assert self._predictor is not None
        if (schedule := self._predictor.schedule) is None or not len(updates):
            same: NDArray[np.bool_] = lrs == self.outcome.lr
            return same
        per_epoch, last = self.outcome.variant.updates_per_epoch, int(updates[-1])
        if len(self._rates) < last + 2:
            epochs = self._epochs_ahead(last // per_epoch + 1)
            rates = schedule(self.outcome.lr, per_epoch, epochs).expand(-1, per_epoch).flatten()
            self._rates = np.append(rates.numpy(), rates[-1])
        after = np.minimum(updates, len(self._rates) - 1)
        found: NDArray[np.bool_] = (lrs == self._rates[after]) | (lrs == self._rates[np.maximum(after - 1, 0)])
        # The rate after the last update has no effect.
        return found | (updates >= self._predictor.max_epochs * per_epoch)

    def _predicted(self, epochs: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the predictions after epochs in ascending order; nan if unavailable."""
        found, done, most = np.full(len(epochs), np.nan), 0, self.max_predicted_epochs
        while done < len(epochs) and self._holds:
            first = int(epochs[done])
            if len(self._losses) <= min(first, most) and not self._look_ahead(first):
                break
            self._holds = first < most or _has_settled(self._losses)
            known = math.inf if first >= most else min(len(self._losses), most) - 1
            last = int(np.searchsorted(epochs, known, "right"))
            if self._holds:
                values = self._losses.numpy()[np.minimum(epochs[done:last], most)]
                found[done:last] = np.where(np.isfinite(values), values, np.nan)
            done = last
        return found

    def _look_ahead(self, epoch: int) -> bool:
        """Compute predictions up to twice an epoch; returns whether this is possible."""
        assert self.outcome is not None
        assert self._predictor is not None
        epochs = min(self._epochs_ahead(epoch), self.max_predicted_epochs)
        try:
            asked = self.outcome.variant.batch_size, self.outcome.lr, epochs
            key = None if self._key is None else (self._key, "losses", *asked)
            self._losses = shared(key, partial(self._predictor.losses, *asked))
        except NOT_COMPUTABLE:
            self._holds = False
        return self._holds

    def _epochs_ahead(self, epoch: int) -> int:
        """Return how many epochs are predicted at once; a scheduler may have no learning rate after the run."""
        epochs = max(2 * epoch, _FIRST_EPOCHS)
        if self._predictor is None or self._predictor.schedule is None or self._predictor.max_epochs == math.inf:
            return epochs
        return min(epochs, math.ceil(self._predictor.max_epochs))

    @property
    def said(self) -> dict[str, Any]:
        """The forecast as attributes of the run's summary; {} without a forecast."""
        if self.outcome is None or self._predictor is None:
            return {"prediction": self._left_out} if self._left_out else self._said_before
        last, averaged = self._of_average or (-1, None)
        of_decay = self._predictor.loss.lowest - self._predictor.loss.least_squares
        return {
            "prediction": in_words(self._predictor, self.outcome),
            "largest_stable_lr": self.outcome.largest_stable_lr,
            "predicted_floor": self.outcome.floor + of_decay,
            **({"averaged_loss_predicted": averaged} if self._updates == last and self._holds else {}),
        }

    @one_thread_if(True)
    def cause_and_cure(self, trainer: Trainer, pl_module: LightningModule) -> str:
        """Return why a run diverged, and a remedy, as a sentence; "" if the theory has no explanation.

        Args:
            trainer: The Trainer.
            pl_module: The module that diverged.
        """
        with suppress(*NOT_COMPUTABLE):
            return self._cause_and_cure(trainer, pl_module)
        return ""

    def _cause_and_cure(self, trainer: Trainer, pl_module: LightningModule) -> str:
        loader = trainer.train_dataloader
        predictor = self._predictor or self._predictor_of(trainer, pl_module, _LONGEST_TO_EXPLAIN)
        if not isinstance(loader, BatchLoader):
            return ""
        if predictor is None or not predictor.can_predict(loader.variant):
            raw = _raw_column(pl_module, loader.samples, problem_of(trainer))
            cure = f"use {STANDARDIZE}, and a smaller lr if it diverges even so"
            if raw is not None:
                return f"the likely cause is {raw}; {cure}"
            return cause_in_curvature(trainer, pl_module, self._weights.before(trainer))
        outcome = self.outcome or predictor.predict(loader.variant.batch_size, _configured_lr(trainer, pl_module))
        return advice(predictor, outcome) if outcome.verdict is Verdict.DIVERGES else ""

    @one_thread_if(True)
    def _ask(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Predict the outcome, once per run; numerical failures are ignored."""
        if self._is_asked:
            return
        self._is_asked = True
        try:
            with self._waiting():
                self._ask_theory(trainer, pl_module)
        except NOT_COMPUTABLE:
            self._predictor = self.outcome = None
        except InputError:  # the learning rates of a schedule cannot be predicted
            self._predictor = self.outcome = None
            self._left_out = (
                "none, because the learning rates change too often, or are unknown in advance; consult plan"
            )

    def _ask_theory(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loader = trainer.train_dataloader
        network = _plain_network(trainer, loader, pl_module, learning_rate(trainer))
        if self._start is None and trainer.global_step == 0 and network is not None:
            self._start = network.affine().flat()
        self._predictor = self._predictor_of(trainer, pl_module, self.max_seconds)
        if self._predictor is None or self._start is None or not isinstance(loader, BatchLoader):
            return
        if self._predictor.can_predict(loader.variant):
            asked = loader.variant.batch_size, _configured_lr(trainer, pl_module)
            key = None if self._key is None else (self._key, "outcome", *asked)
            self.outcome = shared(key, partial(self._predictor.predict, *asked))
            self._of_average = _predicted_average(trainer, self._predictor, self.outcome)

    def _predictor_of(
        self, trainer: Trainer, pl_module: LightningModule, max_seconds: float | None
    ) -> OutcomePredictor | None:
        """Return the predictor of a run; None if theory does not apply or takes too long, or in other processes."""
        loader = trainer.train_dataloader
        network = _plain_network(trainer, loader, pl_module, learning_rate(trainer))
        if network is None or not trainer.is_global_zero:
            return None
        assert isinstance(pl_module, RegressionModule)
        assert isinstance(loader, BatchLoader)
        variant, columns = loader.variant, loader.samples.in_features + 1
        epochs = most_epochs(trainer.max_epochs, trainer.max_steps, variant)
        is_whole = variant.name == "batch" and loader.epoch_order.order != "with_replacement"
        seconds = seconds_to_predict(variant, columns, is_whole, pl_module.hparams["momentum"])
        if trainer.lr_scheduler_configs:
            seconds += _SECONDS_FOLLOWED * variant.updates_per_epoch * min(epochs, _FOLLOWED)
        if max_seconds is None:
            max_seconds = min(max(_seconds_of_training(variant, columns, epochs), _UNNOTICED), _LONGEST)
        if seconds > max_seconds:
            self._left_out = f"none, because it would take about {seconds:.2g} s before the first update; consult plan"
            return None
        order = loader.epoch_order.order
        numbers = variant.train_samples * columns
        is_small = variant.updates_per_epoch <= _MOST_UPDATES and numbers <= _MOST_SEQUENTIAL
        order = order if is_small or order != "sequential" else "shuffled"
        start = None if self._start is None else _like(network.affine(), self._start)
        problem, self._key = problem_of(trainer), None
        if start is not None and not trainer.lr_scheduler_configs:
            self._key = _content_of(pl_module, loader.samples, start, problem, (variant, epochs, order))
        compute = partial(predictor_of, pl_module, loader.samples.pieces, variant, epochs, order)
        return shared(self._key, partial(compute, start=start, problem=problem))


def _content_of(
    module: RegressionModule, samples: Samples, start: Affine, problem: Problem | None, others: tuple[Hashable, ...]
) -> Hashable | None:
    """Return all that the prediction of a run depends on, for runs that share it; None where they do not."""
    layers = [layer for layer in (module.standardize, module.standardize_targets) if layer is not None]
    units = content_of(start.flat(), *(part for layer in layers for part in (layer.mean, layer.scale)))
    if (content := samples.content) is None or units is None:
        return None
    kinds = type(module), module.standardize is None, start.bias is None, problem is None or problem.start is None
    return content, units, kinds, repr(dict(module.hparams)), next(module.parameters()).dtype, *others


def _seconds_of_training(variant: Variant, columns: int, epochs: float) -> float:
    """Return a lower estimate of the training time of a linear regressor, by compiled updates."""
    return epochs * (2e-6 * variant.updates_per_epoch + 1e-9 * variant.train_samples * columns)


def _has_settled(losses: Tensor) -> bool:
    """Whether a predicted train loss, shape (epochs + 1,), has become constant."""
    last = losses[-_LAST_EPOCHS:]
    return bool(last.max() - last.min() <= _SETTLED * last.max())


class _RawColumn(NamedTuple):
    """A column that is far from standardised, in words, and a learning rate above which runs are likely to diverge."""

    words: str
    limit: float

    def __str__(self) -> str:
        return self.words


def _raw_column(module: LightningModule, samples: Samples, problem: Problem | None) -> _RawColumn | None:
    """Return the column that is farthest from standardised, as far as that makes a run diverge; None if there is none.

    The curvature grows with the square of a feature. Targets do not change that of a linear regressor; the gradients of
    a perceptron grow with them.
    """
    if not isinstance(module, RegressionModule) or not isinstance(module.network, (LinearRegressor, MLPRegressor)):
        return None  # another module may standardise its data itself
    moments = [reduce(Moments.merged, (Moments.of(pair[which]) for pair in samples.pieces())) for which in (0, 1)]
    names = (None, None) if problem is None else (problem.feature_names, problem.target_names)
    layers, found = (module.standardize, module.standardize_targets), list[tuple[float, _RawColumn]]()
    for which in range(1 if isinstance(module.network, LinearRegressor) else 2):
        of, sizes = moments[which], torch.hypot(moments[which].mean, moments[which].std)
        worst = int(sizes.argmax())
        size = sizes[worst].item()
        if layers[which] is not None or size < _FAR:
            continue
        own = names[which]
        name = repr("xy"[which] + str(worst) if own is None else own[worst])
        words = (
            f"the {('feature', 'target')[which]} {name}, with mean {of.mean[worst].item():.3g} and standard deviation "
            f"{of.std[worst].item():.3g} instead of about 0 and 1"
        )
        found.append((size, _RawColumn(words, (1 / size) ** 2 if which == 0 else 1 / size)))
    return max(found, default=(0.0, None), key=lambda each: each[0])[1]


def _predicted_average(
    trainer: Trainer, predictor: OutcomePredictor, outcome: PredictedOutcome
) -> tuple[int, float] | None:
    """Return the last update of the run, and the loss of the average that it ends with; None if none is known."""
    per_epoch = outcome.variant.updates_per_epoch
    if not (predictor.max_epochs < math.inf and float(predictor.max_epochs).is_integer()):
        return None
    epochs = int(predictor.max_epochs)
    average = AverageOfRun.of(trainer, epochs * per_epoch, per_epoch)
    if average is None:
        return None
    return epochs * per_epoch, predictor.averaged_loss(outcome.variant.batch_size, outcome.lr, epochs, average)


def _plain_network(
    trainer: Trainer, loader: object, module: LightningModule, lr: float | None
) -> LinearRegressor | None:
    """Return the network if every update is plain SGD as in the theory, else None.

    Args:
        trainer: The Trainer.
        loader: The training loader.
        module: The module that is trained.
        lr: The learning rate; None: unchanged.
    """
    if not isinstance(loader, BatchLoader) or not isinstance(module, RegressionModule):
        return None
    same_lr = lr in (None, module.hparams["lr"]) or bool(trainer.lr_scheduler_configs)
    whole = trainer.num_training_batches == len(loader)
    if not (whole and same_lr) or trainer.gradient_clip_val:
        return None
    return quadratic_network(module)


def _configured_lr(trainer: Trainer, module: LightningModule) -> float:
    """Return the initial learning rate of a scheduler; without a scheduler, the current learning rate."""
    return float(module.hparams["lr"]) if trainer.lr_scheduler_configs else learning_rate(trainer)


def _like(affine: Affine, flat: Tensor) -> Affine:
    """Return an affine function of the given shape with the given parameters, in the order of :meth:`Affine.flat`."""
    weights = affine.weight.numel()
    bias = None if affine.bias is None else flat[weights:]
    return Affine(flat[:weights].view_as(affine.weight), bias)
