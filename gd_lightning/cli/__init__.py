"""The command line (layer 7): ``main(args)`` returns the exit code, and imports Lightning only when it is needed."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

from gd_lightning.cli.exit_codes import COMPLETED, CTRL_C
from gd_lightning.cli.terminal import any_terminal
from gd_lightning.signals import end_at_once


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        args: Arguments without the program's name; None for those of this process.

    Returns:
        The exit code: 0 ended as asked, 1 failed, 2 bad input, 3 diverged, 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP.
    """
    begun = time.monotonic()
    given = list(sys.argv[1:] if args is None else args)
    with any_terminal():
        if given == ["--version"]:
            from gd_lightning import __version__

            print(f"gd_lightning {__version__}")
            return COMPLETED
        try:
            from gd_lightning.cli.execution import execute
        except KeyboardInterrupt:
            return CTRL_C
        return execute(given, begun)


def run() -> None:
    """Run the command line on this process's arguments and exit: the console script and ``python -m``."""
    end_at_once()
    os.environ["MPLBACKEND"] = "agg"  # pictures go into files, whatever is set for a display
    sys.exit(main())
