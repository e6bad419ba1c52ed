"""A context for code of classes named by options, which reports its errors as errors of these options.

An ``InputError`` passes unchanged, and so do errors of the machine: an ``OSError``, unless the constructor of a logger
raises it, and errors that report a lack of memory.
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
    """The service of a logger failed during a run; the message names it, with its error."""


@contextmanager
def refusals_of(kind: type | None = None) -> Iterator[None]:
    """Report exceptions raised in this context as errors of a class named by options.

    Args:
        kind: The class whose code is called; None for any class that options name.

    Raises:
        InputError: An exception was raised.
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
    """Makes the objects of all classes that options name, and reports their errors during the run."""

    def __init__(self) -> None:
        self._kinds = set[type]()

    def construct(self, kind: type, /, *args: Any, **options: Any) -> Any:
        """Make an object.

        Args:
            kind: Its class.
            args: Arguments from this program, such as the sizes of a network.
            options: Arguments from the options.

        Raises:
            InputError: The constructor raised an exception.
        """
        self._kinds.add(kind)
        with refusals_of(kind):
            return kind(*args, **options)

    @contextmanager
    def refusals_in_a_run(self) -> Iterator[None]:
        """Report errors of libraries in this context as errors of the options.

        Lightning marks such errors by their class. For a class of a library that options name, these are all exceptions
        that leave one of its methods without having passed code of this package or of the user. Exceptions of the
        user's own code, and of this package, are passed on.

        Raises:
            InputError: A library raised an exception because of the options.
            LoggingError: The service of a logger failed.
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
                    f"{_program(kind)} reports: {first_line(error)}; leave it out of trainer.logger, or repair its "
                    "destination"
                ) from error
            raise _refusal(kind, error) from error

    def _refusing(self, error: Exception) -> type | None:
        """Return the class of a library, named by options, in whose method an exception was raised, if any."""
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
            f"cannot log, because {_program(kind)} reports: {first_line(error)}; give other options of trainer.logger, "
            "or leave it out"
        )
    whose, place = "" if kind is None else f"{kind.__name__}: ", place_of_ones_own(error)
    return InputError(f"cannot follow these options: {whose}{first_line(error)}{place and f' (in {place})'}")


def _told_within(error: BaseException) -> BaseException | None:
    """Return the exception of a class, if jsonargparse has wrapped it in its report on all types of an option."""
    cause: BaseException | None = error.__cause__
    while cause is not None and not (isinstance(cause, (InputError, OSError)) or is_short_of_memory(cause)):
        cause = cause.__cause__
    return cause


def _program(logger: type) -> str:
    return logger.__module__.rpartition(".")[2]


def _is_of_a_library(file: str) -> bool:
    """Whether code belongs to an installed library or to Python itself, and not to this package."""
    path = Path(file)
    is_installed = bool(_INSTALLED & set(path.parts)) or path.is_relative_to(_STANDARD_LIBRARY) or file.startswith("<")
    return is_installed and not path.is_relative_to(_PACKAGE)


def place_of_ones_own(error: BaseException) -> str:
    """Return the innermost place of an exception in code of the user's own; "" if it passed none."""
    frames = traceback.walk_tb(error.__traceback__)
    codes = [(frame.f_code, line) for frame, line in frames]
    for code, line in reversed(codes):
        path = Path(code.co_filename)
        if not (_is_of_a_library(code.co_filename) or path.is_relative_to(_PACKAGE)):
            return f"{code.co_name} of {path.name}, line {line}"
    return ""
