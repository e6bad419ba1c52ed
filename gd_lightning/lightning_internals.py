"""Uses of undocumented parts of Lightning, in one place (layer 3.5).

Each has a test of its own in ``tests/test_lightning_internals.py``, which fails if a release has changed it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterator, MutableMapping
from contextlib import ExitStack, contextmanager
from importlib.metadata import entry_points
from types import FrameType
from typing import Any, TypeVar, cast

from lightning.fabric.utilities import registry
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, Timer, WeightAveraging
from lightning.pytorch.callbacks.timer import Interval
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.loops.optimization.automatic import Closure
from lightning.pytorch.strategies import Strategy
from lightning.pytorch.strategies.launchers.multiprocessing import _MultiProcessingLauncher
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

_Kind = TypeVar("_Kind", bound=Callback)


class ModuleWithQuickHooks(LightningModule):
    """A module with fast attribute assignment for the hook names that Lightning sets."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute.

        Lightning notes the name of each of its hooks, some thirty of them an epoch; to look for parameters in each
        takes a sixth of the time of a short epoch.
        """
        if name == "_current_fx_name":
            vars(self)[name] = value
        else:
            super().__setattr__(name, value)


def frame_without_callers() -> FrameType:
    """Return a frame for ``save_hyperparameters``, which looks through those of constructors for their arguments.

    It compares each argument with the hyperparameters, and fails where one is an array or a data frame.
    """
    frame: FrameType = getattr((None for _ in ()), "gi_frame")  # noqa: B009  # the types know only of its iteration
    return frame


def callbacks_of(trainer: Trainer, kind: type[_Kind]) -> list[_Kind]:
    """Return those callbacks of a Trainer that are of a class; the types know of no callbacks."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return [callback for callback in callbacks if isinstance(callback, kind)]


@contextmanager
def entry_points_read_once(found: MutableMapping[Hashable, Any]) -> Iterator[None]:
    """Context in which Trainers look once for callbacks that installed packages add, which takes most of making one.

    Args:
        found: The callbacks found in earlier contexts.
    """

    def read_once(*, group: str) -> Any:
        key = ("entry points", group)
        if key not in found:
            found[key] = entry_points(group=group)
        return found[key]

    with _replaced(registry, "entry_points", read_once):
        yield


def options_of_averages(callback: WeightAveraging) -> dict[str, Any]:
    """Return the arguments that a callback gives to torch's ``AveragedModel``, such as the function that averages."""
    return dict(callback._kwargs)


def run_without_backward(closure: Callable[[], Any] | None) -> None:
    """Call what Lightning gives ``optimizer_step``, but clear no gradients, and compute none."""
    if isinstance(closure, Closure):
        closure._zero_grad_fn = closure._backward_fn = None
        closure()


def validates_here(trainer: Trainer) -> bool:
    """Whether a validation is due after the batch that was fetched last, if there is anything to validate on."""
    loop, fetcher = trainer.fit_loop.epoch_loop, cast("Any", trainer.fit_loop._data_fetcher)
    asked, trainer.should_stop = trainer.should_stop, False  # Lightning also validates where it was asked to stop
    try:
        return type(loop)._should_check_val_fx(loop, fetcher)
    finally:
        trainer.should_stop = trainer.should_stop or asked


def judge_as_without_stop(trainer: Trainer, behind_update: Callable[[], None]) -> None:
    """Make a run that stops within an epoch evaluate its metrics only where it would without the stop.

    Lightning validates where it is asked to stop, and calls the hooks of an epoch's end on the part of the epoch that
    was made: early stopping would count metrics once more, and checkpoints of the best would be chosen by them.

    Args:
        trainer: The Trainer, which is about to train.
        behind_update: Called after the last update of such a part, before these hooks.
    """
    fit_loop = trainer.fit_loop
    at_end = type(fit_loop).on_advance_end

    def on_advance_end() -> None:
        if fit_loop.epoch_loop.batch_progress.is_last_batch:
            at_end(fit_loop)
            return
        behind_update()
        with ExitStack() as stack:
            for stopping in callbacks_of(trainer, EarlyStopping):
                stack.enter_context(_replaced(stopping, "_check_on_train_epoch_end", False))
            for checkpoints in callbacks_of(trainer, ModelCheckpoint):
                if checkpoints.monitor is not None:
                    stack.enter_context(_replaced(checkpoints, "_every_n_epochs", 0))
            at_end(fit_loop)

    fit_loop.__dict__["on_advance_end"] = on_advance_end
    fit_loop.epoch_loop.__dict__["_should_check_val_fx"] = lambda _: validates_here(trainer)


