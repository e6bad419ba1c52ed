"""A gradient-descent laboratory on PyTorch Lightning, where ``batch_size`` is the algorithm.

The public names are listed once, in ``__init__.pyi`` beside this file: type checkers read it as it is, and
this module reads it to know which room to import when a name is first asked for. So ``import gd_lightning``
loads no torch and no Lightning, and ``from gd_lightning import RegressionModule`` works all the same.
"""

import ast
import importlib
from pathlib import Path

__version__ = "0.1.0"


def _public_names() -> dict[str, str]:
    """Return the room that each public name lives in, read from the stub."""
    stub = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    imports = (node for node in stub.body if isinstance(node, ast.ImportFrom))
    return {alias.name: f"{node.module}" for node in imports for alias in node.names}


_ROOMS = _public_names()
__all__ = ["__version__", *_ROOMS]


def __getattr__(name: str) -> object:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_ROOMS[name]), name)
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
