from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gd_lightning.records.history import History, Outcome
from gd_lightning.tracking.atomic_writes import write_json, write_text
from gd_lightning.tracking.epoch_table import epoch_table, milestones
from gd_lightning.tracking.run_directory import claim_directory, claim_file, free_name, run_name
from gd_lightning.tracking.summary import run_card, run_report, summarize
from gd_lightning.variants import Variant


def _history(epochs: int) -> History:
    history = History()
    for epoch in range(epochs + 1):
        history.append(update=epoch, epoch=epoch, samples=100 * epoch, seconds=0.5 * epoch, train_loss=1 / (epoch + 1))
    history.outcome, history.reason = Outcome.COMPLETED, "max_epochs reached"
    return history


def test_names_are_free_and_readable(tmp_path: Path) -> None:
    name = run_name("SteepLine", Variant.of("full", 100), 1e-5, 3)
    assert name == "SteepLine-batch-b100-lr1e-05-seed3"
    for expected in (name, f"{name}-2", f"{name}-3"):
        assert free_name(tmp_path, name) == expected
        assert claim_directory(tmp_path / "logs", name) == tmp_path / "logs" / expected
        (tmp_path / expected).mkdir()
    (tmp_path / "a.csv").touch()
    assert free_name(tmp_path, "a", ".csv") == "a-2.csv"


def test_runs_that_start_at_once_get_directories_of_their_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        claimed = list(pool.map(lambda _: claim_directory(tmp_path / "logs", "run"), range(40)))
    assert len(set(claimed)) == 40


def test_names_that_anything_bears_are_not_free(tmp_path: Path) -> None:
    bearers = ("directory", "file", "link to nothing", "link to itself")
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link to nothing").symlink_to(tmp_path / "nowhere")
    (tmp_path / "link to itself").symlink_to(tmp_path / "link to itself")
    for name in bearers:
        assert free_name(tmp_path, name) == f"{name}-2"
        assert claim_directory(tmp_path, name).name == f"{name}-2"
        assert claim_file(tmp_path, name, "").name == f"{name}-3"


def test_files_that_are_claimed_at_once_are_different_ones(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        claimed = list(pool.map(lambda _: claim_file(tmp_path, "predictions", ".csv"), range(40)))
    assert len(set(claimed)) == 40
    assert all(file.is_file() for file in claimed)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \ud800")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_json_is_strict_where_numbers_are_not_finite(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"loss": math.inf, "nested": {"w": [math.nan, 1.5]}})

    def refuse(constant: str) -> float:
        raise AssertionError(constant)

    values = json.loads((tmp_path / "a.json").read_text(), parse_constant=refuse)
    assert values == {"loss": "inf", "nested": {"w": ["nan", 1.5]}}
    assert float(values["loss"]) == math.inf


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        (0, [0]),
        (3, [0, 1, 2, 3]),
        (20, list(range(21))),
        (21, [0, 1, 2, 5, 10, 20, 21]),
        (50, [0, 1, 2, 5, 10, 20, 50]),
    ],
)
def test_milestones(epochs: int, expected: list[int]) -> None:
    assert milestones(epochs) == expected


def test_the_table_shows_the_ends_of_epochs(capsys: pytest.CaptureFixture[str]) -> None:
    lines = epoch_table(_history(100), ["train_loss", "val_loss"]).splitlines()
    assert [line.split() for line in lines[:3]] == [["epoch", "train_loss"], ["0", "1"], ["1", "0.5"]]
    assert lines[-1].split() == ["100", f"{1 / 101:.8g}"]


def test_card_and_report_say_the_same() -> None:
    parameters = {f"w_{i}": float(i) for i in range(20)}
    summary = summarize(
        _history(4), Variant.of(25, 100), parameters=parameters, least_squares=parameters, least_squares_loss=0.125
    )
    for text in (run_card(summary, "Title"), run_report(summary, "Title")):
        for part in (
            "Title",
            "mini-batch gradient descent",
            "1 -> 0.2",
            "0.125",
            "completed: max_epochs reached",
            "w_3",
        ):
            assert part in text
        assert "8 more" in text
    assert "unknown" not in run_card(summarize(_history(1), None), "Title")