def go_on_behind_validation(trainer: Trainer) -> None:
    """Make a continued run start with the next batch, and not with the end of the previous one."""
    own = trainer.fit_loop.epoch_loop.__dict__
    usual = own.pop("_should_check_val_fx", None)

    def once(_: object) -> bool:
        del own["_should_check_val_fx"]
        own.update({} if usual is None else {"_should_check_val_fx": usual})
        return False

    own["_should_check_val_fx"] = once


@contextmanager
def _replaced(owner: object, name: str, value: object) -> Iterator[None]:
    """Context in which an attribute of an object has another value."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def continue_counting(trainer: Trainer, updates: int) -> None:
    """Have Lightning count updates for loggers from here, and take the run for one that was not just restarted.

    Args:
        trainer: The Trainer.
        updates: How many were made.
    """
    fit_loop = trainer.fit_loop
    if not fit_loop.restarted_mid_epoch:
        fit_loop.epoch_loop.restarting = False  # with max_steps, Lightning treats every start as one within an epoch
    fit_loop.epoch_loop._batches_that_stepped = updates
    # Otherwise plateau schedulers would not be stepped at the end of this epoch.
    fit_loop._restarting = False


def skips_backward(trainer: Trainer) -> bool:
    """Whether batches only pass forward, as those of the last epoch of an average do for the sake of batch norms."""
    return trainer.fit_loop.epoch_loop.automatic_optimization._skip_backward


def can_stop_early(trainer: Trainer) -> bool:
    """Whether Lightning ends a run that is asked to: the fewest epochs and updates are over."""
    return trainer.fit_loop._can_stop_early


def seconds_between_validations(trainer: Trainer) -> float | None:
    """Return how often a Trainer validates by the clock; None where it does so by its ``val_check_interval``.

    Where that was a time, a Trainer has no attribute of this name.
    """
    has_interval = hasattr(trainer, "val_check_interval")
    return None if has_interval else trainer._val_check_time_interval  # type: ignore[attr-defined]


def detects_anomalies(trainer: Trainer) -> bool:
    """Whether a Trainer was told to look for anomalies in gradients."""
    return trainer._detect_anomaly


def injects_samplers(trainer: Trainer) -> bool:
    """Whether a Trainer of several processes would share the samples of a loader among them itself."""
    return trainer._accelerator_connector.use_distributed_sampler


_MANY_WORKERS = r"The '\w+_dataloader' does not have many workers"


def leave_out_advice_on_workers() -> None:
    """Leave out Lightning's advice, on machines of three cores and more, to give every loader worker processes."""
    warnings.filterwarnings("ignore", _MANY_WORKERS, PossibleUserWarning)


def give_advice_on_workers() -> None:
    """Undo :func:`leave_out_advice_on_workers`."""
    filters = cast("list[Any]", warnings.filters)
    filters[:] = [each for each in filters if getattr(each[1], "pattern", None) != _MANY_WORKERS]


def options_of_ddp(strategy: Strategy) -> dict[str, Any]:
    """Return the options that a strategy passes to ``DistributedDataParallel``."""
    options: dict[str, Any] = getattr(strategy, "_ddp_kwargs", {})
    return options


def saves_by_updates(callback: ModelCheckpoint) -> bool:
    """Whether a callback saves after a number of updates."""
    return callback._every_n_train_steps >= 1


def ends_at_epochs(timer: Timer) -> bool:
    """Whether a timer ends a run at the end of an epoch alone."""
    return timer._interval == Interval.epoch


def forks(trainer: Trainer) -> bool:
    """Whether a Trainer trains in processes that are spawned or forked, from which nothing comes back."""
    return isinstance(trainer.strategy.launcher, _MultiProcessingLauncher)


def pass_on_signal(trainer: Trainer, number: int) -> None:
    """Send a signal to the processes that a Trainer has started by repeating the command."""
    launcher = trainer.strategy.launcher
    if isinstance(launcher, _SubprocessScriptLauncher):
        launcher.kill(number)


def has_version(logger: TensorBoardLogger | CSVLogger) -> bool:
    """Whether a logger was given the number of its run; asking for it would choose the next one."""
    return vars(logger).get("_version") is not None


def set_version(logger: TensorBoardLogger | CSVLogger, version: int | str) -> None:
    """Give a logger the number or the name of its run, before it begins."""
    logger._version = version


def next_version(logger: TensorBoardLogger | CSVLogger) -> int:
    """Return the number after those of the runs that a logger finds, without making a directory."""
    return int(logger._get_next_version())
