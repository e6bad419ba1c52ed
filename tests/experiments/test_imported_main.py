"""Processes that import the program that starts them: where they cannot, or would start others, it is said."""

from __future__ import annotations

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import gd_lightning
from gd_lightning.errors import InputError
from gd_lightning.experiments.imported_main import check_main

GUARD = 'if __name__ == "__main__":\n    '
REFUSED = {
    "bare": "begin()",
    "in an expression": "import sys\ncode = [0, begin()]",
    "over several lines": "found = [\n    1,\n    begin(),\n]",
    "in a function": "def work():\n    begin()\n\nwork()",
    "beside a guard": f"{GUARD}pass\nbegin()",
    "in another condition": "if True:\n    begin()",
    "in a class": "class Run:\n    code = begin()",
    "where an error is caught": "try:\n    begin()\nfinally:\n    pass",
}
ALLOWED = {
    "guarded": f"{GUARD}begin()",
    "guarded, in a function": f"def work():\n    begin()\n\n{GUARD}work()",
    "the other way round": 'if "__main__" == __name__:\n    begin()',
    "and something else": 'import sys\nif __name__ == "__main__" and sys.argv:\n    begin()',
    "guarded, in blocks": f"{GUARD}for _ in range(2):\n        with open(__file__) as file:\n            begin()",
}


def _run(monkeypatch: pytest.MonkeyPatch, text: str, file: str | None, begin: Any) -> None:
    """Execute a program as Python does: in the module __main__."""
    main = ModuleType("__main__")
    vars(main).update({"begin": begin} if file is None else {"begin": begin, "__file__": file})
    monkeypatch.setitem(sys.modules, "__main__", main)
    exec(compile(text, file or "<string>", "exec"), vars(main))


@pytest.mark.parametrize("text", REFUSED.values(), ids=list(REFUSED))
def test_a_program_that_every_process_would_begin_again_is_refused(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "program.py"
    file.write_text(text)
    with pytest.raises(
        InputError, match=r'imports program.py .* put what starts them under if __name__ == "__main__":$'
    ):
        _run(monkeypatch, text, str(file), check_main)
    # What is advised.
    parts = text.rpartition("\n\n")
    followed = "".join([*parts[:2], GUARD, parts[2].replace("\n", "\n    ")])
    file.write_text(followed)
    _run(monkeypatch, followed, str(file), check_main)


@pytest.mark.parametrize("text", ALLOWED.values(), ids=list(ALLOWED))
def test_a_program_that_processes_can_import_starts_them(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "program.py").write_text(text)
    _run(monkeypatch, text, str(tmp_path / "program.py"), check_main)


def test_a_program_that_is_in_no_file_is_refused_unless_it_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in ("<stdin>", str(tmp_path / "removed.py")):
        with pytest.raises(
            InputError, match=r"this one is not in a file; write it to a file, or train in this process$"
        ):
            _run(monkeypatch, "begin()", file, check_main)
    _run(monkeypatch, "begin()", None, check_main)  # a session


def test_executors_are_refused_that_import_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "program.py"
    file.write_text("begin()")
    with ThreadPoolExecutor(1) as threads:
        _run(monkeypatch, "begin()", str(file), lambda: check_main(threads))
    for kind in multiprocessing.get_all_start_methods():
        executor = ProcessPoolExecutor(1, multiprocessing.get_context(kind))
        begin = lambda executor=executor: gd_lightning.sweep(  # noqa: E731
            gd_lightning.SteepLine(), lrs=[0.1], epochs=1, executor=executor
        )
        if kind != "fork":  # to fork a process with threads may hang
            with pytest.raises(InputError, match="cannot start processes"):
                _run(monkeypatch, "begin()", str(file), begin)
        executor.shutdown()


@pytest.mark.parametrize(
    "command", [["sweep"], pytest.param(["compare", "--directory", "there"], marks=pytest.mark.slow)]
)
def test_a_command_with_workers_in_such_a_program_is_refused_before_anything_is_written(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "program.py").write_text("begin()")
    codes: list[int] = []
    arguments = [*command, "--workers", "2", "--trainer.max_epochs", "1"]
    _run(monkeypatch, "begin()", "program.py", lambda: codes.append(gd_lightning.main(arguments)))
    (line,) = capfd.readouterr().err.splitlines()
    assert codes == [2]
    assert "cannot start processes, because each of them imports program.py" in line
    assert [path.name for path in tmp_path.iterdir()] == ["program.py"]
