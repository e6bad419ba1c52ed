"""The ``LightningModule``: a regressor, its loss and its optimiser (floor 4).

Letters: B samples of a batch, D features, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.loops.optimization.automatic import Closure
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MetricCollection

from gd_lightning.affine import Affine
from gd_lightning.engine import Chunk, overflow_to_nan
from gd_lightning.errors import InputError
from gd_lightning.float64 import in_float64
from gd_lightning.generators import start_seed
from gd_lightning.losses import Loss, check_prediction, summed_loss
from gd_lightning.micro_batches import MicroBatches
from gd_lightning.models import (
    Activation,
    LinearRegressor,
    MLPRegressor,
    Scheme,
    Standardize,
    from_seed,
    given_start,
    initialize,
    set_parameters,
)
from gd_lightning.module.checkpoints import CheckedCheckpoints, check_callbacks, check_optimizers, checkpoint_path
from gd_lightning.module.engine_choice import (
    FEWEST_FUSED_UPDATES,
    Decision,
    EngineChoice,
    own_method,
)
from gd_lightning.module.first_update import try_update
from gd_lightning.module.initial_weights import Start
from gd_lightning.module.metrics import R2, MeanAbsoluteError, MeanLoss, MeanSquaredError
from gd_lightning.module.options import ClassSpec, check_options, class_of
from gd_lightning.module.resume import resume_position, save_position, settle_position
from gd_lightning.module.run_engine import RunEngine
from gd_lightning.module.trainer_checks import check_accumulation, check_early_copies, check_trainer
from gd_lightning.problems import Problem
from gd_lightning.tracking.checkpoint_file import read_checkpoint
from gd_lightning.tracking.checkpoint_schema import check_checkpoint, check_continuable, check_weights, weights_mismatch
from gd_lightning.tracking.schema import is_plain, kind_of
from gd_lightning.variants import Variant

_LOSSES = ("forward", "summed_loss")
_GIVEN_NETWORK = "given_network"  # a key of checkpoints
_COLUMNS = "gd_lightning_columns"  # likewise
NetworkFactory = Callable[[int, int], nn.Module]


_Module = TypeVar("_Module", bound="RegressionModule")


class WeightsError(InputError, RuntimeError):
    """Weights do not fit a module; torch raises a RuntimeError where they do not."""


class RegressionModule(LightningModule):
    """A linear or multilayer-perceptron regressor, trained by gradient descent.

    How many features and outputs there are comes from the data. The batch loss is the mean over the samples of a batch
    and over outputs, so an update is theta <- theta - lr * gradient of that mean, whatever the batch size, and
    however a batch is shared among processes.

    The start is drawn from torch's seed as ``seed_everything`` or ``torch.manual_seed`` last set it, not from the
    state that the generator has reached: variants that are compared start alike, whatever drew numbers before. That
    seed is one for all threads; :func:`~gd_lightning.starting_from` gives a thread one of its own.

    Args:
        lr: Learning rate.
        momentum: Momentum of SGD, as torch defines it: v <- momentum * v + gradient.
        nesterov: Nesterov's form of the momentum.
        weight_decay: L2 penalty; adds weight_decay * theta to the gradient of every parameter, as torch does.
        l1: L1 penalty; adds l1 * sum(abs(weights)) to the loss of every update, whatever its batch size. Biases are
            free.
        loss: mse (squared error, no factor 1/2), mae (absolute error) or huber; means over samples and outputs.
        huber_delta: Where the Huber loss turns linear, in units of the targets.
        hidden_sizes: Widths of the hidden layers of an MLP; empty for a linear regressor.
        activation: Activation of the hidden layers.
        bias: Whether layers have biases; without them the prediction at x = 0 is 0, with standardised features, too.
        dropout: Probability that a hidden unit is left out while training.
        initialization: auto (the start that the problem prescribes, else default), default (PyTorch's), zero, normal,
            xavier, he, or given values of a linear regressor in original units, such as {weight: -10, bias: -20}.
        network: A network of your own instead: a module, or a class or function called with D and K that gives one.
        in_features: D, where no RegressionDataModule tells it. With both sizes the network is made at once, so that
            weights can be loaded, watched or given to an optimiser before there are data.
        out_features: K, likewise.
        optimizer: Another optimiser than SGD, as {class_path: torch.optim.Adam, init_args: {...}}; its lr is this lr
            unless it has its own. In Python, configure_optimizers can be overridden instead.
        lr_scheduler: A scheduler that is stepped at each epoch's end, likewise.
        engine: What carries out the updates, which are the same: autograd (PyTorch), fused (compiled loops, a hundred
            times faster for small models on the CPU; they need numba), or auto (fused where it can be, is worth it, and
            nothing looks at single updates).

    Example:
        >>> module = RegressionModule(initialization={"weight": 2.0, "bias": 1.0}, in_features=1, out_features=1)
        >>> module(torch.tensor([[3.0]])).item()
        7.0
    """

    def __init__(
        self,
        lr: float = 0.1,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        l1: float = 0.0,
        loss: Loss = "mse",
        huber_delta: float = 1.0,
        hidden_sizes: list[int] | None = None,
        activation: Activation = "relu",
        bias: bool = True,
        dropout: float = 0.0,
        initialization: Scheme | dict[str, Any] = "auto",
        network: nn.Module | NetworkFactory | None = None,
        in_features: int | None = None,
        out_features: int | None = None,
        optimizer: ClassSpec | None = None,
        lr_scheduler: ClassSpec | None = None,
        engine: EngineChoice = "auto",
    ) -> None:
        super().__init__()
        options: dict[str, Any] = {
            "lr": lr,
            "momentum": momentum,
            "nesterov": nesterov,
            "weight_decay": weight_decay,
            "l1": l1,
            "loss": loss,
            "huber_delta": huber_delta,
            "hidden_sizes": list(hidden_sizes) if isinstance(hidden_sizes, Sequence) else hidden_sizes or [],
            "activation": activation,
            "bias": bias,
            "dropout": dropout,
            "initialization": dict(initialization) if isinstance(initialization, Mapping) else initialization,
            "in_features": in_features,
            "out_features": out_features,
            "optimizer": optimizer,
            "lr_scheduler": lr_scheduler,
            "engine": engine,
        }
        check_options(options)
        # Plain values, saved once and explicitly: they must load in a checkpoint reader that runs no code.
        self.save_hyperparameters(options, logger=False)
        self._given_network = network is not None
        self._configured = False
        self._start: Start | None = None
        self._has_earlier_gradients = False
        self._in_update, self._first_loss = False, cast("Tensor | None", None)
        self._resumed_from: dict[str, Any] | None = None
        self._run_engine: RunEngine | None = None
        self._columns: tuple[list[str], list[str]] | None = None  # features and targets, where the data name them
        self.fewest_fused_updates = FEWEST_FUSED_UPDATES
        """Where engine is auto, the fewest updates for which the fused engine is loaded."""
        self._makes_network = not isinstance(network, nn.Module)
        self._make_network = None if isinstance(network, nn.Module) else network
        self.network: nn.Module | None = network if isinstance(network, nn.Module) else None
        self.standardize: Standardize | None = None
        self.log_to_logger = True
        """Whether validation metrics go to the logger as they are; a recorder that writes them itself sets False."""
        # Each has its own sums: torchmetrics shares those of metrics that are equal after the first batch.
        metrics = MetricCollection(
            {"mse": MeanSquaredError(), "mae": MeanAbsoluteError(), "r2": R2()}, compute_groups=False
        )
        self.val_mean_loss, self.test_mean_loss = MeanLoss(), MeanLoss()
        self.val_metrics = metrics.clone(prefix="val_")
        self.test_metrics = metrics.clone(prefix="test_")
        # What a subclass builds may need what its own constructor sets behind this one; it is then made with the data.
        kind = type(self)
        if kind.build_network is RegressionModule.build_network or kind.__init__ is RegressionModule.__init__:
            self.configure_for(None)

    # The network

    def build_network(self, in_features: int, out_features: int) -> nn.Module:
        """Make the network; override this for one of your own, and its checkpoints load without arguments.

        Args:
            in_features: D.
            out_features: K.

        Returns:
            A module from (B, D) to (B, K).
        """
        options = self.hparams
        if self._make_network is not None:
            return self._make_network(in_features, out_features)
        if options["hidden_sizes"]:
            return MLPRegressor(
                in_features,
                out_features,
                options["hidden_sizes"],
                options["activation"],
                options["bias"],
                options["dropout"],
            )
        return LinearRegressor(in_features, out_features, options["bias"])

    def configure_model(self) -> None:
        """Make the network, if that was not done before: Lightning calls this behind the set-up of data and callbacks.

        Raises:
            InputError: The number of features is still not known, or a callback has copied the module without network.
        """
        trainer = self._trainer
        late = self.network is None
        self.configure_for(getattr(trainer, "datamodule", None))
        if trainer is None:
            return
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = CheckedCheckpoints()
        if self.network is None:
            raise InputError(
                "cannot make the network, because the number of features is not known; train with a "
                "RegressionDataModule, or give in_features and out_features"
            )
        if late:
            check_early_copies(trainer, RegressionModule)

    def configure_for(self, data: Any) -> None:
        """Make the network for data, as a Trainer would when it begins to train on them.

        A RegressionDataModule calls this in its set-up, before the callbacks have theirs. A network whose sizes were
        given is made in the constructor; here the layer that standardises and the start are settled.

        Args:
            data: A RegressionDataModule, or another that knows ``in_features`` and ``out_features``; None for sizes
                that were given.

        Raises:
            InputError: The sizes of network and data differ, the start that was asked for does not fit, or the Trainer
                would train otherwise than ``batch_size`` says.
        """
        self._settle_columns(data)
        for name in ("in_features", "out_features"):
            there = getattr(data, name, None)
            if self.hparams[name] is None:
                self.hparams[name] = there
            elif there not in (None, self.hparams[name]):
                raise InputError(
                    f"cannot train a network of {name} {self.hparams[name]} on data with {there}; leave {name} out, or "
                    "make a new module for these data"
                )
        trainer = self._trainer
        if trainer is None:
            self._configure(data)
            return
        fits = trainer.state.fn == "fit"
        if fits:
            check_trainer(trainer)
        # Lightning sets the default dtype of the run around configure_model only.
        with trainer.precision_plugin.module_init_context():
            self._configure(data)
            if fits and not self._given_network:
                self.to(torch.get_default_dtype())  # it may have trained in another precision
        if fits and self.standardize is None and getattr(data, "standardize", False) and self.network is not None:
            raise InputError(
                "cannot standardize for this model, because its weights are those of features as they are; set "
                "standardize to false, or make a new module"
            )

    def _configure(self, data: Any) -> None:
        """Make what is not there yet, in the default dtype."""
        if self._start is not None and self.network is not None and self._start.is_left_by(self.network):
            # Weights that were loaded or set are those of features as they are.
            self._start, self._configured = None, True
        # Later data, to test on for example, do not change how the features of this model are standardised.
        if not self._configured and hasattr(data, "standardization"):
            # To centre the features of a model without biases would force its prediction at their mean to be 0.
            self.standardize = data.standardization(**({} if self.hparams["bias"] else {"centred": False}))
        if self._start is not None and self.network is not None:
            self._start.draw_again(self.network, self._initialized_network)
        makes = self.network is None and None not in (self.hparams["in_features"], self.hparams["out_features"])
        if makes:
            self.network = from_seed(self._initialized_network, start_seed())
        if makes or self._start is not None:
            self.to(torch.get_default_dtype())  # Lightning sets it to the precision of the run
            self._set_start(getattr(data, "problem", None))
        if self.standardize is not None:
            self.standardize.to(torch.get_default_dtype())
        if self.network is not None and next(self.network.parameters(), None) is None:
            raise InputError(
                f"cannot train {type(self.network).__name__}, because it has no parameters; give a network that has "
                "some"
            )
        is_settled = self.network is not None and (data is not None or self._trainer is not None)
        self._configured = self._configured or is_settled
        if self.network is None or is_settled:
            self._start = None
        elif makes or self._start is not None:
            self._start = Start(self.network)

    def _settle_columns(self, data: Any) -> None:
        """Have later data give the columns that the weights belong to, by name."""
        if self._columns is None:
            self._columns = getattr(data, "column_names", None)
        elif hasattr(data, "take_columns"):
            data.take_columns(*self._columns)

    def _initialized_network(self) -> nn.Module:
        network = self.build_network(self.hparams["in_features"], self.hparams["out_features"])
        scheme = self.hparams["initialization"]
        if isinstance(scheme, str) and scheme != "auto":
            initialize(network, scheme)
        return network

    def _set_start(self, problem: object) -> None:
        """Set given or prescribed values, which are in original units; they are kept in full precision."""
        values, network = self.hparams["initialization"], self.network
        linear = isinstance(network, LinearRegressor)
        if isinstance(values, Mapping):
            if not linear:
                raise InputError(
                    "cannot start at given values, because only a linear regressor has a weight and a bias to set; "
                    "leave hidden_sizes empty, or choose another initialization"
                )
            start: Affine | None = given_start(values)
        else:
            start = problem.start if values == "auto" and linear and isinstance(problem, Problem) else None
            if start is not None and self.hparams["bias"] is False:
                start = Affine(start.weight)
        if start is not None:
            assert isinstance(network, LinearRegressor)
            if self.standardize is not None:
                weight = start.weight.broadcast_to(network.weight.shape)
                start = Affine(weight, start.bias).before(self.standardize.mean, self.standardize.scale)
            set_parameters(network, start)

    def forward(self, x: Tensor) -> Tensor:
        """Predict from features x of shape (B, D) in original units; returns (B, K).

        Raises:
            InputError: There is no network yet.
            ShapeError: What the network returns is no tensor.
        """
        if self.network is None:
            raise InputError(
                "cannot predict before the network is made; train first, or give in_features and out_features"
            )
        prediction: Tensor = self.network(self.features_of_network(x))
        check_prediction(prediction)
        return prediction

    def affine(self) -> Affine | None:
        """Return the parameters of a linear regressor in original units; None for other networks."""
        if not isinstance(self.network, LinearRegressor):
            return None
        affine = self.network.affine()
        return affine if self.standardize is None else affine.after(self.standardize.mean, self.standardize.scale)

    # The loss

    def summed_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Sum this module's loss over samples and outputs, both of shape (B, K); penalties are not part of it."""
        return summed_loss(prediction, target, self.hparams["loss"], self.hparams["huber_delta"])

    def measured_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Sum the loss as it is reported: in float64, so that neither squares nor sums lose digits of the residuals.

        A ``summed_loss`` of a subclass is given the tensors as they are.
        """
        if own_method(self, RegressionModule, ["summed_loss"]):
            return self.summed_loss(prediction, target)
        return self.summed_loss(in_float64(prediction), in_float64(target))

    def train_loss(self) -> float | None:
        """Return the loss at the present weights over all training samples, where compiled code measures it.

        Returns:
            The loss; None where a pass over the samples with :meth:`forward` takes no longer.
        """
        return None if self._run_engine is None else self._run_engine.train_loss()

    @property
    def decision(self) -> Decision:
        """What carries out the updates, and why; settled when training begins."""
        return Decision("autograd", in_chunks=False) if self._run_engine is None else self._run_engine.decision

    @property
    def needs_whole_batches(self) -> str:
        """Why batches cannot be split into micro-batches; empty where they can."""
        if type(self).training_step is not RegressionModule.training_step:
            return f"{type(self).__name__} has a training step of its own"
        mixing = [type(part).__name__ for part in self.modules() if isinstance(part, _BatchNorm)]
        return f"{mixing[0]} mixes the samples of a batch" if mixing else ""

    def training_step(self, batch: tuple[Tensor, Tensor] | MicroBatches | Chunk, batch_idx: int) -> dict[str, Tensor]:
        """Return the loss that an update descends, and the batch loss in it.

        The updates of a chunk are made here, by the engine of the run. Of a batch in micro-batches, the gradients
        of all parts but the last are computed here, one part after the other; the returned loss has the value of the
        whole, and the gradient of the last part.
        """
        if self._trainer is not None:
            check_accumulation(self._trainer)
        if isinstance(batch, Chunk):
            if self._run_engine is not None and self._run_engine.in_chunks:
                return self._run_engine.carry_out(batch)
            batch = batch.batch(0)  # of one update, planned before the engine was chosen again
        if isinstance(batch, MicroBatches):
            batch_loss = self._descend_parts(batch, batch_idx)
            loss = self._penalized(batch_loss)
        else:
            loss, batch_loss = self.losses_of_update(*batch, batch_idx)
        if self._in_update:  # LBFGS asks again within an update, whose batch loss is the one that it starts from
            self._first_loss = batch_loss.detach() if self._first_loss is None else self._first_loss
            return {"loss": loss, "batch_loss": self._first_loss}
        return {"loss": loss, "batch_loss": batch_loss.detach()}

    def _penalized(self, batch_loss: Tensor) -> Tensor:
        if not self.hparams["l1"]:
            return batch_loss
        weights = [p for name, p in self.named_parameters() if p.ndim > 1]
        penalty: Tensor = self.hparams["l1"] * torch.stack([weight.abs().sum() for weight in weights]).sum()
        return batch_loss + penalty

    def losses_of_update(self, x: Tensor, y: Tensor, batch_idx: int = 0) -> tuple[Tensor, Tensor]:
        """Return the loss that an update over samples x (B, D) and y (B, K) descends, and the batch loss in it."""
        batch_loss = self.summed_loss(self(x), y) * self._weight(x, y, batch_idx)
        return self._penalized(batch_loss), batch_loss

    def _descend_parts(self, batch: MicroBatches, batch_idx: int) -> Tensor:
        optimizer = self.trainer.optimizers[0]
        optimizer.zero_grad()
        earlier = None
        for i in range(batch.count):
            x, y = batch.part(i)
            part = self.summed_loss(self(x), y) * self._weight(x, y, batch_idx, batch.samples)
            if i == batch.count - 1:
                break
            # The strategy scales the loss where the precision needs it. It does not yet share gradients among
            # processes: that is prepared behind the training step, for the last part.
            with torch.autocast(self.device.type, enabled=False):
                self.trainer.strategy.backward(part, optimizer)
            earlier = part.detach() if earlier is None else earlier + part.detach()
        self._has_earlier_gradients = earlier is not None
        return part if earlier is None else part + earlier

    def _weight(self, x: Tensor, y: Tensor, batch_idx: int, local: int | None = None) -> float:
        """Return what makes the sum over some samples of a batch their share of the mean over the batch.

        DDP averages the gradients of the processes. A sum over the local samples, divided by the samples of the whole
        batch and multiplied by the number of processes, makes that average the gradient of the mean over the batch.

        Args:
            x: Features of the samples.
            y: Their targets, shape (n, K).
            batch_idx: Which batch of the epoch.
            local: Samples of the batch in this process; None: those of x.
        """
        variant = getattr(self.trainer.train_dataloader, "variant", None) if self._trainer is not None else None
        if isinstance(variant, Variant) and self.trainer.world_size > 1:
            return self.trainer.world_size / (variant.size_of(batch_idx) * y.shape[1])
        return 1 / ((len(x) if local is None else local) * y.shape[1])

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Clear the gradients, but for those of earlier parts of the same batch."""
        if not self._has_earlier_gradients:
            super().optimizer_zero_grad(epoch, batch_idx, optimizer)
        self._has_earlier_gradients = False

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Callable[[], Any] | None = None
    ) -> None:
        """Make an update; those of a chunk are made by its engine."""
        if self._run_engine is not None and self.decision.one_by_one:  # the chunk of one update was planned before
            self._run_engine.choose_again_if_changed()
        if self._run_engine is None or not self._run_engine.in_chunks:
            self._in_update, self._first_loss = True, None
            try:
                with overflow_to_nan(optimizer):
                    super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
            finally:
                self._in_update, self._first_loss = False, None
        elif isinstance(optimizer_closure, Closure):
            # The engine has gradients of its own, or needs none.
            optimizer_closure._zero_grad_fn = optimizer_closure._backward_fn = None
            optimizer_closure()

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute.

        Lightning notes the name of each of its hooks, some thirty of them an epoch; to look for parameters in each
        takes a sixth of the time of a short epoch.
        """
        if name == "_current_fx_name":
            vars(self)[name] = value
        else:
            super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to a run, as Lightning does with its Trainer, where a copy is made within it."""
        return {**super().__getstate__(), "_run_engine": None}

    # Training

    def on_fit_start(self) -> None:
        """Check what a checkpoint has of optimisers and schedulers, now that they are made.

        Raises:
            InputError: It is of others, or damaged.
        """
        if self._resumed_from is not None:
            check_optimizers(self.trainer, self._resumed_from)

    def on_train_start(self) -> None:
        """Continue exactly where a checkpoint was written, and choose what carries out the updates."""
        if self._resumed_from is not None:
            resume_position(self.trainer, self._resumed_from)
            self._resumed_from = None
        self._try_update()
        self._run_engine = RunEngine(self.trainer, self, RegressionModule)

    def on_train_epoch_start(self) -> None:
        """Choose again what carries out the updates, if anything has changed that this depends on."""
        check_accumulation(self.trainer)  # callbacks may have changed it
        if self._run_engine is not None:
            self._run_engine.begin_epoch()

    def on_train_end(self) -> None:
        """Let go of the data."""
        if self._run_engine is not None:
            self._run_engine.release()

    def _try_update(self) -> None:
        """See whether a network of one's own can be trained, before it is."""
        loader: Any = self.trainer.train_dataloader
        is_known = isinstance(self.network, (LinearRegressor, MLPRegressor))
        is_known = is_known and not own_method(self, RegressionModule, _LOSSES)
        own_step = own_method(self, RegressionModule, ("training_step",))
        if is_known or own_step or not hasattr(loader, "samples"):
            return
        precision = self.trainer.precision_plugin.forward_context()
        try_update(self, self.summed_loss, loader.samples.take, loader.variant, loader.micro_batch_size, precision)

    def features_of_network(self, x: Tensor) -> Tensor:
        """Return what the network itself is given for features x of shape (N, D) in original units."""
        assert self.network is not None
        # Features may come in another precision: in float64 to be standardised, or of a picture, outside of a Trainer.
        own = next((p.dtype for p in self.network.parameters() if p.is_floating_point()), x.dtype)
        if self.standardize is not None:
            return self.standardize.standardized(x).to(x.device, own)
        return x.to(own) if x.is_floating_point() else x

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Make the optimiser, SGD unless another is given, and the scheduler if one is given.

        Raises:
            InputError: The network has nothing to train.
        """
        options, parameters = self.hparams, [p for p in self.parameters() if p.requires_grad]
        if not parameters:
            raise InputError(
                "cannot train this network, because none of its parameters is to be trained; give it parameters that "
                "require a gradient"
            )
        if options["optimizer"] is None:
            optimizer: Optimizer = SGD(
                parameters,
                lr=options["lr"],
                momentum=options["momentum"],
                nesterov=options["nesterov"],
                weight_decay=options["weight_decay"],
            )
        else:
            spec = options["optimizer"]
            optimizer = class_of(spec, Optimizer)(parameters, **{"lr": options["lr"], **spec.get("init_args", {})})
        if options["lr_scheduler"] is None:
            return optimizer
        spec = options["lr_scheduler"]
        scheduler = class_of(spec, LRScheduler)(optimizer, **spec.get("init_args", {}))
        config: Any = {"scheduler": scheduler}
        if hasattr(scheduler, "monitor"):
            config["monitor"] = scheduler.monitor
        return {"optimizer": optimizer, "lr_scheduler": config}

    # Validation, test, prediction

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Measure loss, MSE, MAE and R2 on validation data."""
        self._measure("val", self.val_mean_loss, self.val_metrics, *batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Measure loss, MSE, MAE and R2 on test data."""
        self._measure("test", self.test_mean_loss, self.test_metrics, *batch)

    def _measure(self, stage: str, mean: MeanLoss, metrics: MetricCollection, x: Tensor, y: Tensor) -> None:
        prediction = self(x)
        mean.update(self.measured_loss(prediction, y), y.numel())
        metrics.update(prediction, y)
        # None is Lightning's default: to the logger if there is one, and into what validate() and test() return.
        to_logger = None if self.log_to_logger or self.trainer.state.fn != "fit" else False
        self.log(f"{stage}_loss", mean, logger=to_logger)
        self.log_dict(metrics, logger=to_logger)

    def predict_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """Predict at x of shape (B, D); returns (B, K)."""
        prediction = self(batch)
        assert isinstance(prediction, Tensor)
        return prediction

    # Checkpoints and weights

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the parameters with their names, as of any ``torch.nn.Module``.

        Raises:
            InputError: There is no network yet, so that whoever asks would do nothing, or fail in other words.
        """
        empty = True
        for named in super().named_parameters(prefix, recurse, remove_duplicate):
            empty = False
            yield named
        if empty and recurse and self.network is None:
            raise InputError(
                "cannot use the parameters before the network is made; give the model in_features and out_features, or "
                "train with a RegressionDataModule first"
            )

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load weights, into a module that has not trained yet, too; later data do not change where it starts.

        Args:
            state_dict: What ``state_dict()`` of a module with the same options has returned.
            strict: Whether all names must be there and no others, as torch defines it.
            assign: Whether the tensors themselves are taken.

        Raises:
            WeightsError: They are not those of such a module.
            InputError: The number of features is not known.
        """
        if self.network is None and any(name.startswith("network.") for name in state_dict):
            self.configure_for(None)
            if self.network is None:
                raise InputError(
                    "cannot load weights before the network is made; give the model in_features and out_features, or "
                    "use RegressionModule.load_from_checkpoint"
                )
        self._take_standardization(state_dict)
        self._start, self._configured = None, self.network is not None
        if mismatch := weights_mismatch(self.state_dict(), state_dict, strict):
            raise WeightsError(f"cannot load these weights, because {mismatch}; give those of such a model")
        return super().load_state_dict(state_dict, strict, assign)

    def _take_standardization(self, state: Mapping[str, Any]) -> None:
        """Make the layer that standardises if these weights have one; its values are loaded with them."""
        mean, scale = state.get("standardize.mean"), state.get("standardize.scale")
        if self.standardize is None and isinstance(mean, Tensor) and isinstance(scale, Tensor):
            self.standardize = Standardize(mean.clone(), scale.clone())

    @classmethod
    def load_from_checkpoint(
        cls: type[_Module],
        checkpoint_path: Any,
        map_location: Any = None,
        hparams_file: Any = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        **kwargs: Any,
    ) -> _Module:
        """Make the module of a checkpoint again, as Lightning does.

        Args:
            checkpoint_path: A local checkpoint file, or an open one.
            map_location: Where its tensors go, as ``torch.load`` takes it.
            hparams_file: A file with other hyperparameters.
            strict: Whether all weights must be there and no others.
            weights_only: False for a file of your own that holds more than plain values and tensors.
            kwargs: Arguments that replace saved ones.

        Raises:
            InputError: It cannot be read, or does not hold what it has to.
        """
        if isinstance(checkpoint_path, (str, Path)) and weights_only is not False:
            check_checkpoint(read_checkpoint(Path(checkpoint_path)), Path(checkpoint_path))
        loaded = super().load_from_checkpoint(
            checkpoint_path, map_location, hparams_file, strict, weights_only, **kwargs
        )
        assert isinstance(loaded, cls)
        return loaded

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add where the run stands, and whether the network was given, so that only whoever gave it can make it."""
        checkpoint[_GIVEN_NETWORK] = None if not self._given_network else type(self.network).__name__
        checkpoint[_COLUMNS] = None if self._columns is None else list(self._columns)
        save_position(self.trainer, checkpoint)
        of_callbacks = [state for state in checkpoint.get("callbacks", {}).values() if isinstance(state, dict)]
        for state in (*checkpoint.get("lr_schedulers", []), *(each.get("scheduler_state") for each in of_callbacks)):
            # A scheduler makes its functions again, and they are no plain values: in torch 2.6, SWALR has one.
            for name in [name for name, value in (state or {}).items() if callable(value)]:
                del state[name]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make what the checkpoint's tensors are loaded into: network and layer that standardises, in their precision.

        Raises:
            InputError: The network was given, and is not given now; or a run is continued with other options; or the
                checkpoint is damaged.
        """
        path = checkpoint_path(self._trainer)
        if self._trainer is not None:  # else load_from_checkpoint has checked it, and added what it was given
            check_checkpoint(checkpoint, path)
            check_callbacks(self.trainer, checkpoint)
        if self._trainer is not None and self.trainer.state.fn == "fit":
            check_continuable(checkpoint, path)
            self._refuse_other_options(checkpoint)
            settle_position(checkpoint)
            self._resumed_from = checkpoint
        match checkpoint.get(_COLUMNS):
            case [list(features), list(targets)]:
                self._columns = features, targets
        given = checkpoint.get(_GIVEN_NETWORK)
        if given is not None and not self._given_network:
            raise InputError(
                f"cannot load this checkpoint, because it holds a network of your own, {given}; give network="
            )
        # A subclass need not take the sizes as arguments; they are known all the same.
        sizes = {name: self._size_in(checkpoint, name) for name in ("in_features", "out_features")}
        if self._makes_network and any(self.hparams[name] not in (None, size) for name, size in sizes.items()):
            self.network = self.standardize = None  # they were made for the columns that the data have now
            self._configured = False
            data: Any = getattr(self._trainer, "datamodule", None)
            if _COLUMNS not in checkpoint and hasattr(data, "take_row_numbers"):
                self._columns = None
                data.take_row_numbers()
        self.hparams.update(sizes)
        self.configure_model()
        state = checkpoint["state_dict"]
        self._take_standardization(state)
        if self._trainer is not None:
            check_weights(self.state_dict(), state, self.strict_loading, path)
        floating = [p.dtype for name, p in state.items() if p.is_floating_point() and name.startswith("network.")]
        if self._trainer is None and floating:
            self.to(floating[0])
        elif self._trainer is not None and self.trainer.precision == "64-true":
            self.double()  # Lightning loads before it converts, which rounds what a network that was given takes

    def _size_in(self, checkpoint: Mapping[str, Any], name: str) -> int | None:
        """Return the number of features or outputs that a checkpoint names."""
        size = checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY].get(name)
        if not (size is None or (type(size) is int and size > 0)):
            raise InputError(
                f"cannot load this checkpoint, because its {name} is {kind_of(size)}; give another one, or train again"
            )
        return size

    def _refuse_other_options(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to continue a run with another algorithm: Lightning would take the old lr, and the new batches."""
        data = getattr(self.trainer, "datamodule", None)
        for part, key in ((self, self.CHECKPOINT_HYPER_PARAMS_KEY), (data, "datamodule_hyper_parameters")):
            given, before = dict(getattr(part, "hparams", {})), checkpoint.get(key, {})
            for name in sorted(set(given) & set(before) - _FREE):
                if not _is_same(given[name], before[name]):
                    raise InputError(
                        f"cannot continue with {name} {given[name]}, because the run was made with {before[name]}; "
                        "leave it as it was, or train anew without the checkpoint"
                    )


def _is_same(value: object, other: object) -> bool:
    """Whether two options are equal; tensors, which a damaged checkpoint may hold, are none."""
    return is_plain(other) and value == other


# Of these, a run may take others when it is continued.
_FREE = {"in_features", "out_features", "micro_batch_size", "predict_inputs", "engine"}
