"""Every option, class and file goes through what is wrong, at an edge or damaged: a line, a code, nothing left."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.drawn_inputs import STAGES, case, options, pluggable
from tests.cli.endings import make_quick, prepare, what_is_wrong

CHUNK = 50
# Where the twenty thousand begin; from another number on, they are others.
FIRST = int(os.environ.get("WALK_FIRST", "500"))
Place = tuple[Path, Path, dict[str, bytes]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Return the directory of the command lines, a sound copy of it, and the content of its files."""
    work, copy = tmp_path_factory.mktemp("work"), tmp_path_factory.mktemp("copy")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work)
        patch.setattr("gd_lightning.callbacks.Pictures.on_train_end", lambda *_: None)
        content = prepare(copy)
    return work, copy, content


def _walk(numbers: range, place: Place, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    work, copy, sound = place
    monkeypatch.chdir(work)
    make_quick(monkeypatch)
    found = []
    for number in numbers:
        tried = case(number, sound)
        if wrong := what_is_wrong(tried, copy, capfd.readouterr):
            found.append(f"{number}: {tried}\n  " + "\n  ".join(wrong))
    assert not found, "\n".join(found)


# What a framework warns of is no exception at the command line.
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("chunk", range(500 // CHUNK))
def test_five_hundred_inputs_are_followed_or_refused_in_one_line(
    chunk: int, place: Place, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    _walk(range(chunk * CHUNK, (chunk + 1) * CHUNK), place, monkeypatch, capfd)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("chunk", range(20))
def test_twenty_thousand_inputs_are_followed_or_refused_in_one_line(
    chunk: int, place: Place, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    _walk(range(FIRST + 1000 * chunk, FIRST + 1000 * (chunk + 1)), place, monkeypatch, capfd)


def test_the_walk_knows_what_the_parsers_know() -> None:
    assert set(STAGES) == {"fit", "validate", "test", "predict", "plan", "compare", "sweep", "explore"}
    for stage, own in (("fit", "model.lr"), ("plan", "map"), ("compare", "vary"), ("sweep", "l1s")):
        assert own in options(stage)
    known = pluggable("fit")
    for name, path in (
        ("data.problem", "gd_lightning.problems.tables.Table"),
        ("optimizer", "torch.optim.adam.Adam"),
        ("trainer.callbacks", "lightning.pytorch.callbacks.early_stopping.EarlyStopping"),
        ("model.network", "torch.nn.modules.linear.Linear"),
    ):
        assert path in known[name]
