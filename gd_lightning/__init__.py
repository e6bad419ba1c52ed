"""A gradient-descent laboratory on PyTorch Lightning, where ``batch_size`` is the algorithm.

The public names are listed once, in ``__init__.pyi`` beside this file: type checkers read it as it is, and
this module reads it to know which module to import when a name is first asked for. So ``import gd_lightning``
loads no torch and no Lightning, and ``from gd_lightning import RegressionModule`` works all the same.
"""

__version__ = "0.1.0"

_ROOMS: dict[str, str] = {}  # of each public name


def _rooms() -> dict[str, str]:
    """Return the module that each public name lives in, read from the stub where one is first asked for."""
    if not _ROOMS:
        # A program that only starts the command line has no need of them.
        import ast
        import pkgutil

        stub = ast.parse(pkgutil.get_data(__name__, "__init__.pyi") or b"")  # also of a package in a zip archive
        imports = (node for node in stub.body if isinstance(node, ast.ImportFrom) and node.module != __name__)
        _ROOMS.update({alias.name: f"{node.module}" for node in imports for alias in node.names})
    return _ROOMS


def __getattr__(name: str) -> object:
    if name == "__all__":
        return ["__version__", *_rooms()]
    import importlib

    if name == "sklearn":  # an extra, and so none of the names of `from gd_lightning import *`
        return importlib.import_module(f"{__name__}.sklearn")
    if name.startswith("__") or name not in _rooms():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_rooms()[name]), name)
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    return sorted(__getattr__("__all__"))  # type: ignore[call-overload]
