"""Carrying out a command line, and turning every way it can end into one line and an exit code."""

from __future__ import annotations

import errno
import sys
import time
import traceback
from types import TracebackType

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.exceptions import SIGTERMException

from gd_lightning.cli import BAD_INPUT, COMPLETED, CTRL_C, DIVERGED, FAILED, SIGTERM
from gd_lightning.cli.command import Command
from gd_lightning.cli.processes import is_first_process
from gd_lightning.cli.quiet import quiet
from gd_lightning.errors import InputError, first_line
from gd_lightning.history import Outcome

# Whoever raises from here was given options that it cannot follow.
_FRAMEWORKS = ("lightning", "jsonargparse", "torch.optim")


def execute(args: list[str]) -> int:
    """Run a command line; returns its exit code and prints no traceback for anything that a user can cause."""
    try:
        with quiet():
            command = Command(args)
        return DIVERGED if command.outcome is Outcome.DIVERGED else COMPLETED
    except InputError as error:
        return _say(str(error), BAD_INPUT)
    except SIGTERMException:
        return _say("ended by SIGTERM", SIGTERM)
    except KeyboardInterrupt:
        return _say("ended by Ctrl-C", CTRL_C)
    except SystemExit as exit_:
        if isinstance(exit_.__context__, KeyboardInterrupt):  # Lightning exits with 1
            return _say("ended by Ctrl-C", CTRL_C)
        return exit_.code if isinstance(exit_.code, int) else COMPLETED
    except OSError as error:
        return _say(f"cannot go on, because of {_where(error)}; {_way_out(error)}", FAILED)
    except Exception as error:
        if (cause := _cause_outside(error)) is not None:
            return _say(f"cannot go on, because {cause}", FAILED)
        if isinstance(error, MisconfigurationException) or _raised_by_framework(error.__traceback__):
            return _say(f"cannot follow these options: {first_line(error)}", BAD_INPUT)
        traceback.print_exc()
        return FAILED
    finally:
        _leave_process_group()


def _cause_outside(error: Exception) -> str | None:
    """Return what of the machine, rather than of the options, ended a run; None where it was something else."""
    text = str(error)
    if isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text:
        return "memory is short; give a smaller data.micro_batch_size, or a smaller network"
    if isinstance(error, torch.distributed.DistError) or "gloo" in text:
        return "another process of the run ended; go on with --ckpt_path and the directory of the run"
    return None


def _say(message: str, code: int) -> int:
    if code == FAILED or is_first_process():
        print(f"gd_lightning: {' '.join(message.split())}", file=sys.stderr)
    return code


def _where(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{reason.lower()}: {error.filename}" if error.filename else reason.lower()


def _way_out(error: OSError) -> str:
    kept = "what was finished before is kept"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{kept}: make room, then go on with --ckpt_path and the directory of the run"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{kept}; choose another directory with --trainer.default_root_dir"
    return kept


def _raised_by_framework(trace: TracebackType | None) -> bool:
    """Whether an exception was raised by a framework, rather than in this package or a user's own class."""
    name = ""
    for frame, _ in traceback.walk_tb(trace):
        name = str(frame.f_globals.get("__name__", ""))
    return name.startswith(_FRAMEWORKS)


def _leave_process_group() -> None:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        time.sleep(0.2)  # gloo's threads abort the interpreter where it exits before they are gone
