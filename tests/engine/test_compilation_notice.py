"""Compiled code is kept on disk, is never that of another version, and is said to be compiled where it is."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer

from gd_lightning import RegressionDataModule, RegressionModule, SteepLine
from gd_lightning.engine import announcing_compilation, compilation_notice
from gd_lightning.engine.compilation_notice import FROM_ARCHIVE, IN_EACH_PROCESS, ONCE, Announced, keeps_compiled_code
from tests.conftest import MakeTrainer

pytest.importorskip("numba", reason="the fused engine is compiled by numba")

PACKAGE = Path(compilation_notice.__file__).parents[1]
Double = Callable[[str], Any]


@pytest.fixture
def compiled_double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Double:
    """A function of a file of its own, as if it had just been loaded, for some version of the package."""
    from gd_lightning.engine.compiling import compiler

    (tmp_path / "doubling.py").write_text("def double(x): return 2 * x")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "doubling", raising=False)
    double = importlib.import_module("doubling").double
    return lambda stamp: compiler(stamp)(double)


def _is_used_again(compiled: Any) -> bool:
    assert compiled(4) == 8
    return bool(compiled.stats.cache_hits)


def test_compiled_code_is_used_again_until_one_of_its_files_changes(compiled_double: Double) -> None:
    """Numba has names of its own for what is replaced in its cache: a release that renames it fails here."""
    stamps = ("first", "first", "second", "second")
    assert [_is_used_again(compiled_double(stamp)) for stamp in stamps] == [False, True, False, True]


def test_code_of_another_version_is_not_loaded_even_where_the_index_says_that_it_is_ones_own(
    compiled_double: Double, tmp_path: Path
) -> None:
    """Two versions wrote at once: the index is that of one, the code that of the other."""
    for stamp, content in (("first", "def double(x): return 2 * x"), ("second", "def double(x): return 3 * x")):
        (tmp_path / "doubling.py").write_text(content)
        assert _is_used_again(compiled_double(stamp)) is False
        (tmp_path / "__pycache__").rename(tmp_path / stamp)
    shutil.copytree(tmp_path / "first", tmp_path / "__pycache__")
    (foreign,) = (tmp_path / "second").glob("*.nbc")
    shutil.copy(foreign, tmp_path / "__pycache__" / foreign.name)
    assert not _is_used_again(compiled_double("first"))
    assert _is_used_again(compiled_double("first"))


@pytest.mark.parametrize("content", [b"", b"no pickle", None])
@pytest.mark.parametrize("kind", ["nbi", "nbc"])
def test_files_that_are_damaged_are_written_again(
    compiled_double: Double, tmp_path: Path, kind: str, content: bytes | None
) -> None:
    _is_used_again(compiled_double("stamp"))
    (file,) = (tmp_path / "__pycache__").glob(f"*.{kind}")
    file.write_bytes(file.read_bytes()[:-20] if content is None else content)
    assert [_is_used_again(compiled_double("stamp")) for _ in range(2)] == [False, True]


def test_where_nothing_can_be_written_it_is_compiled_all_the_same(compiled_double: Double, tmp_path: Path) -> None:
    from gd_lightning.engine.compilation_cache import is_kept
    from gd_lightning.engine.compiling import compiler

    scope: dict[str, Any] = {}
    exec("def double(x): return 2 * x", scope)  # a function without a file has no place for a cache
    assert not _is_used_again(compiler()(scope["double"]))
    assert not is_kept(compiler()(scope["double"]))
    compiled = compiled_double("stamp")
    assert is_kept(compiled)
    shutil.rmtree(tmp_path / "__pycache__")  # as on a disk that has become full, or may no longer be written
    (tmp_path / "__pycache__").write_text("a file")
    assert not _is_used_again(compiled)
    assert not is_kept(compiled)


def test_it_is_said_once_where_updates_are_compiled(compiled_double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Announced, "already", False)
    said: list[str] = []
    for stamp, lines in (("first", [ONCE]), ("first", [ONCE]), ("second", [ONCE])):
        with announcing_compilation(said.append):
            compiled_double(stamp)(4)
        assert said == lines
    monkeypatch.setattr(Announced, "already", False)
    with announcing_compilation(said.append):
        compiled_double("second")(4)
    assert said == [ONCE]  # loaded from the cache
    compiled_double("third")(4)  # by somebody else
    assert said == [ONCE]


@pytest.mark.parametrize(
    ("is_kept", "is_in_archive", "sentence"),
    [(True, False, ONCE), (False, False, IN_EACH_PROCESS), (False, True, FROM_ARCHIVE)],
)
@pytest.mark.parametrize("is_notebook", [False, True], ids=["terminal", "notebook"])
def test_it_is_said_why_code_is_compiled_in_each_process(
    compiled_double: Double,
    monkeypatch: pytest.MonkeyPatch,
    is_kept: bool,
    is_in_archive: bool,
    sentence: str,
    is_notebook: bool,
) -> None:
    monkeypatch.setattr(Announced, "already", False)
    if is_notebook:
        monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    monkeypatch.setattr(compilation_notice, "keeps_compiled_code", lambda: is_kept)
    if is_in_archive:
        monkeypatch.setattr(
            compilation_notice, "__file__", "gd_lightning.whl/gd_lightning/engine/compilation_notice.py"
        )
    said: list[str] = []
    with announcing_compilation(said.append):
        compiled_double("stamp")(4)
    assert said == ([] if is_notebook and sentence == ONCE else [sentence])


def test_a_run_says_so_in_the_manner_of_lightning(
    compiled_double: Double, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The updates of other tests are compiled already; here another function is compiled where a run prepares."""
    monkeypatch.setattr(Announced, "already", False)
    said: list[str] = []
    monkeypatch.setattr("gd_lightning.module.run_engine.rank_zero_info", said.append)
    monkeypatch.setattr("gd_lightning.engine.FusedEngine.prepare", lambda *_: compiled_double("stamp")(4))
    trainer: Trainer = make_trainer(max_epochs=1)
    trainer.fit(RegressionModule(engine="fused"), RegressionDataModule(SteepLine()))
    assert said == [ONCE if keeps_compiled_code() else IN_EACH_PROCESS]


def test_the_package_may_be_in_an_archive(tmp_path: Path) -> None:
    from gd_lightning.engine.compilation_cache import _sources

    archive = tmp_path / "package.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in [*PACKAGE.glob("__init__.py*"), *(PACKAGE / "engine").rglob("*.py")]:
            file.write(path, path.relative_to(PACKAGE.parent))
    program = "import gd_lightning; print(gd_lightning.__file__, 'RegressionModule' in dir(gd_lightning))"
    command, environment = [sys.executable, "-c", program], {"PYTHONPATH": str(archive)}
    shown = subprocess.check_output(command, env=environment, cwd=tmp_path, text=True)
    assert shown.split() == [str(archive / "gd_lightning" / "__init__.py"), "True"]
    archived = list(_sources(zipfile.Path(archive) / "gd_lightning" / "engine"))
    assert archived == list(_sources(PACKAGE / "engine"))
    assert len(archived) > 15


def test_another_directory_for_compiled_code_helps_where_none_can_be_written(
    compiled_double: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the line about it advises."""
    from gd_lightning.engine.compilation_cache import is_kept

    (tmp_path / "__pycache__").write_text("a file")
    for variable in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "__pycache__"))
    assert not is_kept(compiled_double("stamp"))
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path / "elsewhere"))
    assert is_kept(compiled_double("stamp"))
    assert [_is_used_again(compiled_double("stamp")) for _ in range(2)] == [False, True]
