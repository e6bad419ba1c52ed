"""A network with its optimiser, engine and loss, for training without a Trainer.

Letters: N samples, D features, K outputs, P parameters.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import vector_to_parameters
from torch.optim import Optimizer

from gd_lightning.affine import Affine
from gd_lightning.engine import AutogradEngine, Engine, FusedEngine, keeps_compiled_code, why_not_fused
from gd_lightning.errors import InputError
from gd_lightning.float64 import in_float64
from gd_lightning.losses import forms_of, summed_loss
from gd_lightning.models import LinearRegressor, Standardize, from_seed, initialize
from gd_lightning.module.engine_choice import FEWEST_FUSED_UPDATES, is_faster_by_torch, why_no_factor
from gd_lightning.module.finite_predictions import predicted_in_float64, refuse_overflow
from gd_lightning.module.first_update import try_gradient
from gd_lightning.module.initial_weights import in_original_units, plain_network, set_start
from gd_lightning.module.network import check_network
from gd_lightning.module.optimizer_and_scheduler_checks import make_trial_step
from gd_lightning.module.optimizers import make_optimizers
from gd_lightning.module.run_engine import in_units
from gd_lightning.module.training_step import with_l1
from gd_lightning.random_numbers import own_generator
from gd_lightning.sklearn.samples import WeightedSamples
from gd_lightning.variants import Variant

_PIECE = 65_536  # samples whose errors are computed at a time


class Learner:
    """A network with the state of its optimiser, whose training can be continued.

    Args:
        options: All options of a :class:`~gd_lightning.RegressionModule`, checked.
        features: The layer that standardises features; None: they are taken as they are.
        targets: The layer that standardises targets; None: they are not standardised.
        network: The user's network, or a function that makes it from D and K; None: the options describe it.
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
        check_network(self.network)
        self.network.to(dtype)
        set_start(self.network, options, features, targets, None)
        made: Any = make_optimizers(self.network, options)
        self.optimizer: Optimizer = made if isinstance(made, Optimizer) else made["optimizer"]
        self.scheduler: Any = None if isinstance(made, Optimizer) else made["lr_scheduler"]["scheduler"]
        if hasattr(self.scheduler, "monitor") or hasattr(self.scheduler, "num_bad_epochs"):
            raise InputError(
                f"cannot train with {type(self.scheduler).__name__}, because it monitors what only a Trainer measures; "
                "use another lr_scheduler"
            )
        self.epochs = self.updates = 0
        self.dtype = dtype
        self.mean = ParameterMean()
        self._averaged: nn.Module | None = None  # the network with the mean of the weights
        self._is_given = network is not None
        self._draws = self._is_given or bool(options["dropout"])
        self._generator: Tensor | None = None  # the state of torch's generator, which dropout draws from

    # Predictions

    def features(self, x: Tensor) -> Tensor:
        """Return the input of the network for features in original units, float64, shape (N, D)."""
        return (x if self.of_features is None else self.of_features.standardized(x)).to(self.dtype)

    def predict(self, x: Tensor) -> Tensor:
        """Return predictions, shape (N, K), from features in original units, float64, shape (N, D).

        Raises:
            InputError: A prediction is beyond the precision.
        """
        network, layer = self.predictor, self.of_targets
        with _evaluated(network):
            found = torch.cat([network(self.features(part)) for part in x.split(_PIECE)])
        predicted = found if layer is None else layer.original(found)
        refuse_overflow(predicted, network, lambda row: self._predicted_in_float64(x[row : row + 1]), "precision")
        return predicted

    def _predicted_in_float64(self, x: Tensor) -> Tensor:
        found = predicted_in_float64(
            self.predictor, x if self.of_features is None else self.of_features.standardized(x)
        )
        return found if self.of_targets is None else self.of_targets.original(found)

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
            options: Options with new values, as for the class.

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

    def try_training(self, samples: WeightedSamples, variant: Variant, epochs: int) -> None:
        """Try optimiser, scheduler and a network of one's own, which is given back unchanged.

        Args:
            samples: The training samples, as the network takes them.
            variant: The batches of an epoch.
            epochs: Number of epochs.

        Raises:
            InputError: An option cannot be used.
        """
        make_trial_step(self.options, epochs)
        if self._is_given:
            loss = partial(summed_loss, loss=self.options["loss"], huber_delta=self.options["huber_delta"])
            try_gradient(self.network, loss, variant, lambda rows: (samples.x[rows], samples.y[rows]))

    @contextmanager
    def training(self) -> Iterator[None]:
        """Put the network into training mode; what it draws continues where the last call has ended."""
        self.network.train()
        with own_generator(self.seed) if self._draws else nullcontext():
            if self._draws and self._generator is not None:
                torch.set_rng_state(self._generator)
            yield
            self._generator = torch.get_rng_state() if self._draws else None
        self.network.eval()

    def make_engine(self, asked: str, variant: Variant, updates: int, is_weighted: bool) -> Engine:
        """Return an engine: compiled code whenever possible, since estimators are fitted many times.

        Args:
            asked: auto, autograd or fused.
            variant: The batches of an epoch.
            updates: How many are made.
            is_weighted: Whether samples have weights.

        Raises:
            InputError: The requested engine cannot make these updates.
        """
        options = self.options
        reason = "each sample has a weight of its own" if is_weighted else ""
        reason = reason or why_not_fused(self.network, self.optimizer) or why_no_factor(self.of_targets)
        if asked == "fused" and reason:
            raise InputError(f"cannot fuse updates, because {reason}; use the engine auto")
        is_fused = asked == "fused"
        if asked == "auto" and not reason:
            is_fused = not is_faster_by_torch(self.network, variant.batch_size) and (
                updates >= FEWEST_FUSED_UPDATES or keeps_compiled_code()
            )
        if is_fused:
            of_loss = (options[name] for name in ("loss", "huber_delta", "l1"))
            engine = FusedEngine(self.network, self.optimizer, *of_loss)
            return engine if self.of_targets is None else in_units(engine, self.of_targets, options["loss"])
        return AutogradEngine(self._losses, self.optimizer, self.network.parameters())

    def _losses(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss to minimise and the batch loss, which nobody reads; weights are the last column of y."""
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

    def use_mean(self, averages: bool) -> None:
        """Predict with the mean of the parameters from now on, or with the parameters."""
        self._averaged = self.mean.applied_to(self.network) if averages else None


class ParameterMean:
    """The mean of the parameters after all updates (Polyak and Ruppert), in float64."""

    def __init__(self) -> None:
        self._mean: Tensor | None = None
        self._updates = 0

    def add(self, parameters: Tensor) -> None:
        """Add parameters after updates, shape (updates, P)."""
        self._updates += len(parameters)
        mean = parameters.double().mean(dim=0)
        share = len(parameters) / self._updates
        self._mean = mean if self._mean is None else self._mean + (mean - self._mean) * share

    def applied_to(self, network: nn.Module) -> nn.Module | None:
        """Return a copy of a network with the mean as its parameters; None before the first update."""
        if self._mean is None:
            return None
        averaged = copy.deepcopy(network)
        vector_to_parameters(self._mean.to(next(network.parameters()).dtype), averaged.parameters())
        return averaged


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
