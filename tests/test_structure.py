"""The architecture: layers, names, docstrings, dependencies."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from importlib.metadata import metadata, packages_distributions
from pathlib import Path
from typing import Any

import pytest

import gd_lightning
from tests.conftest import ROOT

PUBLIC: list[str] = importlib.import_module("gd_lightning").__all__
PACKAGE = ROOT / "gd_lightning"
LAYERS = {
    "errors": 0,
    "escaping": 0,
    "variants": 0,
    "losses": 0,
    "update_rule": 0,
    "default_learning_rate": 0,
    "affine": 0,
    "linear_least_squares": 0,
    "identifiability": 0,
    "float64": 0,
    "micro_batches": 0,
    "threads": 0,
    "free_memory": 0,
    "memory_checks": 0,
    "plain_numbers": 0,
    "records": 0,
    "random_numbers": 0,
    "replaced_files": 0,
    "shared_results": 0,
    "signals": 0,
    "similar_options": 0,
    "torch_internals": 0,
    "versions": 0,
    "problems": 1,
    "models": 1,
    "measures": 2,
    "theory": 2,
    "engine": 3,
    "plots": 3,
    "tracking": 3,
    "lightning_internals": 3.5,
    "module": 4,
    "data": 4,
    "callbacks": 5,
    "experiments": 6,
    "sklearn": 5,
    "cli": 7,
    "__main__": 7,
}
# Packages of one layer do not import each other; these are in the lowest, where an order is natural.
LOWEST = [
    "errors",
    "escaping",
    "float64",
    "threads",
    "free_memory",
    "memory_checks",
    "random_numbers",
    "shared_results",
    "signals",
    "similar_options",
    "plain_numbers",
    "variants",
    "micro_batches",
    "losses",
    "update_rule",
    "default_learning_rate",
    "identifiability",
    "torch_internals",
    "affine",
    "linear_least_squares",
    "records",
    "versions",
]
COMPILED = tuple(
    f"gd_lightning.engine.{name}" for name in ("compilation_cache", "compiling", "fusible", "kernels", "many.kernels")
)
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def _package(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide which package is meant"
            yield f"{node.module}"


def _own(imports: Iterator[str]) -> Iterator[str]:
    return (name.split(".")[1] for name in imports if name.startswith("gd_lightning."))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_package_imports_only_from_layers_below(path: Path) -> None:
    package = _package(path)
    for other in _own(_imports(path)):
        if other == package:
            continue
        in_lowest = {package, other} <= set(LOWEST)
        below = LOWEST.index(other) < LOWEST.index(package) if in_lowest else LAYERS[other] < LAYERS[package]
        assert below or {package, other} == {"__main__", "cli"}, f"{package} imports {other}"


def test_there_are_no_cycles_within_packages() -> None:
    graph = {}
    for path in FILES:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        # The __init__.py of a package only hands on names; who imports it is not part of a cycle through it.
        graph[name] = set(_imports(path)) if path.name != "__init__.py" else set()
    visited: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join((*above, name))
        if name in visited or name not in graph:
            return
        for other in graph[name]:
            visit(other, (*above, name))
        visited.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize(
    "path", [p for p in FILES if LAYERS[_package(p)] <= 3], ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_the_lower_layers_know_no_lightning(path: Path) -> None:
    assert not any(name.split(".")[0] in {"lightning", "torchmetrics", "jsonargparse"} for name in _imports(path))


def test_every_package_has_a_layer() -> None:
    assert {_package(path) for path in FILES} == set(LAYERS)


LINES_OF_A_FUNCTION, METHODS_OF_A_CLASS = 40, 20
MEDIAN, NINTH_TENTH, LONGEST = 120, 280, 450  # lines of a file


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_functions_and_classes_fit_on_a_screen(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            # Arguments and their description, which is longest where most people read it, do not count.
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = node.end_lineno - body[0].lineno + 1 if body and node.end_lineno else 0
            assert lines <= LINES_OF_A_FUNCTION, f"{node.name} has {lines} lines"
        elif isinstance(node, ast.ClassDef):
            methods = sum(isinstance(each, ast.FunctionDef) for each in node.body)
            assert methods <= METHODS_OF_A_CLASS, f"{node.name} has {methods} methods"


def test_files_are_short() -> None:
    lengths = sorted(len(path.read_text().splitlines()) for path in FILES)
    assert lengths[len(lengths) // 2] <= MEDIAN
    assert lengths[len(lengths) * 9 // 10] <= NINTH_TENTH
    assert lengths[-1] <= LONGEST


def _fresh(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120).stdout


def test_importing_the_package_is_light_and_changes_nothing() -> None:
    loaded = _fresh(
        "import sys, gd_lightning;"
        "print({m.split('.')[0] for m in sys.modules} & {'torch', 'numpy', 'lightning', 'sklearn'})"
    )
    assert loaded.strip() == "set()"
    code = """
