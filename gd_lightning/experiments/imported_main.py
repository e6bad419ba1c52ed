"""Whether processes can import the program that starts them, as all do that are not forked."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from gd_lightning.errors import InputError


def check_main(executor: Executor | None = None) -> None:
    """Refuse to start processes from a program that they cannot import, or that would start them again.

    Args:
        executor: Starts the processes; None: they import the program. Threads, and processes that are forked, do not.

    Raises:
        InputError: The program is read from standard input, or the statement that starts the processes is not behind
            ``if __name__ == "__main__":``.
    """
    if executor is not None and not _imports(executor):
        return
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    if file is None:  # an interactive session or python -c, which processes do not import
        return
    if not Path(file).is_file():
        raise InputError(
            "cannot start processes, because they import the program that starts them, and this one is not in a file; "
            "write it to a file, or train in this process"
        )
    if (line := _line_of(main)) is not None and not _is_guarded(file, line):
        raise InputError(
            f"cannot start processes, because each of them imports {Path(file).name} and would start others in line "
            f'{line}; put what starts them under if __name__ == "__main__":'
        )


def _imports(executor: Executor) -> bool:
    context: Any = getattr(executor, "_mp_context", None)  # the context of a ProcessPoolExecutor
    return context is not None and context.get_start_method() != "fork"


def _line_of(main: ModuleType) -> int | None:
    """Return the line of the program, outside of its functions, that is being executed; None in another thread."""
    for frame in _frames():
        if frame.f_globals is vars(main) and frame.f_code.co_name == "<module>":
            return frame.f_lineno
    return None


def _frames() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        yield frame
        frame = frame.f_back


def _is_guarded(file: str, line: int) -> bool:
    """Whether a line of a program is executed only where it is the main one; also where that cannot be told."""
    try:
        statements = ast.parse(Path(file).read_bytes()).body
    except (OSError, SyntaxError, ValueError):  # a compiled file, or one in an archive
        return True
    return not any(
        statement.lineno <= line <= (statement.end_lineno or line)
        and not (isinstance(statement, ast.If) and "__name__" in ast.dump(statement.test))
        for statement in statements
    )
