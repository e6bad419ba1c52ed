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

_MODULES: dict[str, str] = {}  # the module of each public name


def _modules() -> dict[str, str]:
    """Return the module of each public name, read from the stub when one is first asked for.

    The module of a public package is this one.
    """
    if not _MODULES:
        # A program that only starts the command line needs no ast and no pkgutil.
        import ast
        import pkgutil

        stub = ast.parse(pkgutil.get_data(__name__, "__init__.pyi") or b"")  # the stub is also found in a zip archive
        imports = (node for node in stub.body if isinstance(node, ast.ImportFrom))
        _MODULES.update({alias.name: f"{node.module}" for node in imports for alias in node.names})
    return _MODULES


def __getattr__(name: str) -> object:
    if name == "__all__":  # __all__ lists no packages, since one of them is an optional dependency
        return ["__version__", *(each for each, module in _modules().items() if module != __name__)]
    import importlib

    if name.startswith("__") or name not in _modules():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _modules()[name] == __name__:
        return importlib.import_module(f"{__name__}.{name}")
    value = getattr(importlib.import_module(_modules()[name]), name)
    globals()[name] = value  # the next access finds the name without this function
    return value


def __dir__() -> list[str]:
    import importlib.util

    missing = set() if importlib.util.find_spec("sklearn") else {"sklearn"}  # every name that is listed can be imported
    return sorted({"__version__", *_modules()} - missing)