import logging, random, warnings
import numpy, torch
import lightning.pytorch.cli, jsonargparse, matplotlib, tensorboard, torch.utils.tensorboard
torch.manual_seed(1), random.seed(1), numpy.random.seed(1)
def state():
    loggers = {name: (str(l.handlers), l.level, str(l.filters)) for name, l in logging.root.manager.loggerDict.items()
               if isinstance(l, logging.Logger) and not name.startswith('gd_lightning')}
    return str(torch.get_rng_state()), random.getstate(), str(numpy.random.get_state()), warnings.filters[:], loggers
before = state()
import gd_lightning
for name in gd_lightning.__all__:
    getattr(gd_lightning, name)
import gd_lightning.cli.execution
after = state()
print([a == b for a, b in zip(before[:4], after[:4])], {k: v for k, v in after[4].items() if before[4].get(k, v) != v})
"""
    assert _fresh(code).strip() == "[True, True, True, True] {}"


def test_public_names_are_listed_once_and_all_there() -> None:
    packages = {name for name in dir(gd_lightning) if inspect.ismodule(getattr(gd_lightning, name))}
    assert packages == {"callbacks", "engine", "problems", "sklearn", "theory"}
    assert sorted([*PUBLIC, *packages]) == dir(gd_lightning)
    for name in PUBLIC:
        value = getattr(gd_lightning, name)
        assert name == "__version__" or value.__doc__, f"{name} has no docstring"
    assert {"RegressionDataModule", "RegressionModule", "Problem", "History", "Variant"} <= set(PUBLIC)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        getattr(gd_lightning, "Nothing")  # noqa: B009  # a type checker knows that it is not there


def test_the_version_stands_in_one_place() -> None:
    assert metadata("gd-lightning")["Version"] == gd_lightning.__version__
    assert f"## {gd_lightning.__version__}" in (ROOT / "CHANGELOG.md").read_text()


MODULES = sorted(
    info.name for info in pkgutil.walk_packages([str(PACKAGE)], "gd_lightning.") if "__main__" not in info.name
)


def _skip_what_is_compiled(name: str) -> None:
    if name.startswith(COMPILED):
        pytest.importorskip("numba", reason="the fused engine is compiled by numba")


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_are_true(name: str) -> None:
    _skip_what_is_compiled(name)
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def _documented(docstring: str) -> list[str]:
    section = re.search(
        r"^ *Args:\n(.*?)(?=^ *(?:Returns|Raises|Yields|Example|Attributes):|\Z)", docstring, re.M | re.S
    )
    if section is None:
        return []
    indent = len(section[1]) - len(section[1].lstrip(" "))
    return re.findall(rf"^ {{{indent}}}(\w+): ", section[1], re.M)


@pytest.mark.parametrize("name", MODULES)
def test_documented_arguments_are_those_there_are(name: str) -> None:
    _skip_what_is_compiled(name)
    module = importlib.import_module(name)
    for _, value in inspect.getmembers(module, lambda v: inspect.isclass(v) or inspect.isfunction(v)):
        if value.__module__ != name:
            continue
        # A class documents its arguments itself, and its methods theirs.
        members = [
            value,
            *(m for _, m in inspect.getmembers(value, inspect.isfunction) if m.__module__ == name and m.__doc__),
        ]
        for member in members:
            documented = _documented(member.__doc__ or "")
            if documented:
                taken = [p for p in inspect.signature(member).parameters if p not in ("self", "cls")]
                assert documented == [p for p in taken if p in documented], f"{member.__qualname__}: {documented}"
                assert set(documented) == set(taken), f"{member.__qualname__} documents {documented}, takes {taken}"


def _raised(function: Callable[..., Any]) -> bool:
    """Whether a function itself raises an error that has a name of its own."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    raised = (node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call))
    return any(isinstance(call.func, ast.Name) and call.func.id.endswith("Error") for call in raised)


