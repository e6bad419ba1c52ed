"""The ``LightningModule``: a regressor, its loss and its optimiser (layer 4).

Letters: B samples of a batch, D features, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer

from gd_lightning.engine import Chunk
from gd_lightning.float64 import in_float64
from gd_lightning.lightning_internals import frame_without_callers, run_without_backward
from gd_lightning.losses import HUBER_DELTA, Loss, summed_loss, summed_loss_in_units
from gd_lightning.micro_batches import MicroBatches
from gd_lightning.models import Activation, LinearRegressor, MLPRegressor, Scheme
from gd_lightning.module.engine_choice import FEWEST_FUSED_UPDATES, Decision, EngineChoice, own_method
from gd_lightning.module.first_update import try_gradient
from gd_lightning.module.metrics import ErrorSums, MeanLoss, regression_metrics
from gd_lightning.module.network import NetworkFactory
from gd_lightning.module.network_checkpoints import CheckpointedModule
from gd_lightning.module.optimizers import make_optimizers
from gd_lightning.module.options import ClassSpec, plain_options
from gd_lightning.module.run_engine import RunEngine
from gd_lightning.module.trainer_checks import check_accumulation
from gd_lightning.module.training_step import UpdateState, descend_parts, weight_in_mean, with_l1
from gd_lightning.module.validation import Validation, measure_errors
from gd_lightning.threads import one_thread_if
from gd_lightning.torch_internals import has_global_hooks, has_hooks, mixes_samples


class RegressionModule(CheckpointedModule):
    """A linear or multilayer-perceptron regressor, trained by gradient descent.

    The data determine the numbers of features and outputs. The batch loss is the mean over the samples of a batch and
    over outputs, so an update is theta <- theta - lr * gradient of that mean, whatever the batch size, and however a
    batch is shared among processes.

    The initial weights depend only on the seed last set by ``seed_everything`` or ``torch.manual_seed``, not on the
    state of the generator: compared variants start from the same weights, whatever random numbers were drawn before.
    This seed is shared by all threads; :func:`~gd_lightning.starting_from` gives a thread one of its own.

    Args:
        lr: Learning rate. On the command line and in Python's ``fit``, ``plan`` and ``compare``, that of a network on
            standardised data is, if none is given, 0.1 * batch_size / 32 for batch sizes below 32.
        momentum: Momentum of SGD, as torch defines it: v <- momentum * v + gradient.
        nesterov: Nesterov's form of the momentum.
        weight_decay: L2 penalty; adds weight_decay * theta to the gradient of every parameter, as torch does.
        l1: L1 penalty; adds l1 * sum(abs(weights)) to the loss of every update, whatever its batch size. Biases
            are not penalised.
        loss: A name in ``gd_lightning.losses.LOSSES``, such as mse (squared error, no factor 1/2), mae (absolute error)
            and huber; all are means over samples and outputs.
        huber_delta: Absolute error at which the Huber loss becomes linear, in units of the targets that are trained on:
            in standard deviations of each where targets are standardised.
        hidden_sizes: Widths of the hidden layers of an MLP; empty for a linear regressor.
        activation: Activation of the hidden layers.
        bias: Whether layers have biases; without them, the prediction of a linear regressor at x = 0 is 0, also with
            standardised features.
        dropout: Probability that a hidden unit is left out in training.
        initialization: auto (the start that the problem prescribes, else default), default (PyTorch's), zero, normal,
            xavier, he, or given values of a linear regressor in original units, such as {weight: -10, bias: -20}.
        network: Your own network instead: a module, or a class or function that takes D and K and returns a module.
        in_features: D, if no RegressionDataModule provides it. With both sizes the network is made in the constructor,
            so that weights can be loaded or passed to an optimiser before there are data.
        out_features: K, if no RegressionDataModule provides it.
        optimizer: Another optimiser than SGD, as {class_path: torch.optim.Adam, init_args: {...}}; its lr is this lr
            unless it has its own. In Python, configure_optimizers can be overridden instead.
        lr_scheduler: A scheduler that is stepped at each epoch's end, given in the same form.
        engine: How updates are computed, with the same results within rounding: autograd (PyTorch), fused (compiled
            loops, a hundred times faster for small models on the CPU; needs numba), or auto (fused if it is supported,
            nothing needs each update separately, and it is faster; some 1,500 small updates end before compiled code is
            loaded). The choice depends only on the run, not on whether code was compiled before, so the same run has
            bitwise the same results again.

    Example:
        >>> import torch
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
        huber_delta: float = HUBER_DELTA,
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
        options = plain_options(locals())
        super().__init__(network)
        self.save_hyperparameters(options, logger=False, frame=frame_without_callers())
        self.fewest_fused_updates = FEWEST_FUSED_UPDATES
        """With engine auto, the smallest number of updates of a small network for which the fused engine is loaded."""
        self.log_to_logger = True
        """Whether validation metrics are logged by the module; a recorder that writes them itself sets False."""
        self._updates = UpdateState()
        self.val_mean_loss, self.test_mean_loss = MeanLoss(), MeanLoss()
        self.val_metrics, self.test_metrics = regression_metrics("val_"), regression_metrics("test_")
        # build_network of a subclass may need attributes set later in its constructor; the network is then made with
        # the data.
        kind = type(self)
        if kind.build_network is RegressionModule.build_network or kind.__init__ is RegressionModule.__init__:
            self.configure_for(None)

    # The loss

    def summed_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the loss summed over samples and outputs of predictions and targets (B, K), without penalties.

        In training, if targets are standardised, predictions and targets are in standardised units.

        Args:
            prediction: Shape (B, K).
            target: Shape (B, K).
        """
        return summed_loss(prediction, target, self.hparams["loss"], self.hparams["huber_delta"])

    def measured_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the summed loss in float64, for reports, so that squares and sums keep all digits of the residuals.

        Predictions and targets are in original units, and so is the loss; see ``summed_loss_in_units``. A
        ``summed_loss`` overridden in a subclass receives the tensors unconverted.

        Args:
            prediction: Shape (B, K).
            target: Shape (B, K).
        """
        if own_method(self, RegressionModule, ["summed_loss"]):
            return self.summed_loss(prediction, target)
        prediction, target, layer = in_float64(prediction), in_float64(target), self.standardize_targets
        if layer is None:
            return self.summed_loss(prediction, target)
        scale, options = layer.scale.to(prediction.device), self.hparams
        return summed_loss_in_units(prediction / scale, target / scale, scale, options["loss"], options["huber_delta"])

    def trained_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the summed loss that updates minimise, from predictions and targets in original units, (B, K).

        It is :meth:`summed_loss` where targets are not standardised, else that of the standardised ones.

        Args:
            prediction: Shape (B, K).
            target: Shape (B, K).
        """
        return self.summed_loss(self.targets_of_network(prediction), self.targets_of_network(target))

    def summed_losses(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the summed loss that an update minimises, and the one that is reported, in original units.

        Args:
            x: Features, shape (B, D).
            y: Targets, shape (B, K).
        """
        layer = self.standardize_targets
        if layer is None:
            trained = self.summed_loss(self(x), y)
            return trained, trained
        target = self.targets_of_network(y)
        is_plain = not (own_method(self, RegressionModule, ["forward"]) or has_hooks(vars(self)) or has_global_hooks())
        prediction = self.prediction_of_network(x) if is_plain else self.targets_of_network(self(x))
        trained = self.summed_loss(prediction, target)
        if own_method(self, RegressionModule, ["summed_loss"]):
            with torch.no_grad():
                return trained, self.summed_loss(layer.original(prediction), y)
        options = self.hparams
        of_loss = options["loss"], options["huber_delta"]
        return trained, summed_loss_in_units(prediction.detach(), target, layer.scale, *of_loss)

    def train_loss(self) -> float | None:
        """Return the mean loss over all training samples at the current weights, computed by compiled code.

        Returns:
            The loss; None if a pass over the samples with ``forward`` is as fast.
        """
        return None if self._updates.engine is None else self._updates.engine.train_loss()

    @property
    def validation(self) -> Validation | None:
        """The validation of a run whose engine sums its errors; None if Lightning makes each validation itself."""
        return None if self._updates.engine is None else self._updates.engine.validation

    # Training

    @property
    def decision(self) -> Decision:
        """The engine that carries out the updates, and the reason; known once training has begun."""
        engine = self._updates.engine
        return Decision("autograd", in_chunks=False) if engine is None else engine.decision

    @property
    def needs_whole_batches(self) -> str:
        """The reason why batches cannot be split into micro-batches; "" if they can be."""
        if type(self).training_step is not RegressionModule.training_step:
            return f"{type(self).__name__} has a training step of its own"
        mixing = [type(part).__name__ for part in self.modules() if mixes_samples(part)]
        return f"{mixing[0]} mixes the samples of a batch" if mixing else ""

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Make the optimiser, SGD unless another is given, and the scheduler if one is given.

        Raises:
            InputError: The network has no trainable parameters.
        """
        return make_optimizers(self, self.hparams)

    def on_train_start(self) -> None:
        """Continue exactly where a checkpoint was written, and choose the engine."""
        super().on_train_start()
        is_known = isinstance(self.network, (LinearRegressor, MLPRegressor))
        is_known = is_known and not own_method(self, RegressionModule, ("forward", "summed_loss"))
        loader: Any = self.trainer.train_dataloader
        is_tried = not (is_known or own_method(self, RegressionModule, ("training_step",)))
        if is_tried and hasattr(loader, "samples"):  # loaders of other data modules have no samples
            with self.trainer.precision_plugin.forward_context():
                try_gradient(self, self.trained_loss, loader.variant, loader.samples.take, loader.micro_batch_size)
        self._updates.engine = RunEngine(self.trainer, self, RegressionModule)

    def on_train_epoch_start(self) -> None:
        """Choose the engine again if a condition of the choice has changed."""
        check_accumulation(self.trainer)  # callbacks may have changed accumulate_grad_batches
        if self._updates.engine is not None:
            self._updates.engine.begin_epoch()

    def on_train_end(self) -> None:
        """Release the data held by the engine."""
        if self._updates.engine is not None:
            self._updates.engine.release()

    def training_step(self, batch: tuple[Tensor, Tensor] | MicroBatches | Chunk, batch_idx: int) -> dict[str, Tensor]:
        """Return the loss to minimise, penalties included, and the batch loss in it.

        The updates of a chunk are made here, by the engine of the run. For a batch in micro-batches, the gradients of
        all parts but the last are computed here, one part after the other; the returned loss has the value of the whole
        batch, and the gradient of the last part.
        """
        updates = self._updates
        if self._trainer is not None:
            check_accumulation(self._trainer)
        if isinstance(batch, Chunk):
            if updates.engine is not None and updates.engine.in_chunks:
                return updates.engine.carry_out(batch)
            batch = batch.batch(0)  # the chunk of one update was planned before the engine was chosen again
        if isinstance(batch, MicroBatches):
            loss, batch_loss, updates.has_earlier_gradients = descend_parts(self, self.summed_losses, batch, batch_idx)
            loss = with_l1(loss, self, self.hparams["l1"])
        else:
            loss, batch_loss = self.losses_of_update(*batch, batch_idx)
        return {"loss": loss, "batch_loss": updates.batch_loss(batch_loss)}

    def losses_of_update(self, x: Tensor, y: Tensor, batch_idx: int = 0) -> tuple[Tensor, Tensor]:
        """Return the loss to minimise over samples x (B, D) and y (B, K), and the batch loss, in original units.

        Args:
            x: Features, shape (B, D).
            y: Targets, shape (B, K).
            batch_idx: Index of the batch in the epoch.
        """
        trained, reported = self.summed_losses(x, y)  # also refuses targets of another shape
        weight = weight_in_mean(self._trainer, y, batch_idx)
        loss = trained * weight
        penalised = with_l1(loss, self, self.hparams["l1"])
        return penalised, loss if reported is trained else reported * weight

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Clear the gradients, except those of earlier parts of the same batch."""
        if not self._updates.has_earlier_gradients:
            super().optimizer_zero_grad(epoch, batch_idx, optimizer)
        self._updates.has_earlier_gradients = False

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Callable[[], Any] | None = None
    ) -> None:
        """Make an update; the engine has already made those of a chunk."""
        engine = self._updates.engine
        if engine is not None and engine.decision.one_by_one:  # the chunk of one update was planned before
            engine.choose_again_if_changed()
        with one_thread_if(engine is not None and engine.in_one_thread):
            if engine is not None and engine.in_chunks:
                run_without_backward(optimizer_closure)  # the engine has gradients of its own, or needs none
            else:
                with self._updates.update(optimizer):
                    super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)

    # Validation and test

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Measure loss, MSE, MAE and R2 on validation data."""
        measure_errors(self, "val", *batch, self._updates.engine)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Measure loss, MSE, MAE and R2 on test data."""
        measure_errors(self, "test", *batch)

    def errors_of_validation(self, x: Tensor, y: Tensor) -> ErrorSums:
        """Return the sums of errors of samples x (B, D) and y (B, K).

        Args:
            x: Features, shape (B, D).
            y: Targets, shape (B, K).
        """
        prediction = self(x)
        return ErrorSums.of(prediction, y, self.measured_loss(prediction, y))
