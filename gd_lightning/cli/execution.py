"""Running a command line, and reporting errors and signals as one line and an exit code."""

from __future__ import annotations

import errno
import signal
import sys
import time
import traceback
from pathlib import Path

import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException

from gd_lightning.callbacks import EndedBySignal, raise_for_signal
from gd_lightning.cli.command import Command
from gd_lightning.cli.exit_codes import BAD_INPUT, COMPLETED, CTRL_C, DIVERGED, FAILED
from gd_lightning.cli.first_process import is_first_process
from gd_lightning.cli.framework_messages import quiet
from gd_lightning.cli.options.config_text import numbers_as_written
from gd_lightning.cli.process_state import process_left_as_it_was
from gd_lightning.cli.processes import are_together, first_failure
from gd_lightning.cli.program import Program, speaker
from gd_lightning.cli.subcommands.extensions import call, classes_of
from gd_lightning.errors import InputError, first_line
from gd_lightning.escaping import visible
from gd_lightning.module.library_errors import LoggingError
from gd_lightning.module.origin_of_code import place_of_ones_own
from gd_lightning.records.history import Outcome
from gd_lightning.signals import handled_by, name_of
from gd_lightning.torch_internals import is_loss_of_a_process, is_short_of_memory
from gd_lightning.tracking.atomic_writes import write_text
from gd_lightning.tracking.run_directory import claim_file

_LONGEST = 600  # characters of a message
_BRIEF = 150  # characters of the message of an unexpected error


def execute(args: list[str], begun: float, program: Program) -> int:
    """Run a command line and return its exit code; errors that a user can cause are printed in one line."""
    with process_left_as_it_was():
        return _execute(args, begun, program)


def _execute(args: list[str], begun: float, program: Program) -> int:
    made: list[Path] = []
    speaks = is_first_process()  # Lightning forgets how many processes there are as it ends
    try:
        with handled_by(raise_for_signal), quiet(), numbers_as_written():
            if args and args[0] in program.subcommands:
                return call(program.subcommands[args[0]], args[0], args[1:])
            command = Command(args, *classes_of(program), made=made, begun=begun)
        return DIVERGED if command.outcome is Outcome.DIVERGED else COMPLETED
    except SIGTERMException as error:
        number = error.number if isinstance(error, EndedBySignal) else signal.SIGTERM
        return _say(f"ended by {name_of(number)}", 128 + number, speaks)
    except KeyboardInterrupt:
        return _say("ended by Ctrl-C", CTRL_C, speaks)
    except SystemExit as exit_:
        if isinstance(exit_.__context__, KeyboardInterrupt):  # Lightning exits with 1
            return _say("ended by Ctrl-C", CTRL_C, speaks)
        return exit_.code if isinstance(exit_.code, int) else COMPLETED
    except InputError as error:
        return _say(str(error), BAD_INPUT, speaks)
    except OSError as error:
        return _say(f"cannot continue, because of {_where(error)}; {_way_out(error)}", FAILED)
    except Exception as error:
        return _say(
            f"cannot continue, because {_cause(error, made)}", FAILED, is_consequence=is_loss_of_a_process(error)
        )
    finally:
        _leave_process_group()


def _say(message: str, code: int, speaks: bool = True, is_consequence: bool = False) -> int:
    """Say why a run ended, unless another process of it has; returns the exit code.

    Args:
        message: Why it ended.
        code: The exit code.
        speaks: Whether this process speaks for the run where they all know the same.
        is_consequence: Whether it failed because another one is gone.
    """
    is_failure = code in (FAILED, BAD_INPUT)
    if is_failure and (failed_first := first_failure(code, is_consequence)) is not None:
        return failed_first
    if speaks or (is_failure and are_together()):
        print(f"{speaker()}: {_one_line(message)}", file=sys.stderr)
    return code


def _cause(error: Exception, made: list[Path]) -> str:
    """Return the reason why a run failed, and what to do."""
    if is_short_of_memory(error):
        return "there is not enough memory; give a smaller data.micro_batch_size, fewer samples, or a smaller network"
    if is_loss_of_a_process(error):
        return "another process of the run ended; continue with --ckpt_path and the directory of the run"
    if isinstance(error, LoggingError):
        return str(error)
    place = place_of_ones_own(error)
    whose = f"a fault in {place}, which is not part of this program" if place else "a fault of this program"
    return f"of {whose} ({type(error).__name__}: {first_line(error)[:_BRIEF]}); {_saved(error, made)}"


def _saved(error: Exception, made: list[Path]) -> str:
    """Write a traceback into the run's directory, or else the current one; return a phrase with its path."""
    directory = next((path for path in reversed(made) if path.is_dir()), Path())
    try:
        file = claim_file(directory, "traceback", ".txt")
        write_text(file, "".join(traceback.format_exception(error)))
    except OSError as full:
        return f"its traceback could not be written, because of {_where(full)}"
    return f"the traceback is in {file}"


def _one_line(message: str) -> str:
    """Return a message without line breaks and control characters, shortened in the middle if it is very long."""
    line = visible(" ".join(message.split()))
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 :]}"


def _where(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{reason.lower()}: {error.filename}" if error.filename else reason.lower()


def _way_out(error: OSError) -> str:
    kept = "what was finished before is kept"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{kept}: free disk space, then repeat the command; continue a run with --ckpt_path and its directory"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{kept}; choose another directory with --trainer.default_root_dir"
    return kept


def _leave_process_group() -> None:
    if are_together():
        torch.distributed.destroy_process_group()
        time.sleep(0.2)  # gloo's threads abort the interpreter if it exits before they have ended