@pytest.mark.parametrize("name", [name for name in PUBLIC if name != "__version__"])
def test_what_a_public_name_raises_is_documented(name: str) -> None:
    value = getattr(gd_lightning, name)
    if inspect.isfunction(value):
        assert not _raised(value) or "Raises:" in (value.__doc__ or "")
    elif inspect.isclass(value):
        methods = inspect.getmembers(value, inspect.isfunction)
        own = [(key, method) for key, method in methods if method.__qualname__.split(".")[0] == value.__name__]
        for key, method in own:
            documented = f"{method.__doc__} {value.__doc__ if key in ('__init__', '__post_init__') else ''}"
            if not key.startswith("_") or key in ("__init__", "__post_init__"):
                is_written = inspect.getsourcefile(method) is not None and "<string>" not in method.__code__.co_filename
                assert not (is_written and _raised(method)) or "Raises:" in documented, f"{name}.{key}"


def _own_functions(name: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield a public function, or those public methods of a public class that no base class defines."""
    value = getattr(gd_lightning, name)
    if inspect.isfunction(value):
        yield name, value
    elif inspect.isclass(value):
        for key, member in vars(value).items():
            method = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
            inherited = any(key in vars(base) for base in value.__mro__[1:])
            if inspect.isfunction(method) and not key.startswith("_") and not inherited:
                yield f"{name}.{key}", inspect.unwrap(method)


# What these take is said once: by Lightning, or where a request of a callback is defined.
_HOOKS = ("chunk_request", "to")


@pytest.mark.parametrize("name", [name for name in PUBLIC if name != "__version__"])
def test_what_a_public_name_takes_is_documented(name: str) -> None:
    for place, function in _own_functions(name):
        taken = [each for each in inspect.signature(function).parameters if each not in ("self", "cls")]
        if taken and place.rpartition(".")[2] not in _HOOKS:
            assert _documented(function.__doc__ or ""), f"{place} takes {taken}"


def test_every_import_is_a_declared_dependency() -> None:
    pytest.importorskip("numba", reason="says which package each import is of, that of the fused engine, too")
    imported = {name.split(".")[0] for path in FILES for name in _imports(path)} - set(sys.stdlib_module_names)
    requirements = metadata("gd-lightning").get_all("Requires-Dist") or []
    declared = {re.split(r"[\[<>=;! ]", requirement)[0].lower() for requirement in requirements}
    homes = packages_distributions()
    for name in imported - {"gd_lightning"}:
        assert {home.lower() for home in homes[name]} & declared, f"{name} is not declared"


@pytest.mark.parametrize("requirement", ["torch<2.14,>=2.6", "lightning<3,>=2.6.4", "jsonargparse[signatures]"])
def test_requirements_with_a_reason_are_kept(requirement: str) -> None:
    requirements = metadata("gd-lightning").get_all("Requires-Dist") or []
    assert any(declared.startswith(requirement) for declared in requirements)


def test_no_test_is_named_after_a_long_value(request: pytest.FixtureRequest) -> None:
    """Processes that share the tests know them by their names: see ``pytest_make_parametrize_id`` in conftest.py."""
    assert [item.nodeid for item in request.session.items if len(item.nodeid) > 400] == []


def test_the_top_level_is_tidy() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("not in a git checkout")
    top = {line.split("/")[0] for line in tracked.stdout.splitlines() if not line.startswith(".")}
    allowed = {
        "pyproject.toml",
        "README.md",
        "gd_lightning",
        "tests",
        "configs",
        "lightning_logs",
        "LICENSE",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "CITATION.cff",
        "SECURITY.md",
        "docs",
    }
    assert top <= allowed
