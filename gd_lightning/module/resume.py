"""Saving the position of a run in a checkpoint, and resuming Lightning exactly there.

A checkpoint can be written by any hook: after an update, after a validation, at an epoch's end, or where
``max_steps`` or a callback stopped the run within an epoch. Lightning's counters show which hook it was, and Lightning
2.6 guesses from them what is still to do; it then skips the rest of an epoch, its validation or its end, or adds an
epoch without updates (https://github.com/Lightning-AI/pytorch-lightning/issues/19617 and issues/19815). Here the
counters are brought to one of two plain forms, from which Lightning continues correctly:

- *between epochs*: every hook of the last epoch was called;
- *within an epoch*: some of its batches are done, all of them perhaps, and its end is still to come.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, StochasticWeightAveraging

from gd_lightning.lightning_internals import callbacks_of, continue_counting, go_on_behind_validation, validates_here

_POSITION = "gd_lightning_position"  # a key of checkpoints


def save_position(trainer: Trainer, checkpoint: dict[str, Any], metrics: dict[str, torch.Tensor] | None = None) -> None:
    """Add what Lightning does not save: metrics, states of the random generators, and the limits of the run.

    All processes must call it.

    Args:
        trainer: The Trainer.
        checkpoint: The checkpoint, changed in place.
        metrics: The metrics for callbacks and schedulers; None: the current ones.
    """
    metrics = dict(trainer.callback_metrics) if metrics is None else metrics
    # Metrics keep their precision, in which schedulers and callbacks compare them.
    metrics = {name: torch.as_tensor(value).detach().cpu().clone() for name, value in metrics.items()}
    checkpoint[_POSITION] = {
        "callback_metrics": metrics,
        "generators": _generator_states(trainer),
        "limits": {"max_epochs": trainer.max_epochs, "max_steps": trainer.max_steps},
    }


def saved_limits(checkpoint: dict[str, Any]) -> dict[str, int]:
    """Return ``max_epochs`` and ``max_steps`` of the run that wrote a checkpoint, if they are stored in it."""
    limits = checkpoint.get(_POSITION, {}).get("limits", {})
    return {name: value for name, value in limits.items() if value is not None}


def settle_position(checkpoint: dict[str, Any]) -> None:
    """Bring the counters of a checkpoint to a plain form, in place, before Lightning reads them."""
    loops = checkpoint["loops"]["fit_loop"]
    batch, epoch = loops["epoch_loop.batch_progress"], loops["epoch_progress"]
    done, started, ended = batch["current"]["processed"], epoch["current"]["started"], epoch["current"]["processed"]
    within = started > ended and done > 0
    stopped = started == ended and done > 0 and not batch["is_last_batch"]
    if stopped:
        # Stopped within an epoch: Lightning counts the epoch as one that is over.
        within, ended = True, ended - 1
    # After an update, its validation is still to come; after any other hook, it is done.
    validation_to_come = within and batch["current"]["completed"] < done
    # Schedulers that monitor a metric are stepped after the hooks of an update, and after those of an epoch.
    plateau_to_come = "step" if validation_to_come else "epoch" if epoch["current"]["completed"] < ended else None
    checkpoint.setdefault(_POSITION, {}).update(plateau_to_come=plateau_to_come, stopped=stopped)
    if not within:
        done = 0
        batch["is_last_batch"] = False
        loops["state_dict"]["combined_loader"] = []
    _set(epoch["current"], begun=ended + within, over=ended)
    _set(epoch["total"], begun=ended + within, over=ended)
    _set(batch["current"], begun=done, over=done)
    _set(batch["total"], begun=batch["total"]["processed"], over=batch["total"]["processed"])
    validation = loops["epoch_loop.val_loop.batch_progress"]
    validation["is_last_batch"] = False
    _set(validation["current"], begun=0, over=0)
    # With one batch begun and none completed, Lightning starts the validation again.
    _set(validation["total"], begun=int(validation_to_come), over=0)


def _set(counter: dict[str, int], begun: int, over: int) -> None:
    counter.update(ready=begun, started=begun, processed=over, completed=over)


def resume_position(trainer: Trainer, checkpoint: dict[str, Any]) -> None:
    """Restore metrics, random generators and limits, once the loops are set up and before a batch is fetched.

    Args:
        trainer: The Trainer that continues the run.
        checkpoint: The checkpoint, or the part of it that :func:`save_position` added.
    """
    position, within = checkpoint[_POSITION], trainer.fit_loop.restarted_mid_epoch
    # Lightning repeats the end of the batch after which it validates, and counts it there.
    again = within and trainer.val_dataloaders is not None and validates_here(trainer)
    if again and position["stopped"]:  # at a stop, all that belongs to this batch was done before the end
        again = False
        go_on_behind_validation(trainer)
    continue_counting(trainer, trainer.global_step - int(again))
    for name, value in position.get("callback_metrics", {}).items():
        # In checkpoints of earlier versions, metrics are plain numbers.
        trainer.callback_metrics[name] = (
            value if isinstance(value, torch.Tensor) else torch.tensor(value, dtype=torch.float64)
        )
    _restore_generators(trainer, position.get("generators", {}))
    if not again:
        _step_plateau_schedulers(trainer, position["plateau_to_come"])
    for averaging in callbacks_of(trainer, StochasticWeightAveraging) if within else ():
        _begin_epoch_of_averages(trainer, averaging)
    if any(stopping.wait_count >= stopping.patience for stopping in callbacks_of(trainer, EarlyStopping)):
        trainer.should_stop = True  # the stop was requested before the checkpoint was written


def _begin_epoch_of_averages(trainer: Trainer, callback: StochasticWeightAveraging) -> None:
    """Restore the scheduler of weight averaging, which is set at an epoch's start: no epoch starts here."""
    groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
    rates = [group["lr"] for group in groups]
    callback.on_train_epoch_start(trainer, trainer.lightning_module)
    for group, rate in zip(groups, rates, strict=True):
        group["lr"] = rate  # making a scheduler sets the first rate of its schedule


