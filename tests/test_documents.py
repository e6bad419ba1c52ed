"""The programs that make the measured documents: they print, and write only where they are asked to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import __main__ as benchmarks
from tests.benchmarks.sections import SECTIONS
from tests.experiments import __main__ as experiments

Program = tuple[Callable[[list[str]], None], Path]


@pytest.fixture(params=["experiments", "benchmarks"])
def program(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Program:
    """Return a program whose parts say their names instead of measuring, and the document that it would write."""
    (tmp_path / "docs").mkdir()
    if request.param == "experiments":
        monkeypatch.setattr(experiments, "ROOT", tmp_path)
        monkeypatch.setattr(experiments, "run", lambda config: f"## {config.stem}, done")
        return experiments.main, tmp_path / "docs" / "experiments.md"
    named: dict[str, tuple[Any, ...]] = {name: (name, "", lambda: "done") for name in SECTIONS}
    monkeypatch.setattr(benchmarks, "DOCS", tmp_path / "docs")
    monkeypatch.setattr(benchmarks, "SECTIONS", named)
    monkeypatch.setattr(benchmarks, "quiet", lambda: None)
    return benchmarks.main, tmp_path / "docs" / "benchmarks.md"


def _names(main: Any) -> list[str]:
    if main is experiments.main:
        return [config.stem for config in experiments.EXPERIMENTS]
    return list(SECTIONS)


@pytest.mark.parametrize(
    ("options", "code"), [(["--help"], 0), (["nothing"], 2), (["--write", "first"], 2), (["--unknown"], 2)]
)
def test_help_and_mistakes_measure_nothing(
    program: Program, options: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    main, document = program
    with pytest.raises(SystemExit) as ended:
        main([_names(main)[0] if option == "first" else option for option in options])
    assert ended.value.code == code
    out, err = capsys.readouterr()
    assert "done" not in out + err
    assert ("--write" in out) == (code == 0)
    assert not document.exists()


def test_what_is_measured_is_printed_and_written_on_demand(
    program: Program, capsys: pytest.CaptureFixture[str]
) -> None:
    main, document = program
    names = _names(main)
    main([names[1]])
    assert capsys.readouterr().out.count("done") == 1
    main([])
    assert capsys.readouterr().out.count("done") == len(names)
    assert not document.exists()
    main(["--write"])
    written = document.read_text(encoding="utf-8")
    places = [written.index(f"## {name}") for name in names]
    assert places == sorted(places)
    assert written.count("done") == len(names)


def test_the_benchmarks_are_written_in_pieces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In the order of the sections, whichever is measured first; another machine begins the document anew."""
    document, texts = tmp_path / "benchmarks.md", iter("abcdefg")
    named: dict[str, tuple[Any, ...]] = {name: (name.upper(), name, lambda: next(texts)) for name in ("x", "y", "z")}
    monkeypatch.setattr(benchmarks, "DOCS", tmp_path)
    monkeypatch.setattr(benchmarks, "SECTIONS", named)
    monkeypatch.setattr(benchmarks, "quiet", lambda: None)
    for machine, only, expected in (
        ("one", ["z"], [("Z", "a")]),
        ("one", ["x", "y"], [("X", "b"), ("Y", "c"), ("Z", "a")]),
        ("one", ["y"], [("X", "b"), ("Y", "d"), ("Z", "a")]),
        ("other", ["y"], [("Y", "e")]),
        ("other", ["x"], [("X", "f"), ("Y", "e")]),
    ):
        monkeypatch.setattr(benchmarks, "head", lambda machine=machine: machine)
        benchmarks.main(["--write", "--only", *only])
        sections = [f"## {title}\n\n{title.lower()}\n\n{text}" for title, text in expected]
        assert document.read_text(encoding="utf-8") == "\n\n".join([f"# Benchmarks\n\n{machine}", *sections]) + "\n"
