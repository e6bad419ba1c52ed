"""A gradient-descent laboratory on PyTorch Lightning, where ``batch_size`` is the algorithm.

- ``fit`` trains a run and returns it with its history and results; ``load`` reads one of before.
- ``plan`` says before training which learning rates are stable for which batch size, and which one is best.
- ``compare`` trains variants from several seeds, ``sweep`` thousands of small runs; each returns a report.
- ``explore`` makes a page for the browser on which the settings of a line are moved.
- ``RegressionDataModule``, ``RegressionModule`` and the callbacks are for a ``Trainer`` of your own.

Each takes data as arrays, data frames, the path of a table, or a ``Problem`` such as ``SteepLine``::

    run = gd_lightning.fit((x, y), batch_size=16, lr=0.05, epochs=20)
    print(run, run.history.last("train_loss"), run.predict(x))

The names that ``dir(gd_lightning)`` lists are public; all others may change without notice.
"""

# The public names are listed once, in __init__.pyi beside this file: type checkers read it as it is, and this module
# reads it to know which module to import when a name is first asked for. So `import gd_lightning` loads no torch and no
# Lightning, and `from gd_lightning import RegressionModule` works all the same.

__version__ = "0.1.0"

_ROOMS: dict[str, str] = {}  # of each public name


def _rooms() -> dict[str, str]:
    """Return the module that each public name lives in, read from the stub where one is first asked for.

    That of a public package is this module.
    """
    if not _ROOMS:
        # A program that only starts the command line has no need of them.
        import ast
        import pkgutil

        stub = ast.parse(pkgutil.get_data(__name__, "__init__.pyi") or b"")  # the stub is also found in a zip archive
        imports = (node for node in stub.body if isinstance(node, ast.ImportFrom))
        _ROOMS.update({alias.name: f"{node.module}" for node in imports for alias in node.names})
    return _ROOMS


def __getattr__(name: str) -> object:
    if name == "__all__":  # __all__ lists no packages, since one of them is an optional dependency
        return ["__version__", *(each for each, room in _rooms().items() if room != __name__)]
    import importlib

    if name.startswith("__") or name not in _rooms():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _rooms()[name] == __name__:
        return importlib.import_module(f"{__name__}.{name}")
    value = getattr(importlib.import_module(_rooms()[name]), name)
    globals()[name] = value  # the next access finds the name without this function
    return value


def __dir__() -> list[str]:
    import importlib.util

    missing = set() if importlib.util.find_spec("sklearn") else {"sklearn"}  # every name that is listed can be imported
    return sorted({"__version__", *_rooms()} - missing)
