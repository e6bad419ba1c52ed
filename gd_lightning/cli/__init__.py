"""The command line (layer 7): ``main(args)`` returns the exit code, and imports Lightning only if it is needed."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gd_lightning import __version__
from gd_lightning.cli.exit_codes import BAD_INPUT, COMPLETED, CTRL_C
from gd_lightning.cli.first_process import is_first_process
from gd_lightning.cli.fork_server import start_fork_server
from gd_lightning.cli.options.short_help import quick_help
from gd_lightning.cli.program import Program, running, speaker
from gd_lightning.cli.terminal import any_terminal
from gd_lightning.cli.unused_imports import deferred
from gd_lightning.signals import end_at_once

if TYPE_CHECKING:  # both import Lightning, which is slow
    from gd_lightning.data import RegressionDataModule
    from gd_lightning.module import RegressionModule


_Execute = Callable[[list[str], float, Program], int]
_NEVER = 1_000_000_000  # collections of younger objects before the next collection of old objects


def main(
    args: Sequence[str] | None = None,
    module_class: type[RegressionModule] | None = None,
    data_class: type[RegressionDataModule] | None = None,
    prog: str | None = None,
    subcommands: Mapping[str, Callable[..., Any]] | None = None,
) -> int:
    """Run the command line of this package or of another project, with one-line errors and exit codes.

    Args:
        args: Arguments without the program's name; None for those of this process.
        module_class: The module that is trained; its arguments are options. None: ``RegressionModule``.
        data_class: The data module that it is trained on. None: ``RegressionDataModule``.
        prog: The command as users type it, for help and messages; None: ``python -m gd_lightning``.
        subcommands: Functions that are further subcommands, by their names; their arguments, which need type hints, are
            options. If a function returns an int, that is the exit code.

    Returns:
        The exit code: 0 ended as asked, 1 failed, 2 bad input, 3 diverged, 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP.
    """
    given = sys.argv[1:] if args is None else args
    return _main(given, Program(prog, module_class, data_class, dict(subcommands or {})), _load)


def _main(given: Sequence[str], program: Program, load: Callable[[], _Execute]) -> int:
    begun = time.monotonic()
    with any_terminal(), running(program):
        if not (isinstance(given, (list, tuple)) and all(isinstance(each, str) for each in given)):
            refusal = f"cannot use {given!r} as arguments; give a list of texts, such as ['fit', '--model.lr', '0.1']"
            print(f"{speaker()}: {refusal}", file=sys.stderr)
            return BAD_INPUT
        given = list(given)
        if given == ["--version"]:
            print(f"gd_lightning {__version__}")
            return COMPLETED
        if (text := quick_help(given)) is not None:
            print(text, end="")
            return COMPLETED
        try:
            execute = load()
        except KeyboardInterrupt:
            return CTRL_C
        return execute(given, begun, program)


def _load() -> _Execute:
    """Import the modules that run a command line, and with them Lightning."""
    # Where SciPy is installed, torchmetrics, which Lightning imports, would load its signal processing, and with it
    # 530 modules (40 MB, half a second), only to add a function to it that SciPy once had.
    with deferred("scipy.signal", hamming=None):
        from gd_lightning.cli.execution import execute

    return execute


def _load_to_stay() -> _Execute:
    """Import them, and leave the imported objects out of all later garbage collections.

    Collecting them takes a third of the time of a short command: while they are imported, later, and at its end.
    """
    young, middle, old = gc.get_threshold()
    gc.set_threshold(young, middle, _NEVER)
    try:
        return _load()
    finally:
        gc.freeze()
        gc.set_threshold(young, middle, old)


def run() -> None:
    """Run the command line on this process's arguments and exit: the console script and ``python -m``."""
    end_at_once(speaks=is_first_process())
    os.environ["MPLBACKEND"] = "agg"  # pictures go into files, whatever is set for a display
    start_fork_server(sys.argv[1:])
    sys.exit(_main(sys.argv[1:], Program(), _load_to_stay))