def _step_plateau_schedulers(trainer: Trainer, to_come: str | None) -> None:
    if to_come is None:
        return
    progress = trainer.fit_loop.epoch_progress.current
    if to_come == "epoch":
        progress.completed -= 1  # schedulers are stepped before the epoch counts as completed
    trainer.fit_loop.epoch_loop.update_lr_schedulers(to_come, update_plateau_schedulers=True)
    if to_come == "epoch":
        progress.completed += 1


def _generator_states(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Return the states of torch's generators in all processes, each of shape (processes, bytes)."""
    device = trainer.strategy.root_device
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    if trainer.world_size == 1:
        return {kind: state[None] for kind, state in states.items()}
    gathered = {}
    for kind, state in states.items():
        of_all = [torch.empty_like(state, device=device) for _ in range(trainer.world_size)]
        torch.distributed.all_gather(of_all, state.to(device))
        gathered[kind] = torch.stack(of_all).cpu()
    return gathered


def _restore_generators(trainer: Trainer, states: dict[str, torch.Tensor]) -> None:
    for kind, of_all in states.items():
        if len(of_all) != trainer.world_size:
            continue  # with another number of processes, other numbers are drawn in any case
        # torch reads memory from its beginning, whatever the offset of a view, and crashes; contiguous() copies no row.
        state = of_all[trainer.global_rank].clone()
        if kind == "cpu":
            torch.set_rng_state(state)
        elif trainer.strategy.root_device.type == "cuda":
            torch.cuda.set_rng_state(state, trainer.strategy.root_device)


def is_at_its_end(trainer: Trainer) -> bool:
    """Whether the limits of a run are reached after the current update or epoch."""
    epochs = math.inf if trainer.max_epochs in (None, -1) else trainer.max_epochs
    steps = math.inf if trainer.max_steps == -1 else trainer.max_steps
    progress: Any = trainer.fit_loop.epoch_progress.current
    return trainer.should_stop or progress.processed >= float(epochs or 0) or trainer.global_step >= steps
