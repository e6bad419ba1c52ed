"""Leaving out imports of other libraries that nothing here uses."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any


class _Deferred(ModuleType):
    """Placeholder of a module, which is imported when one of its attributes is used for the first time."""

    def __getattr__(self, name: str) -> Any:
        # Attributes that the import system and `inspect` look for in any module.
        if name.startswith("__") and name != "__path__":
            raise AttributeError(name)
        _take_away(self)
        return getattr(import_module(self.__name__), name)


@contextmanager
def deferred(name: str, **known: object) -> Iterator[None]:
    """Put off importing a module while others are imported that do so without using it; afterwards it is as ever.

    Args:
        name: A module in a package. Where the package is not installed, nothing happens.
        known: Attributes of it that they ask for, and what they get.
    """
    package, _, short = name.rpartition(".")
    try:
        parent = import_module(package)
    except ImportError:
        parent = None
    if parent is None or name in sys.modules:
        yield
        return
    stand_in = _Deferred(name)
    vars(stand_in).update(known)
    sys.modules[name] = stand_in
    setattr(parent, short, stand_in)
    try:
        yield
    finally:
        _take_away(stand_in)


def _take_away(stand_in: _Deferred) -> None:
    package, _, short = stand_in.__name__.rpartition(".")
    if sys.modules.get(stand_in.__name__) is stand_in:
        del sys.modules[stand_in.__name__]
    if vars(sys.modules[package]).get(short) is stand_in:
        delattr(sys.modules[package], short)
