"""Whose doing an exception is: of the options that were given, of the machine, or of somebody's code."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

from gd_lightning.errors import InputError, first_line

# Whoever raises from here was given options that it cannot follow.
_FRAMEWORKS = ("lightning", "jsonargparse", "yaml", "torch.optim", "torch.nn", "fsspec")
_PACKAGES = {"gd_lightning", "lightning", "lightning_utilities", "jsonargparse", "yaml", "torch", "torchmetrics"}

# What runs beneath this package, too, without anybody's having asked for it by name.
_BENEATH = {
    *("numpy", "matplotlib", "mpl_toolkits", "PIL", "contourpy", "numba", "llvmlite", "pyarrow", "scipy", "sklearn"),
    *("tensorboard", "google", "tqdm", "rich", "fsspec", "packaging", "typeshed_client", "importlib_resources"),
}


def is_bad_input(error: BaseException) -> bool:
    """Whether an exception comes from options that cannot be followed."""
    if isinstance(error, (InputError, MisconfigurationException)):
        return True
    modules = _modules(error)
    return bool(modules) and modules[-1].startswith(_FRAMEWORKS) and not any(_is_ones_own(name) for name in modules)


def is_fault_of_the_package(error: BaseException) -> bool:
    """Whether nobody's code but that of this package and of the libraries it needs was running."""
    return not any(map(_is_foreign, _modules(error)))


def place_of_ones_own(error: BaseException) -> str:
    """Return where code that is neither of this package nor of a library it needs was running last, in words."""
    places = [
        f"{frame.f_code.co_name} of {Path(frame.f_code.co_filename).name}, line {line}"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if _is_foreign(str(frame.f_globals.get("__name__", "")))
    ]
    return places[-1]


def origin(error: Exception) -> Exception:
    """Return the exception that jsonargparse wrapped into its report on all types that an option could have had."""
    while isinstance(error.__cause__, Exception) and _modules(error)[-1].startswith("jsonargparse"):
        error = error.__cause__
    return error


def _modules(error: BaseException) -> list[str]:
    """Return the modules that an exception passed through, the one that raised it last."""
    return [str(frame.f_globals.get("__name__", "")) for frame, _ in traceback.walk_tb(error.__traceback__)]


def _is_ones_own(module: str) -> bool:
    """Whether a module is neither of a framework nor of Python: whoever wrote it wants to see the place."""
    return module.partition(".")[0] not in _PACKAGES | sys.stdlib_module_names


def _is_foreign(module: str) -> bool:
    """Whether a module is that of a person, and no library beneath this package either."""
    return _is_ones_own(module) and module.partition(".")[0] not in _BENEATH


def is_loss_of_a_process(error: BaseException) -> bool:
    """Whether an exception says that another process of the run is gone."""
    return isinstance(error, torch.distributed.DistError) or "gloo" in str(error)


def cause_outside(error: BaseException) -> str | None:
    """Return what of the machine, rather than of the options, ended a run; None where it was something else."""
    text = str(error)
    signs = ("can't allocate memory", "not enough memory", "out of memory", "Unable to allocate")
    if isinstance(error, MemoryError) or any(sign in text for sign in signs):
        return "memory is short; give a smaller data.micro_batch_size, fewer samples, or a smaller network"
    if is_loss_of_a_process(error):
        return "another process of the run ended; go on with --ckpt_path and the directory of the run"
    if failed := failed_logger(error):
        return f"{failed}; leave it out of trainer.logger, or mend what it writes to"
    return None


@contextmanager
def refusals_of_loggers() -> Iterator[None]:
    """Make what the program behind a logger says, before a run has begun, a matter of the options.

    Raises:
        InputError: It cannot log with them.
    """
    try:
        yield
    except Exception as error:
        if said := failed_logger(origin(error)):
            raise InputError(
                f"cannot log, because {said}; give other options of trainer.logger, or leave it out"
            ) from error
        raise


def failed_logger(error: BaseException) -> str:
    """Return which of Lightning's loggers an error comes from, and what its program says; empty where none does."""
    modules = _modules(error)
    loggers = [name for name in modules if name.startswith("lightning.pytorch.loggers.")]
    if not loggers or modules[-1] == loggers[-1]:
        return ""
    return f"{loggers[-1].rpartition('.')[2]} said: {first_line(error)}"
