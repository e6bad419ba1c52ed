"""Facts about a run that callbacks read from its Trainer, for any module, data module and loader."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sized

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader

from gd_lightning.data import BatchLoader
from gd_lightning.errors import InputError
from gd_lightning.float64 import in_float64
from gd_lightning.losses import check_shapes
from gd_lightning.module import RegressionModule
from gd_lightning.problems import Problem
from gd_lightning.variants import Variant

_MEASURED_AT_ONCE = 16_384  # samples


def variant_of(trainer: Trainer) -> Variant | None:
    """Return the variant of the training loader; None if its data have no length or its batches no fixed size."""
    loader = trainer.train_dataloader
    if isinstance(loader, BatchLoader):
        return loader.variant
    if not isinstance(loader, DataLoader) or loader.batch_size is None or not isinstance(loader.sampler, Sized):
        return None
    n = len(loader.sampler)
    return Variant(min(loader.batch_size * trainer.world_size, n), n, loader.drop_last)


def most_epochs(max_epochs: int | None, max_steps: int, variant: Variant) -> float:
    """Return the maximum number of epochs of a run, from the limits of a Trainer; ``inf`` without a limit."""
    epochs = math.inf if max_epochs in (None, -1) else float(max_epochs or 0)
    return epochs if max_steps == -1 else min(epochs, max_steps / variant.updates_per_epoch)


def problem_of(trainer: Trainer) -> Problem | None:
    """Return the problem of a data module that has one."""
    problem = getattr(getattr(trainer, "datamodule", None), "problem", None)
    return problem if isinstance(problem, Problem) else None


def title_of(trainer: Trainer) -> str:
    """Return the title of a run: the name of its problem, else of its module."""
    return type(problem_of(trainer) or trainer.lightning_module).__name__


def learning_rate(trainer: Trainer) -> float:
    """Return the learning rate in force."""
    return float(trainer.optimizers[0].param_groups[0]["lr"])


def batches_for_measuring(
    loader: object, device: torch.device, at_once: int = _MEASURED_AT_ONCE
) -> Iterator[tuple[Tensor, Tensor]] | None:
    """Return all samples of a loader in their given order, on a device, without advancing the loader or a generator.

    Args:
        loader: The loader.
        device: The device to move the samples to.
        at_once: Number of samples per batch, if the loader does not define one.

    Returns:
        Pairs (x, y); None if the data have no length, so that a pass may never end, or do not consist of pairs.
    """
    if isinstance(loader, BatchLoader):
        batches: Iterable[tuple[Tensor, ...]] = loader.samples.pieces(min(loader.micro_batch_size or at_once, at_once))
    elif isinstance(loader, DataLoader) and loader.batch_size is not None and _has_pairs(loader.dataset):
        # A separate loader in order: iterating the user's would draw from the generator that shuffles it.
        batches = DataLoader(
            loader.dataset, loader.batch_size, collate_fn=loader.collate_fn, generator=torch.Generator().manual_seed(0)
        )
    else:
        return None
    return ((x.to(device), y.to(device)) for x, y in batches)


def _has_pairs(dataset: object) -> bool:
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        return False
    return len(dataset) > 0 and isinstance(dataset[0], (tuple, list)) and len(dataset[0]) == 2


def loss_of(module: LightningModule) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the function that sums the loss that updates minimise over samples and outputs.

    It takes predictions and targets in original units; by default it is the squared error.

    Raises:
        InputError: The module has no ``forward``, so nobody but itself can predict with it.
    """
    if isinstance(module, RegressionModule):
        return module.trained_loss
    _check_forward(module)
    loss: Callable[[Tensor, Tensor], Tensor] = getattr(module, "summed_loss", summed_squared_error)
    return loss


def measured_loss_of(module: LightningModule) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the summed loss function for reports, in float64 if its formula is known; without gradients.

    Raises:
        InputError: See :func:`loss_of`.
    """
    if isinstance(module, RegressionModule):
        return module.measured_loss
    _check_forward(module)
    if hasattr(module, "summed_loss"):
        return loss_of(module)
    return lambda prediction, target: summed_squared_error(in_float64(prediction), in_float64(target))


def _check_forward(module: LightningModule) -> None:
    """Refuse a module that computes its loss in ``training_step`` and predicts nowhere else."""
    if type(module).forward is LightningModule.forward:
        raise InputError(
            f"cannot measure the loss of {type(module).__name__}, because it has no forward, which gives the "
            "predictions; define forward(self, x)"
        )


def summed_squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Sum the squared error of a module of another project, whose predictions may have any one shape.

    Raises:
        ShapeError: Predictions and targets differ in shape, so that torch would broadcast them.
    """
    if prediction.shape != target.shape:
        check_shapes(prediction, target)
    return functional.mse_loss(prediction, target, reduction="sum")
