"""The programs that make the measured documents: they print, and write only where they are asked to."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from gd_lightning.experiments.comparison.claims import TIMED
from tests.benchmarks import __main__ as benchmarks
from tests.benchmarks.sections import SECTIONS
from tests.conftest import ROOT
from tests.experiments import __main__ as experiments

Program = tuple[Callable[[list[str]], None], Path]


@pytest.fixture(params=["experiments", "benchmarks"])
def program(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Program:
    """Return a program whose parts say their names instead of measuring, and the document that it would write."""
    (tmp_path / "docs").mkdir()
    if request.param == "experiments":
        monkeypatch.setattr(experiments, "ROOT", tmp_path)
        monkeypatch.setattr(experiments, "run", lambda config: f"## {config.stem}, done")
        monkeypatch.setattr(experiments, "title_of", lambda config: f"{config.stem}, done")
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
    ("options", "code"), [(["--help"], 0), (["nothing"], 2), (["--write", "nothing"], 2), (["--unknown"], 2)]
)
def test_help_and_mistakes_measure_nothing(
    program: Program, options: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    main, document = program
    with pytest.raises(SystemExit) as ended:
        main(options)
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


def test_the_experiments_are_written_in_pieces_and_checked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, *_ = (config.stem for config in experiments.EXPERIMENTS)
    said = {"agrees": "agrees (train_loss: 1 < 2)", "timed": "agrees (seconds_per_epoch: 1 < 2; a time)"}

    def run(config: Path) -> str:
        return f'## {experiments.title_of(config)}\n\n- "a": {said["agrees"]}\n- "b": {said["timed"]}'

    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(experiments, "ROOT", tmp_path)
    monkeypatch.setattr(experiments, "run", run)
    experiments.main(["--write", second])
    experiments.main(["--write", first])
    document = tmp_path / "docs" / "experiments.md"
    sections = experiments.sections_of(document.read_text())
    assert list(sections) == [experiments.title_of(config) for config in experiments.EXPERIMENTS[:2]]
    experiments.main(["--check", first, second])
    said["timed"] = "does not agree (seconds_per_epoch: 1 and 2; a time)"
    experiments.main(["--check", first])
    capsys.readouterr()
    said["agrees"] = "does not agree (train_loss: 2 and 2)"
    with pytest.raises(SystemExit) as ended:
        experiments.main(["--check", first, second])
    assert ended.value.code == 1
    assert capsys.readouterr().out == f'{first}: "a" does not agree now\n{second}: "a" does not agree now\n'


def test_the_changelog_has_releases_of_what_was_added_changed_and_fixed() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    releases = re.split(r"^## ", text, flags=re.M)[1:]
    assert releases
    for release in releases:
        assert re.match(r"\d+\.\d+\.\d+\n", release)
        parts = re.findall(r"^### (.*)$", release, re.M)
        assert parts == [name for name in ("Added", "Changed", "Fixed", "Removed") if name in parts]
        for entry in re.split(r"^- ", release.partition("### ")[2], flags=re.M)[1:]:
            assert len(entry.partition("\n\n")[0].strip().splitlines()) <= 4, entry


def test_the_document_has_the_claims_of_every_experiment_and_says_which_a_clock_decides() -> None:
    sections = experiments.sections_of((experiments.ROOT / experiments.DOCUMENT).read_text(encoding="utf-8"))
    timed = 0
    for config in experiments.EXPERIMENTS:
        claims = yaml.safe_load(config.read_text(encoding="utf-8"))["claims"]
        section = sections[experiments.title_of(config)]
        verdicts = experiments.verdicts_in(section)
        assert set(verdicts) == set(claims)
        timed += section.count(TIMED)
        assert section.count(TIMED) == sum(is_timed for _, is_timed in verdicts.values())
    assert timed >= 2
