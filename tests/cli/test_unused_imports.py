"""What other libraries import without using it is put off, and is there as ever for who uses it."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from gd_lightning.cli.unused_imports import deferred

NAME = "package_of_a_test.part"
USES: dict[str, str] = {
    "an attribute": "import package_of_a_test.part; found = package_of_a_test.part.VALUE",
    "from the module": "from package_of_a_test.part import VALUE as found",
    "from the package": "from package_of_a_test import part; found = part.VALUE",
    "all": "from package_of_a_test.part import *; found = VALUE",
    "a module in it": "import package_of_a_test.part.inner as inner; found = inner.VALUE",
    "a function of it": "from package_of_a_test.part.inner import VALUE as found",
}
NO_USES = (
    "import package_of_a_test.part as it",
    "from package_of_a_test import part as it",
    "import package_of_a_test.part; it = package_of_a_test.part",
)


@pytest.fixture(autouse=True)
def _package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make a package with a module that is a package, too."""
    part = tmp_path / "package_of_a_test" / "part"
    part.mkdir(parents=True)
    (part.parent / "__init__.py").write_text("")
    for name in ("__init__", "inner"):
        (part / f"{name}.py").write_text("VALUE = 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [name for name in sys.modules if name.startswith("package_of_a_test")]:
        del sys.modules[name]


def _run(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(code, names)
    return names


@pytest.mark.parametrize("use", NO_USES)
def test_importing_alone_loads_nothing(use: str) -> None:
    with deferred(NAME, old=None):
        module = _run(use)["it"]
        assert module.old is None
        assert not hasattr(module, "__file__")  # as `inspect` asks
    assert NAME not in sys.modules
    assert not hasattr(sys.modules["package_of_a_test"], "part")
    assert import_module(NAME).VALUE == 7


@pytest.mark.parametrize("use", USES)
def test_using_something_loads_it_for_good(use: str) -> None:
    with deferred(NAME, old=None):
        if use == "all":
            _run("import package_of_a_test.part as it; it.VALUE")
        assert _run(USES[use])["found"] == 7
    assert sys.modules[NAME].VALUE == 7
    assert sys.modules["package_of_a_test"].part is sys.modules[NAME]
    assert not hasattr(sys.modules[NAME], "old")


def test_what_is_loaded_or_not_installed_is_left_alone() -> None:
    there = import_module(NAME)
    with deferred(NAME, VALUE=8):
        assert import_module(NAME) is there
    with deferred("no_such_package.part"), pytest.raises(ModuleNotFoundError):
        import_module("no_such_package.part")
    assert "no_such_package.part" not in sys.modules


@pytest.mark.slow
def test_the_command_line_does_not_load_signal_processing() -> None:
    pytest.importorskip("scipy", reason="there is nothing to load")
    code = (
        "import sys; from gd_lightning.cli import _load; _load(); import torchmetrics; "
        "assert 'scipy.signal' not in sys.modules; "
        "import scipy.signal; print(scipy.signal.convolve([1, 2], [3, 4]).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[3, 10, 8]"
