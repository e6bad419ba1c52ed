"""Whose doing an exception is: of the options that were given, of the machine, or of somebody's code."""

from __future__ import annotations

import sys
import traceback

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

from gd_lightning.errors import InputError

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
    return all(not _is_ones_own(name) or name.partition(".")[0] in _BENEATH for name in _modules(error))


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
    return None
