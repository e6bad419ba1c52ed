"""Context for code named by options, so that its errors are reported as errors of these options.

An ``InputError`` passes as it is, and so does whatever the machine lacks: an ``OSError``, unless a logger raises it as
it begins, and what says that memory is short.
"""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger

from gd_lightning.errors import InputError, first_line
from gd_lightning.torch_internals import is_loss_of_a_process, is_short_of_memory

_PACKAGE = Path(__file__).parents[1]
_STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))
_INSTALLED = {"site-packages", "dist-packages"}


class LoggingError(RuntimeError):
    """The service of a logger failed during a run; the message says which, and what it said."""


@contextmanager
def refusals_of(kind: type | None = None) -> Iterator[None]:
    """Have what is raised meanwhile said to be what a class refuses.

    Args:
        kind: The class whose code is entered; None where it is any that options name.

    Raises:
        InputError: Something is.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        is_of_a_logger = kind is not None and issubclass(kind, Logger)
        if is_short_of_memory(error) or (isinstance(error, OSError) and not is_of_a_logger):
            raise
        raise _told_within(error) or _refusal(kind, error) from error


class NamedClasses:
    """Makes the objects of all classes that options name, and says what these refuse later."""

    def __init__(self) -> None:
        self._kinds = set[type]()

    def construct(self, kind: type, /, *args: Any, **options: Any) -> Any:
        """Make an object.

        Args:
            kind: Its class.
            args: What this program gives it, such as the sizes of a network.
            options: What the options give it.

        Raises:
            InputError: The class cannot be made so.
        """
        self._kinds.add(kind)
        with refusals_of(kind):
            return kind(*args, **options)

    @contextmanager
    def refusals_in_a_run(self) -> Iterator[None]:
        """Have what libraries refuse meanwhile said to be about the options.

        Lightning says so by the class of its error. A class of a library that options name says so by whatever leaves
        one of its methods, raised there or in what a library does for it. What somebody's own code raises is their
        mistake, and what this package raises one of ours, whoever has called it.

        Raises:
            InputError: A library refuses something.
            LoggingError: The service of a logger fails.
        """
        try:
            yield
        except MisconfigurationException as error:
            raise _refusal(Trainer, error) from error
        except (InputError, OSError):
            raise
        except Exception as error:
            kind = None if is_short_of_memory(error) or is_loss_of_a_process(error) else self._refusing(error)
            if kind is None:
                raise
            if issubclass(kind, Logger):
                raise LoggingError(
                    f"{_program(kind)} said: {first_line(error)}; leave it out of trainer.logger, or mend what it "
                    "writes to"
                ) from error
            raise _refusal(kind, error) from error

    def _refusing(self, error: Exception) -> type | None:
        """Return the class of a library, named by options, whose method an exception left; None where it left none."""
        for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
            if not _is_of_a_library(frame.f_code.co_filename):
                return None
            kind = type(frame.f_locals.get("self"))
            if kind in self._kinds:
                return kind
        return None


def _refusal(kind: type | None, error: Exception) -> InputError:
    if kind is not None and issubclass(kind, Logger):
        return InputError(
            f"cannot log, because {_program(kind)} said: {first_line(error)}; give other options of trainer.logger, or "
            "leave it out"
        )
    whose, place = "" if kind is None else f"{kind.__name__}: ", place_of_ones_own(error)
    return InputError(f"cannot follow these options: {whose}{first_line(error)}{place and f' (in {place})'}")


def _told_within(error: BaseException) -> InputError | OSError | None:
    """Return what a class has raised, where jsonargparse has put it into its report on all types of an option."""
    cause: BaseException | None = error.__cause__
    while cause is not None and not isinstance(cause, (InputError, OSError)):
        cause = cause.__cause__
    return cause


def _program(logger: type) -> str:
    return logger.__module__.rpartition(".")[2]


def _is_of_a_library(file: str) -> bool:
    """Whether code is installed, as a library is, or Python's own, and not of this package."""
    path = Path(file)
    is_installed = bool(_INSTALLED & set(path.parts)) or path.is_relative_to(_STANDARD_LIBRARY) or file.startswith("<")
    return is_installed and not path.is_relative_to(_PACKAGE)


def place_of_ones_own(error: BaseException) -> str:
    """Return where code that is neither of this package nor of a library was running last; empty where none was."""
    frames = traceback.walk_tb(error.__traceback__)
    codes = [(frame.f_code, line) for frame, line in frames]
    for code, line in reversed(codes):
        path = Path(code.co_filename)
        if not (_is_of_a_library(code.co_filename) or path.is_relative_to(_PACKAGE)):
            return f"{code.co_name} of {path.name}, line {line}"
    return ""
