"""Sharpness, gradient noise scale and alignment of any network while it trains."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from numpy.typing import NDArray
from torch import Tensor, nn

from gd_lightning.callbacks.history_columns import Measuring
from gd_lightning.callbacks.trainer_info import learning_rate, loss_of
from gd_lightning.data import BatchLoader
from gd_lightning.data.samples import Samples
from gd_lightning.engine import ChunkRequest
from gd_lightning.errors import InputError
from gd_lightning.float64 import NOT_COMPUTABLE
from gd_lightning.module import RegressionModule, predicting_part, trained_loss_of
from gd_lightning.theory import LocalCurvature, NetworkLoss, drawn_evenly, largest_stable_lr
from gd_lightning.theory.gradient_noise_scale import gradient_noise_scale, gradient_variance
from gd_lightning.theory.network_curvature import SummedLoss
from gd_lightning.threads import one_thread_if
from gd_lightning.update_rule import UpdateRule

NOT_KNOWN: tuple[type[Exception], ...] = (*NOT_COMPUTABLE, InputError)
"""Raised where the curvature of a network, such as one that has diverged, is not known."""

_FEWEST = 100  # the smallest number of samples, however many parameters there are
_AT_ONCE = 2**18  # entries of the gradients of single samples that are computed at a time
_NEAR = 0.8, 1.25  # fractions of the limit between which a run is at the edge of stability
_FAR = 4.0  # ratio of noise scale to batch size from which a larger batch is advised


class SharpnessMonitor(Measuring):
    """Measures the largest eigenvalue of the Hessian while any network trains, against what its learning rate allows.

    With a :class:`~gd_lightning.HistoryRecorder` it records, at the ends of epochs or every so many updates:

    - ``sharpness``: the largest eigenvalue of the Hessian of the train loss, by Lanczos' method, plus the weight decay;
    - ``sharpness_limit``: 2 (1 + mu) / lr, with Nesterov's momentum 2 (1 + mu) / ((1 + 2 mu) lr): above it an error in
      the sharpest direction grows. In batch gradient descent the sharpness rises to it and stays there, at the edge of
      stability;
    - ``gradient_noise_scale``: the batch size at which the noise of the gradient is as large as the gradient;
    - ``gradient_alignment``: the share of the gradient along the sharpest direction, from 0 to 1.

    Measurements are without dropout, and do not affect training. At the end, advice on the learning rate and the batch
    size is given.

    Sources: Cohen, Kaur, Li, Kolter and Talwalkar, Gradient descent on neural networks typically occurs at the edge of
    stability, ICLR 2021, https://arxiv.org/abs/2103.00065; McCandlish, Kaplan, Amodei et al., An empirical model of
    large-batch training, 2018, https://arxiv.org/abs/1812.06162.

    Args:
        every_n_epochs: Number of epochs between two measurements; None: 1, unless there is a number of updates.
        announce: Function called with the advice at the end; None: Lightning's information log.
        every_n_updates: Number of updates between two measurements, instead of a number of epochs.

    Raises:
        InputError: The interval is below 1, or both are given.
    """

    max_chunk_seconds = math.inf
    max_numbers: int = 10**7
    """The largest product of samples and parameters for the sharpness; of more samples, a subset is used."""
    max_gradients: int = 10**6
    """The largest product of samples and parameters from which the noise scale is computed."""

    def __init__(
        self,
        every_n_epochs: int | None = None,
        announce: Callable[[str], None] | None = None,
        every_n_updates: int | None = None,
    ) -> None:
        if every_n_epochs is not None and every_n_updates is not None:
            raise InputError(
                "cannot measure every so many epochs and every so many updates, because one of them decides; use "
                "every_n_epochs or every_n_updates"
            )
        for every, what in ((every_n_epochs, "epochs"), (every_n_updates, "updates")):
            if every is not None and every < 1:
                raise InputError(f"cannot measure every {every} {what}; use a whole number from 1")
        self.every_n_epochs = every_n_epochs or 1
        self.every_n_updates = every_n_updates
        self.updates_between_hooks = every_n_updates or 0
        self.announce = rank_zero_info if announce is None else announce
        self.newest: dict[str, float] = {}
        """The last measurements by name."""
        self._measured_at = -1

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Reset the state of an earlier run."""
        if stage == "fit":
            self.newest, self._measured_at = {}, -1

    def chunk_request(self, trainer: Trainer) -> ChunkRequest:
        """Request an end of the chunk at the next measurement."""
        if self.every_n_updates is not None:  # a chunk of updates ends at the hook
            return ChunkRequest()
        return ChunkRequest(epochs=self.every_n_epochs - _epochs(trainer) % self.every_n_epochs)

    def _is_due(self, trainer: Trainer) -> bool:
        if trainer.global_step == self._measured_at:  # at the update where a run stops, this is called again
            return False
        if self.every_n_updates is not None:
            return trainer.global_step % self.every_n_updates == 0
        return _epochs(trainer) % self.every_n_epochs == 0

    def measure_at(self, *_: Any) -> dict[str, NDArray[np.float64]]:
        """Measure nothing after earlier updates, whose weights are not kept."""
        return {}

    @one_thread_if(True)
    def measure(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float]:
        """Measure at the current weights."""
        loader = trainer.train_dataloader
        if not isinstance(loader, BatchLoader) or not self._is_due(trainer):
            return {}
        self._measured_at = trainer.global_step
        try:
            found = self._measured(trainer, pl_module, loader.samples)
        except NOT_KNOWN:
            return {}
        if not all(map(math.isfinite, found.values())):
            return {}
        self.newest = found
        return found

    def _measured(self, trainer: Trainer, module: LightningModule, samples: Samples) -> dict[str, float]:
        rule = rule_of(trainer)
        loss = network_loss(predicting_part(module), descended_loss(module), samples, self.max_numbers)
        gradient = loss.gradient()[1]
        sharpness, direction = loss.sharpest()
        found = {"sharpness": sharpness + rule.weight_decay, "sharpness_limit": largest_stable_lr(1.0, rule) / rule.lr}
        if (squared := gradient.square().sum().item()) > 0:
            found["gradient_alignment"] = abs((gradient @ direction).item()) / math.sqrt(squared)
            drawn = _thinned(samples, self.max_gradients, loss.n_parameters)
            pieces = drawn.pieces(max(1, _AT_ONCE // loss.n_parameters))
            norms = torch.cat([loss.of_samples(x.cpu(), y.cpu(), most=1)[1] for x, y in pieces])
            found["gradient_noise_scale"] = gradient_noise_scale(gradient_variance(norms, squared), squared)
        return found

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the advice."""
        if advice := self.advice(trainer):
            self.announce(advice)

    def advice(self, trainer: Trainer) -> str:
        """Return advice from the last measurements, in a sentence; "" without measurements.

        Args:
            trainer: The Trainer.
        """
        loader = trainer.train_dataloader
        if not self.newest or not isinstance(loader, BatchLoader):
            return ""
        sharpness, limit = self.newest["sharpness"], self.newest["sharpness_limit"]
        share, batch_size = sharpness / limit, loader.variant.batch_size
        said = f"The sharpness is {sharpness:.3g}, and the learning rate is stable up to {limit:.3g}"
        if _NEAR[0] <= share:
            where = "at the edge of stability" if share <= _NEAR[1] else "above it"
            said += f", so the run is {where}: a smaller lr does not oscillate, and leads to a sharper minimum"
        elif loader.variant.name == "batch" and share > 0:
            said += f", so an lr up to {1 / share:.2g} times as large is stable here"
        noise = self.newest.get("gradient_noise_scale", 0.0)
        if noise > _FAR * batch_size and loader.variant.name != "batch":
            said += f"; the noise scale is {noise:.3g} samples, so larger batches than {batch_size} save updates"
        return f"{said}."


def descended_loss(module: LightningModule) -> SummedLoss:
    """Return the summed loss that updates minimise, from the output of :func:`predicting_part` and targets."""
    return trained_loss_of(module) if isinstance(module, RegressionModule) else loss_of(module)


def network_loss(network: nn.Module, summed_loss: SummedLoss, samples: Samples, most_numbers: int) -> NetworkLoss:
    """Return the train loss as a function of the parameters of a network, on the processor.

    Args:
        network: The module that predicts.
        summed_loss: The loss, summed over samples and outputs.
        samples: The training samples.
        most_numbers: Maximum of samples times parameters; above, a subset of the samples is used.
    """
    parameters = sum(parameter.numel() for parameter in network.parameters())
    taken = _thinned(samples, most_numbers, parameters)
    return NetworkLoss(network, summed_loss, lambda: ((x.cpu(), y.cpu()) for x, y in taken.pieces(_AT_ONCE)))


def local_curvature(network: nn.Module, summed_loss: SummedLoss, samples: Samples, rule: UpdateRule) -> LocalCurvature:
    """Return the curvature at the weights of a network, and the noise of some samples."""
    loss = network_loss(network, summed_loss, samples, SharpnessMonitor.max_numbers)
    drawn = _thinned(samples, SharpnessMonitor.max_gradients, loss.n_parameters)
    pieces = drawn.pieces(max(1, _AT_ONCE // loss.n_parameters))
    return LocalCurvature.of(loss, ((x.cpu(), y.cpu()) for x, y in pieces), rule)


def _thinned(samples: Samples, most_numbers: int, parameters: int) -> Samples:
    rows: Tensor | None = drawn_evenly(len(samples), max(_FEWEST, most_numbers // max(1, parameters)))
    return samples if rows is None else samples.subset(rows)


def rule_of(trainer: Trainer) -> UpdateRule:
    """Return the update rule of an optimiser; the momentum of optimisers other than SGD counts as 0."""
    group = trainer.optimizers[0].param_groups[0]
    names = ("momentum", "nesterov", "weight_decay")
    return UpdateRule(learning_rate(trainer), **{name: group[name] for name in names if name in group})


def _epochs(trainer: Trainer) -> int:
    """Return the number of complete epochs."""
    return trainer.global_step // max(1, int(trainer.num_training_batches))
