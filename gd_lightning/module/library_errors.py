"""Errors of libraries whose classes were given as options, reported as errors of these options (layer 4).

An ``InputError`` passes unchanged, and so do exceptions of the user's own code, and errors of the machine: an
``OSError``, unless the constructor of a logger raises it, and errors that report a lack of memory.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger
from torch import Tensor, nn

from gd_lightning.errors import InputError, first_line
from gd_lightning.module.network import NetworkModule
from gd_lightning.module.origin_of_code import is_of_a_library, is_of_this_package, place_of_ones_own
from gd_lightning.torch_internals import is_loss_of_a_process, is_short_of_memory


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


class GivenClasses:
    """The classes that are given as options, and of which objects are given, with reports of their errors in a run.

    Args:
        options: Options with classes, objects and ``class_path`` among their values; read when an error is raised.
    """

    def __init__(self, *options: object) -> None:
        self._options: list[object] = [*options]

    def add(self, *options: object) -> None:
        """Add options, such as objects that were made since."""
        self._options += options

    def construct(self, kind: type, /, *args: Any, **options: Any) -> Any:
        """Make an object.

        Args:
            kind: The class of the object.
            args: Arguments from this program, such as the sizes of a network.
            options: Arguments from the options.

        Raises:
            InputError: The constructor raised an exception.
        """
        self.add(kind)
        with refusals_of(kind):
            return kind(*args, **options)

    @contextmanager
    def refusals_in_a_run(self) -> Iterator[None]:
        """Report errors of libraries in this context as errors of the options.

        Lightning marks such errors by their class. For a class that options name, these are all exceptions that leave
        one of its methods, or a layer of its network, without having passed code of this package or of the user; in a
        network of the user's own, code that calls a layer may be passed. Exceptions of the user's own code, and of this
        package, are passed on.

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
            kind = None if is_short_of_memory(error) or is_loss_of_a_process(error) else self._reporting(error)
            if kind is None:
                raise
            if issubclass(kind, Logger):
                raise LoggingError(
                    f"{_program(kind)} reports: {first_line(error)}; leave it out of trainer.logger, or repair its "
                    "destination"
                ) from error
            if issubclass(kind, nn.Module):
                raise InputError(
                    f"cannot train {kind.__name__} on these data, because it reports: {_said(error)}; give a network "
                    "that takes features of shape (B, D) and returns predictions of shape (B, K)"
                ) from error
            raise _refusal(kind, error) from error

    def _reporting(self, error: Exception) -> type | None:
        """Return the given class that reports an exception of a library, if one does."""
        kinds, found, in_layer = set(_classes_in(self._options)), None, False
        for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
            code, file = frame.f_code, frame.f_code.co_filename
            this = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None  # in a method, its object
            is_layer = isinstance(this, nn.Module)
            if is_of_a_library(file):
                in_layer = in_layer or is_layer
            elif not (is_layer and in_layer) and (found is None or not is_of_this_package(file)):
                return None
            # Other code calls the module that is trained, so its own frames do not tell the cause.
            if found is None and type(this) in kinds and not isinstance(this, NetworkModule):
                found = type(this)
        return found


def _classes_in(options: object) -> Iterator[type]:
    """Yield the classes that are among options, and those of objects among them."""
    if isinstance(options, type):
        yield options
    elif isinstance(options, partial):
        yield from _classes_in(options.func)
    elif isinstance(options, Mapping):
        module, _, name = str(options.get("class_path", "")).rpartition(".")
        yield from _classes_in([getattr(sys.modules.get(module), name, None), *options.values()])
    elif isinstance(options, (list, tuple)):
        for each in options:
            yield from _classes_in(each)
    elif not isinstance(options, (str, int, float, Tensor, type(None))):
        yield type(options)


def _refusal(kind: type | None, error: Exception) -> InputError:
    """Return the error of options for an exception that a class reports; None if it is not known which."""
    if kind is Trainer:
        return InputError(
            f"cannot train with these options of the Trainer, because it reports: {first_line(error)}; give others"
        )
    if kind is not None and issubclass(kind, Logger):
        return InputError(
            f"cannot log, because {_program(kind)} reports: {first_line(error)}; give other options of trainer.logger, "
            "or leave it out"
        )
    if kind is None:
        return InputError(f"cannot use these options: {_said(error)}")
    return InputError(
        f"cannot use these options, because {kind.__name__} reports: {_said(error)}; change its options, or leave "
        "it out"
    )


def _said(error: Exception) -> str:
    place = place_of_ones_own(error)
    return first_line(error) + (f" (in {place})" if place else "")


def _told_within(error: BaseException) -> BaseException | None:
    """Return the exception of a class, if jsonargparse has wrapped it in its report on all types of an option."""
    cause: BaseException | None = error.__cause__
    while cause is not None and not (isinstance(cause, (InputError, OSError)) or is_short_of_memory(cause)):
        cause = cause.__cause__
    return cause


def _program(logger: type) -> str:
    return logger.__module__.rpartition(".")[2]
