"""The choice of the engine that carries out the updates of a run (layer 4)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar, Timer, TQDMProgressBar
from lightning.pytorch.core.hooks import DataHooks
from lightning.pytorch.utilities import rank_zero_warn
from torch import nn

from gd_lightning.engine import EngineOnFile, keeps_compiled_code, why_no_numba, why_not_fused, work_of
from gd_lightning.errors import InputError
from gd_lightning.lightning_internals import (
    callbacks_of,
    detects_anomalies,
    options_of_ddp,
    saves_by_updates,
    skips_backward,
)
from gd_lightning.models import LinearRegressor, Standardize
from gd_lightning.module.schedulers_in_chunks import why_not_ahead
from gd_lightning.torch_internals import has_hooks

EngineChoice = Literal["auto", "autograd", "fused"]

NOT_THERE = "engine fused is not available, because {}; the updates are carried out by autograd"
_NO_LONGER = "engine fused cannot continue, because {}; from update {:,} on, the updates are carried out by autograd"

# So few updates are finished by autograd before compiled code is loaded, which takes half a second, and before it is
# compiled, if nothing can be cached and each process has to compile for itself.
FEWEST_FUSED_UPDATES = 1_500
_FEWEST_COMPILED_UPDATES = 15_000
# Multiply-adds that take autograd as long as the rest of an update. Updates with more of them count accordingly.
_WORK_OF_SMALL_UPDATE = 300_000
# Multiply-adds in an update of an MLP, and weights, above which torch's products, in several threads, are faster.
_MOST_WORK, _MOST_WEIGHTS = 50_000_000, 1_000_000

_HOOKS_OF_GRADIENTS = ("on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step")
_HOOKS_OF_UPDATES = ("on_train_batch_start", "on_train_batch_end")
_HOOKS_OF_BATCHES = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
# Methods that define an update; a subclass or an instance may override them.
_STEPS = (
    "training_step",
    "optimizer_step",
    "optimizer_zero_grad",
    "backward",
    "configure_gradient_clipping",
    "clip_gradients",
    "lr_scheduler_step",
)
_KNOW_CHUNKS = (TQDMProgressBar, RichProgressBar, Timer)

REPLACEABLE = (
    "forward", "summed_loss", *_STEPS, *_HOOKS_OF_GRADIENTS, *_HOOKS_OF_UPDATES, *_HOOKS_OF_BATCHES,
)  # fmt: skip
"""Methods of a module that the choice of an engine asks for."""


@dataclass(frozen=True)
class Decision:
    """How the updates of a run are carried out.

    Args:
        engine: fused or autograd.
        reason: Why the engine is not fused; "" if it is.
        in_chunks: Whether updates are carried out in chunks instead of one by one in Lightning's loop.
        one_by_one: Whether each chunk is a single update, because a hook needs every update.
    """

    engine: str
    reason: str = ""
    in_chunks: bool = True
    one_by_one: bool = False


def decide(
    trainer: Trainer,
    module: LightningModule,
    plain: type[LightningModule],
    fewest_updates: int = FEWEST_FUSED_UPDATES,
    before: Decision | None = None,
) -> Decision:
    """Choose the engine of a run.

    If the fused engine was requested and cannot carry out the updates, a run is refused before it begins; a run that
    has begun continues with autograd.

    Args:
        trainer: The Trainer, which is about to train.
        module: The module that it trains.
        plain: The class whose training step the engines implement; a subclass that overrides it has no engine.
        fewest_updates: Number of updates of a small network from which on ``auto`` uses the fused engine; an update of
            a larger one counts for several. 0: whenever it can be used.
        before: The previous decision; None at the start of the run.

    Raises:
        InputError: The fused engine is requested, but cannot carry out these updates; the run has not begun.
    """
    decision = _decide(trainer, module, plain, fewest_updates, refuse=before is None)
    if before is None or (before.engine, decision.engine) != ("fused", "autograd"):
        return decision
    if module.hparams["engine"] == "fused":
        rank_zero_warn(_NO_LONGER.format(decision.reason, trainer.global_step + 1))
    return replace(decision, reason=f"{decision.reason}, from update {trainer.global_step + 1:,} on")


def _decide(
    trainer: Trainer, module: LightningModule, plain: type[LightningModule], fewest_updates: int, refuse: bool
) -> Decision:
    asked: EngineChoice = module.hparams.get("engine", "auto")
    alone, watcher = _why_one_by_one(trainer, module, plain), _watcher_of_updates(trainer, module)
    watched = f"{watcher} needs each update separately" if watcher else ""
    compiled = alone or _why_not_fused(trainer, module, plain)
    if asked == "fused" and (missing := why_no_numba()):
        compiled = missing
        if refuse:
            rank_zero_warn(NOT_THERE.format(missing))
    elif asked == "fused":
        if compiled and refuse:
            raise InputError(f"cannot use engine fused, because {compiled}; use engine auto or autograd")
        if not compiled:
            return Decision("fused", one_by_one=bool(watched))
    elif asked == "auto":
        compiled = compiled or watched or _why_not_worth_it(trainer, module.network, fewest_updates)
        if not compiled:
            return Decision("fused")
    in_parts = getattr(trainer.train_dataloader, "comes_in_parts", True)
    in_chunks = not (alone or watched or in_parts)
    return Decision("autograd", "it was requested" if asked == "autograd" else compiled, in_chunks)


def _why_one_by_one(trainer: Trainer, module: LightningModule, plain: type[LightningModule]) -> str:
    """Return the reason why Lightning has to carry out each update itself; "" if it does not have to."""
    loader: Any = trainer.train_dataloader
    kind = type(module)
    if not hasattr(loader, "chunk_source"):
        return "the data do not come from a RegressionDataModule"
    if own := own_method(module, plain, (*_STEPS, *_HOOKS_OF_GRADIENTS, *_HOOKS_OF_BATCHES)):
        return f"{kind.__name__} has a {own} of its own"
    if not module.automatic_optimization:
        return f"{kind.__name__} optimises manually"
    for callback in callbacks_of(trainer, Callback):
        if own_method(callback, Callback, _HOOKS_OF_GRADIENTS) and not _knows_chunks(callback):
            return f"{type(callback).__name__} needs the gradients of each update"
    data = getattr(trainer, "datamodule", None)
    if isinstance(data, LightningDataModule) and (own := own_method(data, DataHooks, _HOOKS_OF_BATCHES)):
        return f"{type(data).__name__} has a {own} of its own"
    if trainer.world_size > 1:
        return f"{trainer.world_size} processes share each update"
    if any(options_of_ddp(trainer.strategy).values()):
        return f"{type(trainer.strategy).__name__} has options that need each update separately"
    if trainer.precision not in ("32-true", "64-true"):
        return f"the precision is {trainer.precision}"
    if trainer.gradient_clip_val:
        return "gradients are clipped"
    if trainer.accumulate_grad_batches != 1 or skips_backward(trainer):
        return "not every batch makes an update"
    network = module.network
    if isinstance(network, LinearRegressor) and not network.is_free:
        return "its weight is computed from other parameters"
    if torch.is_anomaly_enabled() or detects_anomalies(trainer):
        return "anomaly detection needs each update separately"
    if loader.samples.mapped and loader.variant.batch_size * loader.samples.row_bytes > EngineOnFile.piece_bytes:
        return "batches of the data are read from the file when needed"
    if any(config.interval == "step" and config.frequency != 1 for config in trainer.lr_scheduler_configs):
        return "a scheduler needs each update separately"
    return why_not_ahead(trainer, "step")


def _watcher_of_updates(trainer: Trainer, module: LightningModule) -> str:
    """Return the name of a callback or hook that needs the beginning or end of each update; "" if there is none."""
    if own_method(module, LightningModule, _HOOKS_OF_UPDATES):
        return type(module).__name__
    for callback in callbacks_of(trainer, Callback):
        if own_method(callback, Callback, _HOOKS_OF_UPDATES) and not _knows_chunks(callback):
            return type(callback).__name__
    return ""


def _why_not_fused(trainer: Trainer, module: LightningModule, plain: type[LightningModule]) -> str:
    """Return the reason why the updates cannot be compiled; "" if they can be."""
    if own := own_method(module, plain, ("forward", "summed_loss")):
        return f"{type(module).__name__} has a {own} of its own"
    targets: Any = module.standardize_targets
    network, layers = module.network, [module.standardize, targets]
    assert isinstance(network, nn.Module)
    around = [part for part in layers if isinstance(part, nn.Module)]
    if any(has_hooks(vars(part)) for part in [module, *around]) or any("forward" in vars(part) for part in around):
        return "a hook is registered around the network"
    if reason := why_no_factor(targets):
        return reason
    return why_not_fused(network, trainer.optimizers[0])


def _why_not_worth_it(trainer: Trainer, network: object, fewest_updates: int) -> str:
    """Return the reason why compiled updates would not shorten the waiting time; "" if they would.

    It depends only on the run, not on whether code was compiled before. Engines round differently, so otherwise a first
    run would differ from the second one, and from a run continued from its checkpoints.
    """
    assert isinstance(network, nn.Module)
    loader: Any = trainer.train_dataloader
    updates = float(trainer.estimated_stepping_batches)
    small_updates = updates * (1 + work_of(network, loader.variant.batch_size) / _WORK_OF_SMALL_UPDATE)
    if small_updates < fewest_updates:
        return f"{updates:.0f} updates take less time than loading compiled code"
    if is_faster_by_torch(network, loader.variant.batch_size):
        return "torch's matrix products are faster for updates of this size"
    if fewest_updates > 0 and small_updates < _FEWEST_COMPILED_UPDATES and not keeps_compiled_code():
        return f"{updates:.0f} updates take less time than compiling them, and compiled code cannot be cached"
    return ""


def why_no_factor(layer: Standardize | None) -> str:
    """Return the reason why the reported loss is not the trained one times a factor; "" if it is.

    Args:
        layer: The layer that standardises targets, if any.
    """
    return "" if layer is None or layer.has_one_scale else "each of several targets is standardised by its own scale"


def is_faster_by_torch(network: nn.Module, batch_size: int) -> bool:
    """Whether torch's matrix products take less time for an update than compiled loops.

    Args:
        network: The network to train.
        batch_size: B.
    """
    is_large = work_of(network, batch_size) > _MOST_WORK or work_of(network, 1) > _MOST_WEIGHTS
    return is_large and not isinstance(network, nn.Linear)


def own_method(part: object, base: type, names: Iterable[str]) -> str:
    """Return the name of the first of these methods that an object overrides; "" if it overrides none.

    Args:
        part: The object.
        base: The base class.
        names: Names of methods; a method that the object does not have is skipped.
    """
    for name in names:
        method = getattr(part, name, None)
        if method is not None and getattr(method, "__func__", method) is not getattr(base, name):
            return name
    return ""


def can_do_without(callback: Callback, hooks: Sequence[str], said_by: str) -> bool:
    """Whether a callback says, by an attribute of its class, how it does without hooks; a subclass may need them."""
    newer: list[type] = []
    for kind in type(callback).__mro__:
        if said_by in vars(kind):
            return not any(name in vars(part) for part in (callback, *newer) for name in hooks)
        newer.append(kind)
    return False


def _knows_chunks(callback: Callback) -> bool:
    """Whether a callback can handle a chunk of many updates."""
    if isinstance(callback, ModelCheckpoint):
        return not saves_by_updates(callback) and not own_method(callback, ModelCheckpoint, _HOOKS_OF_UPDATES)
    return hasattr(callback, "max_chunk_seconds") or type(callback) in _KNOW_CHUNKS
