"""Training a network by an engine without a Trainer: many short fits, each of which ends where a Trainer's ends.

Letters: N samples, D features, K outputs, B batch, P parameters.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torch.nn.utils import vector_to_parameters
from torch.optim import Optimizer

from gd_lightning.affine import Affine
from gd_lightning.data.order import Order, comes_as_it_lies, epoch_orders
from gd_lightning.engine import (
    AutogradEngine,
    Chunk,
    Engine,
    EpochEnds,
    FusedEngine,
    SaveAt,
    announcing_compilation,
    keeps_compiled_code,
    why_not_fused,
)
from gd_lightning.errors import InputError
from gd_lightning.float64 import in_float64
from gd_lightning.losses import forms_of, summed_loss
from gd_lightning.models import LinearRegressor, Standardize, from_seed, initialize
from gd_lightning.module.engine_choice import FEWEST_FUSED_UPDATES, is_faster_by_torch, why_no_factor
from gd_lightning.module.initial_weights import in_original_units, plain_network, set_start
from gd_lightning.module.optimizers import make_optimizers
from gd_lightning.module.run_engine import in_units
from gd_lightning.module.training_step import with_l1
from gd_lightning.random_numbers import own_generator
from gd_lightning.records.divergence_factor import DIVERGENCE_FACTOR, is_beyond
from gd_lightning.records.history import History
from gd_lightning.sklearn.samples import WeightedSamples
from gd_lightning.threads import is_little, one_thread_if
from gd_lightning.variants import Variant

_MOST_NUMBERS = 10_000_000  # that a call of an engine holds: rows of epochs, and parameters of updates
_MOST_EPOCHS = 20_000  # of a call
_MOST_WORK = 10  # times the work of the first chunk of a run: about a second, so that Ctrl-C need not wait for longer
_PIECE = 65_536  # samples whose errors are computed at a time


@dataclass(frozen=True)
class Epochs:
    """The epochs of a call of training.

    Args:
        count: Number of epochs.
        variant: The batches of an epoch.
        order: The order in which an epoch visits the samples.
        seed: Seed of the order.
        engine: auto, autograd or fused.
    """

    count: int
    variant: Variant
    order: Order = "shuffled"
    seed: int = 0
    engine: str = "auto"


@dataclass(frozen=True)
class EarlyStopping:
    """Ends a fit whose loss has not fallen, at the weights with the lowest loss.

    Args:
        patience: Epochs without progress that end it.
        min_delta: The smallest decrease of the loss that counts as progress.
    """

    patience: int = 10
    min_delta: float = 0.0


@dataclass
class Curves:
    """The curves of a fit, with an entry for its start and one for each epoch.

    Args:
        update: Updates made since the network was made.
        epoch: Epochs made since then.
        seconds: Seconds of training in this fit.
        train_loss: Mean loss over the training samples at these weights.
        val_loss: Mean loss over those of validation; empty without any.
        lr: Learning rate of the update that led there; the first entry is that of the coming one.
        best: Index of the entry with the weights that the fit ended with.
    """

    update: list[int] = field(default_factory=list)
    epoch: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    train_loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    lr: list[float] = field(default_factory=list)
    best: int = 0

    def history(self, samples_per_epoch: int) -> History:
        """Return the curves as a history."""
        history, first = History(), self.epoch[0]
        for row, epoch in enumerate(self.epoch):
            values = {"val_loss": self.val_loss[row]} if self.val_loss else {}
            history.append(
                update=self.update[row],
                epoch=epoch,
                samples=(epoch - first) * samples_per_epoch,
                seconds=self.seconds[row],
                train_loss=self.train_loss[row],
                lr=self.lr[row],
                **values,
            )
        return history


class Learner:
    """A network with the state of its optimiser, whose training can be continued.

    Args:
        options: All options of a :class:`~gd_lightning.RegressionModule`, checked.
        features: The layer that standardises features; None: they are taken as they are.
        targets: The layer that standardises targets, in the same way.
        network: A network of one's own, or what makes it from D and K; None: the one that the options describe.
        seed: Seed of the initial weights, and of what is drawn in training.
        dtype: The precision.

    Raises:
        InputError: The options do not fit the network.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        features: Standardize | None = None,
        targets: Standardize | None = None,
        network: nn.Module | Callable[[int, int], nn.Module] | None = None,
        seed: int = 0,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        self.options, self.seed = options, seed
        self.of_features, self.of_targets = features, targets

        def initialized() -> nn.Module:
            sizes = options["in_features"], options["out_features"]
            made = plain_network(options, *sizes) if network is None else network(*sizes)
            if isinstance(options["initialization"], str) and options["initialization"] != "auto":
                initialize(made, options["initialization"])
            return made

        self.network = network if isinstance(network, nn.Module) else from_seed(initialized, seed)
        self.network.to(dtype)
        set_start(self.network, options, features, targets, None)
        made: Any = make_optimizers(self.network, options)
        self.optimizer: Optimizer = made if isinstance(made, Optimizer) else made["optimizer"]
        self.scheduler: Any = None if isinstance(made, Optimizer) else made["lr_scheduler"]["scheduler"]
        if hasattr(self.scheduler, "monitor") or hasattr(self.scheduler, "num_bad_epochs"):
            raise InputError(
                f"cannot train with {type(self.scheduler).__name__}, because it watches what only a Trainer measures; "
                "use another lr_scheduler"
            )
        self.epochs = self.updates = 0
        self.dtype = dtype
        self._mean: Tensor | None = None  # of the parameters after all updates, shape (P,)
        self._in_mean = 0  # updates
        self._averaged: nn.Module | None = None  # the network with this mean
        self._draws = network is not None or bool(options["dropout"])
        self._generator: Tensor | None = None  # the state of torch's generator, which dropout draws from

    # Predictions

    def features(self, x: Tensor) -> Tensor:
        """Return the input of the network for features in original units, float64, shape (N, D)."""
        return (x if self.of_features is None else self.of_features.standardized(x)).to(self.dtype)

    def predict(self, x: Tensor) -> Tensor:
        """Return predictions, shape (N, K), from features in original units, float64, shape (N, D)."""
        network, layer = self.predictor, self.of_targets
        with _evaluated(network):
            found = torch.cat([network(self.features(part)) for part in x.split(_PIECE)])
        return found if layer is None else layer.original(found)

    @property
    def predictor(self) -> nn.Module:
        """The network, or the one with the mean of its parameters."""
        return self.network if self._averaged is None else self._averaged

    def affine(self) -> Affine | None:
        """Return the parameters of a linear function in original units; None for other networks."""
        if not isinstance(self.predictor, LinearRegressor):
            return None
        return in_original_units(self.predictor.affine(), self.of_features, self.of_targets)

    # Training

    def taken(self, samples: WeightedSamples) -> WeightedSamples:
        """Return samples as the network takes them, from those in original units, float64."""
        weights = None if samples.weights is None else samples.weights.to(self.dtype)
        y = samples.y if self.of_targets is None else self.of_targets.standardized(samples.y)
        return WeightedSamples(self.features(samples.x).contiguous(), y.to(self.dtype).contiguous(), weights)

    def change(self, options: Mapping[str, Any]) -> None:
        """Continue with other options.

        Args:
            options: As for the class.

        Raises:
            InputError: An option has changed that the network or the optimiser was made with.
        """
        of_sgd = ("lr", "momentum", "nesterov", "weight_decay")
        can_change = ["l1", "loss", "huber_delta", "engine"]
        if self.options["optimizer"] is None and self.scheduler is None:
            can_change += of_sgd
        changed = [name for name, value in options.items() if value != self.options[name]]
        if fixed := [name for name in changed if name not in can_change]:
            raise InputError(
                f"cannot continue with {fixed[0]} {options[fixed[0]]!r}, because it was {self.options[fixed[0]]!r}; "
                "use that, or make a new estimator"
            )
        for group in self.optimizer.param_groups:
            group.update({name: options[name] for name in changed if name in of_sgd})
        self.options = options

    def train(
        self,
        samples: WeightedSamples,
        epochs: Epochs,
        held_out: WeightedSamples | None = None,
        stopping: EarlyStopping | None = None,
        averages: bool = False,
    ) -> Curves:
        """Train for some epochs, continuing where the last call has ended.

        Args:
            samples: The training samples.
            epochs: The epochs.
            held_out: Samples for validation.
            stopping: The criterion of early stopping, for the validation loss, or the train loss without validation.
            averages: Whether the mean of the parameters after all updates is computed.

        Raises:
            InputError: The train loss diverges, or the requested engine cannot make these updates.
        """
        engine, variant = self._engine(samples, epochs), epochs.variant
        drawn = own_generator(self.seed) if self._draws else nullcontext()
        in_one = engine.name == "autograd" and is_little(self.network, variant.batch_size)
        self.network.train()
        with drawn, one_thread_if(in_one), announcing_compilation(rank_zero_info, engine.name):
            if self._draws and self._generator is not None:
                torch.set_rng_state(self._generator)
            curves = _Run(self, engine, samples, epochs, held_out, stopping, averages).make()
            self._generator = torch.get_rng_state() if self._draws else None
        self.network.eval()
        self.settle_mean(averages)
        return curves

    def _engine(self, samples: WeightedSamples, epochs: Epochs) -> Engine:
        """Choose the engine: compiled code whenever possible, since estimators are fitted many times."""
        options, weights = self.options, samples.weights
        reason = "each sample has a weight of its own" if weights is not None else ""
        reason = reason or why_not_fused(self.network, self.optimizer) or why_no_factor(self.of_targets)
        if epochs.engine == "fused" and reason:
            raise InputError(f"cannot fuse updates, because {reason}; use the engine auto")
        is_fused = epochs.engine == "fused"
        if epochs.engine == "auto" and not reason:
            updates = epochs.count * epochs.variant.updates_per_epoch
            is_fused = not is_faster_by_torch(self.network, epochs.variant.batch_size) and (
                updates >= FEWEST_FUSED_UPDATES or keeps_compiled_code()
            )
        if is_fused:
            of_loss = (options[name] for name in ("loss", "huber_delta", "l1"))
            engine = FusedEngine(self.network, self.optimizer, *of_loss)
            return engine if self.of_targets is None else in_units(engine, self.of_targets, options["loss"])
        return AutogradEngine(self._losses, self.optimizer, self.network.parameters())

    def _losses(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss to minimise and the batch loss, which nobody reads; weights stand in a last column of y."""
        outputs, options = self.options["out_features"], self.options
        prediction, of_loss = self.network(x), (options["loss"], options["huber_delta"])
        if y.shape[1] == outputs:
            batch_loss = summed_loss(prediction, y, *of_loss) * (1 / (len(y) * outputs))
        else:
            each = forms_of(of_loss[0]).elementwise(prediction, y[:, :outputs], of_loss[1])
            batch_loss = (each * y[:, outputs:]).sum() * (1 / (len(y) * outputs))
        return with_l1(batch_loss, self.network, options["l1"]), batch_loss

    def mean_loss(self, samples: WeightedSamples, engine: Engine) -> float:
        """Return the weighted mean of the loss over samples and outputs at the current weights, without penalties."""
        x, y, weights = samples
        if weights is None and (loss := engine.mean_loss(x, y)) is not None:
            return loss
        forms, delta = forms_of(self.options["loss"]), self.options["huber_delta"]
        factors = 1.0 if self.of_targets is None else self.of_targets.scale**forms.degree
        total = 0.0
        with _evaluated(self.network):
            for at in range(0, len(x), _PIECE):
                part = slice(at, at + _PIECE)
                each = forms.elementwise(in_float64(self.network(x[part])), in_float64(y[part]), delta) * factors
                total += (each if weights is None else each * weights[part].double()).sum().item()
        return total / y.numel() if weights is None else total / (weights.double().sum().item() * y.shape[1])

    def note(self, parameters: Tensor) -> None:
        """Add parameters after updates, shape (updates, P), to their mean."""
        count = len(parameters)
        self._in_mean += count
        mean = parameters.double().mean(dim=0)
        self._mean = mean if self._mean is None else self._mean + (mean - self._mean) * (count / self._in_mean)

    def settle_mean(self, averages: bool) -> None:
        """Predict with the mean of the parameters from now on, or with the parameters."""
        self._averaged = None
        if averages and self._mean is not None:
            self._averaged = copy.deepcopy(self.network)
            vector_to_parameters(self._mean.to(self.dtype), self._averaged.parameters())


class _Run:
    """A call of :meth:`Learner.train`, whose arguments it has."""

    def __init__(
        self,
        learner: Learner,
        engine: Engine,
        samples: WeightedSamples,
        epochs: Epochs,
        held_out: WeightedSamples | None,
        stopping: EarlyStopping | None,
        averages: bool,
    ) -> None:
        self._learner, self._engine, self._samples, self._epochs = learner, engine, samples, epochs
        self._held_out, self._stopping, self._averages = held_out, stopping, averages
        x, y, weights = samples
        self._x, self._y = x, y if weights is None else torch.cat([y, weights.to(y)], dim=1)
        self._curves, self._seconds = Curves(), 0.0
        self._lowest, self._best, self._waited = math.inf, math.inf, 0
        self._state: dict[str, Tensor] | None = None  # with the lowest loss

    def make(self) -> Curves:
        """Carry out the epochs."""
        first = self._train_loss()
        self._note(self._learner.epochs, first, self._learner.updates)
        bound = DIVERGENCE_FACTOR * first if first > 0 else math.inf
        left, at_once = self._epochs.count, self._at_once()
        while left and not self._is_over():
            count = min(left, at_once)
            losses = self._carry_out(count, bound)
            left -= count
            for loss in losses:
                self._learner.epochs += 1
                self._learner.updates += self._epochs.variant.updates_per_epoch
                self._note(self._learner.epochs, loss, self._learner.updates)
                if is_beyond(loss, first):
                    raise InputError(
                        f"cannot fit, because the train loss grew from {first:.4g} to {loss:.4g}; use a smaller lr"
                    )
            if self._learner.scheduler is not None:
                self._learner.scheduler.step()
        self._restore()
        return self._curves

    def _at_once(self) -> int:
        """Return the number of epochs per call of the engine."""
        if self._held_out is not None or self._stopping is not None or self._learner.scheduler is not None:
            return 1
        variant = self._epochs.variant
        chunk = Chunk(self._x, self._y, None, variant, 0, variant.updates_per_epoch)
        if not self._engine.can_span_epochs(chunk, 1):
            return 1
        numbers = sum(parameter.numel() for parameter in self._learner.network.parameters())
        updates = variant.updates_per_epoch
        work = updates if self._engine.name == "autograd" else len(self._x) * numbers
        held = max(len(self._x), updates * numbers if self._averages else 1)
        return max(1, min(_MOST_EPOCHS, _MOST_NUMBERS // held, int(_MOST_WORK * self._engine.first_work / work)))

    def _carry_out(self, epochs: int, bound: float) -> list[float]:
        """Carry out some epochs, and return the train loss after each; fewer if it has grown beyond a bound."""
        learner, variant, begun = self._learner, self._epochs.variant, time.perf_counter()
        order, rows = self._epochs.order, None
        if not comes_as_it_lies(order, variant):
            rows = epoch_orders(order, variant.train_samples, self._epochs.seed, learner.epochs, epochs)
        ends = EpochEnds(lambda: [self._train_loss()], high=bound) if epochs > 1 else None
        losses: list[float] = []
        for first, stop in self._parts(epochs * variant.updates_per_epoch):
            save_at = SaveAt(parameters=True) if self._averages else SaveAt(start=stop)
            chunk = Chunk(self._x, self._y, rows, variant, first, stop, save_at=save_at, ends=ends)
            trace = self._engine.carry_out(chunk)
            if self._averages and trace.record.parameters is not None:
                learner.note(trace.record.parameters)
            losses += trace.measured.ravel().tolist()
        if trace.updates == chunk.updates:
            losses.append(self._train_loss())
        self._seconds += time.perf_counter() - begun
        return losses

    def _parts(self, updates: int) -> Iterator[tuple[int, int]]:
        """Yield first and last updates of chunks whose parameters fit into memory."""
        numbers = sum(parameter.numel() for parameter in self._learner.network.parameters())
        most = max(1, _MOST_NUMBERS // numbers) if self._averages else updates
        most = updates if updates > self._epochs.variant.updates_per_epoch else most
        return ((first, min(updates, first + most)) for first in range(0, updates, most))

    def _train_loss(self) -> float:
        return self._learner.mean_loss(self._samples, self._engine)

    def _note(self, epoch: int, train_loss: float, updates: int) -> None:
        curves = self._curves
        curves.update.append(updates)
        curves.epoch.append(epoch)
        curves.seconds.append(self._seconds)
        curves.train_loss.append(train_loss)
        curves.lr.append(float(self._learner.optimizer.param_groups[0]["lr"]))
        if self._held_out is not None:
            curves.val_loss.append(self._learner.mean_loss(self._held_out, self._engine))
        if self._stopping is None:
            curves.best = len(curves.update) - 1
        elif len(curves.update) > 1:
            self._judge(curves.val_loss[-1] if curves.val_loss else train_loss, self._stopping)

    def _judge(self, loss: float, stopping: EarlyStopping) -> None:
        """Keep the weights with the lowest loss, and count epochs without progress."""
        if loss < self._lowest:
            self._lowest, self._curves.best = loss, len(self._curves.update) - 1
            self._state = {name: value.clone() for name, value in self._learner.network.state_dict().items()}
        if loss < self._best - stopping.min_delta:
            self._best, self._waited = loss, 0
        else:
            self._waited += 1

    def _is_over(self) -> bool:
        return self._stopping is not None and self._waited >= self._stopping.patience

    def _restore(self) -> None:
        if self._state is not None:
            self._learner.network.load_state_dict(self._state)


@contextmanager
def _evaluated(network: nn.Module) -> Iterator[None]:
    """Evaluate a network without gradients and in evaluation mode."""
    was_training = network.training
    if was_training:
        network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        if was_training:
            network.train()
