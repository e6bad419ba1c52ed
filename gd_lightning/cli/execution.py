"""Running a command line, and reporting errors and signals as one line and an exit code."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException

from gd_lightning.callbacks import EndedBySignal, raise_for_signal
from gd_lightning.cli.command import Command
from gd_lightning.cli.error_messages import cause_of, one_line, way_out, where_it_failed
from gd_lightning.cli.exit_codes import BAD_INPUT, COMPLETED, CTRL_C, DIVERGED, FAILED
from gd_lightning.cli.first_process import is_first_process
from gd_lightning.cli.framework_messages import quiet
from gd_lightning.cli.options.config_text import numbers_as_written
from gd_lightning.cli.process_state import process_left_as_it_was
from gd_lightning.cli.processes import are_together, first_failure
from gd_lightning.cli.program import Program, speaker
from gd_lightning.cli.subcommands.extensions import call, classes_of
from gd_lightning.errors import InputError
from gd_lightning.records.history import Outcome
from gd_lightning.signals import handled_by, name_of
from gd_lightning.torch_internals import is_loss_of_a_process


@process_left_as_it_was()
def execute(args: list[str], begun: float, program: Program) -> int:
    """Run a command line and return its exit code; errors that a user can cause are printed in one line."""
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
        if isinstance(exit_.__context__, KeyboardInterrupt):  # after Ctrl-C, Lightning exits with code 1
            return _say("ended by Ctrl-C", CTRL_C, speaks)
        return exit_.code if isinstance(exit_.code, int) else COMPLETED
    except InputError as error:
        return _say(str(error), BAD_INPUT, speaks)
    except OSError as error:
        return _say(f"cannot continue, because of {where_it_failed(error)}; {way_out(error)}", FAILED)
    except Exception as error:
        return _say(
            f"cannot continue, because {cause_of(error, made)}", FAILED, is_consequence=is_loss_of_a_process(error)
        )
    finally:
        _leave_process_group()


def _say(message: str, code: int, speaks: bool = True, is_consequence: bool = False) -> int:
    """Print why a run ended, in one of its processes only; returns the exit code.

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
        print(f"{speaker()}: {one_line(message)}", file=sys.stderr)
    return code


def _leave_process_group() -> None:
    if are_together():
        torch.distributed.destroy_process_group()
        time.sleep(0.2)  # gloo's threads abort the interpreter if it exits before they have ended
