from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gd_lightning.errors import InputError
from gd_lightning.records.history import History


def _history() -> History:
    history = History()
    history.append(update=0, epoch=0, samples=0, seconds=0.0, train_loss=4.0)
    history.append(update=1, epoch=0.5, samples=8, seconds=0.125, batch_loss=3.0)
    history.append(update=2, epoch=1, samples=16, seconds=0.25, batch_loss=math.inf, w=1 / 3)
    history.add_to_last_row({"train_loss": math.nan})
    return history


def test_missing_and_not_finite_values_survive_a_file(tmp_path: Path) -> None:
    history = _history()
    path = tmp_path / "history.csv"
    path.write_text(history.to_csv())
    read = History.from_csv(path)
    assert read.columns == history.columns
    for name in history.columns:
        assert (name in read) == (name in history)
        if name in history:
            for ours, theirs in zip(history.series(name), read.series(name), strict=True):
                np.testing.assert_array_equal(ours, theirs)


def test_csv_has_a_row_an_update_and_empty_cells_for_what_was_not_measured() -> None:
    assert _history().to_csv().splitlines() == [
        "update,epoch,samples,seconds,train_loss,batch_loss,lr,w",
        "0,0,0,0,4,,,",
        "1,0.5,8,0.125,,3,,",
        "2,1,16,0.25,nan,inf,,0.3333333333333333",
    ]


def test_rows_from_the_middle_equal_the_tail_of_all_rows() -> None:
    history = _history()
    everything = list(history.rows())
    for start in range(4):
        assert str(list(history.rows(start))) == str(everything[start:])


def test_series_are_where_they_were_measured() -> None:
    at, values = _history().series("train_loss", "samples")
    np.testing.assert_array_equal(at, [0, 16])
    np.testing.assert_array_equal(values, [4, math.nan])


@pytest.mark.parametrize(
    ("first", "last", "diverged"),
    [
        (1.0, 0.1, False),
        (1.0, 1e6, False),
        (1.0, 1.1e6, True),
        (1.0, math.nan, True),
        (0.0, 5.0, False),
        (0.0, math.inf, True),
    ],
)
def test_divergence_is_growth_beyond_every_fluctuation(first: float, last: float, diverged: bool) -> None:
    history = History()
    history.append(update=0, train_loss=first)
    history.append(update=1, train_loss=last)
    assert history.has_diverged is diverged
    assert bool(history.divergence) is diverged


def test_the_bound_of_divergence_can_be_another() -> None:
    history = History()
    history.append(update=0, train_loss=1.0)
    history.append(update=1, train_loss=11.0, batch_loss=500.0)
    assert [history.is_beyond(loss) for loss in (1e6, 1.1e6, math.nan)] == [False, True, True]
    history.divergence_factor = 10
    assert history.divergence == "the train loss grew from 1 to 11"
    history.append(update=2, batch_loss=math.inf)
    assert history.divergence == "the batch loss is inf, no longer a finite number"


def test_values_of_the_newest_row_and_behind_an_update() -> None:
    history = _history()
    assert history.in_last_row("w") == pytest.approx(1 / 3)
    assert history.in_last_row("lr") is None
    history.append(update=4, epoch=2, samples=32, seconds=0.5)
    assert history.in_last_row("w") is None
    assert history.in_last_row("of another project") is None
    behind = [history.since("batch_loss", update) for update in (-1, 1, 1.5, 2)]
    assert behind == [[3, math.inf], [math.inf], [math.inf], []]


@pytest.mark.parametrize("text", ["update,epoch\n1,x\n", "a,b\n1,2\n", "update,epoch,samples,seconds\n1,2,3,\n"])
def test_a_file_that_is_no_history_is_refused_with_its_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "history.csv"
    path.write_text(text)
    with pytest.raises(InputError, match="line 2"):
        History.from_csv(path)


class Waiting:
    """Five rows that say when they are computed."""

    def __init__(self) -> None:
        self.read: list[slice] = []

    def __call__(self, where: slice) -> dict[str, Any]:
        self.read.append(where)
        update = np.arange(3.0, 8.0)[where]
        return {"update": update, "epoch": 1 + update / 8, "samples": 8 * update, "seconds": update, "w": update**2}

    def add_to(self, history: History) -> None:
        history.extend(5, self, ["update", "epoch", "samples", "seconds", "w"], {"update": 7.0})


def test_rows_that_wait_are_those_that_were_appended() -> None:
    waiting, appended, block = _history(), _history(), Waiting()
    block.add_to(waiting)
    waiting.add_to_last_row({"train_loss": 0.5})
    for update in range(3, 8):
        appended.append(update=update, epoch=1 + update / 8, samples=8 * update, seconds=update, w=update**2)
    appended.add_to_last_row({"train_loss": 0.5})
    for history in (waiting, appended):
        history.append(update=8, epoch=2, samples=64, seconds=8)
    assert waiting.to_csv() == appended.to_csv()
    assert block.read == [slice(0, 5)]
    np.testing.assert_array_equal(waiting.measured("train_loss", 1), [2, 7])
    np.testing.assert_array_equal(waiting.measured("lr"), [])
    assert [row["w"] for row in waiting.rows_at(np.array([3, 6]))] == [9, 36]
    assert History.from_state_dict(waiting.state_dict()).to_csv() == appended.to_csv()


def test_the_newest_values_are_told_without_computing_the_others() -> None:
    history, block = _history(), Waiting()
    block.add_to(history)
    history.add_to_last_row({"train_loss": 0.5})
    assert (history.last("update"), history.last("train_loss"), history.in_last_row("val_loss")) == (7, 0.5, None)
    assert (history.first("train_loss"), history.last("batch_loss"), len(history)) == (4, math.inf, 8)
    assert block.read == []
    assert (history.last("w"), history.in_last_row("seconds")) == (49, 7)
    assert block.read == [slice(4, 5)]
    assert ("w" in history, history.columns[-1]) == (True, "w")


@pytest.mark.parametrize(("held", "most"), [(0, 1_000), (2**20, 16)], ids=["many parts", "large parts"])
def test_what_waits_is_bounded(held: int, most: int) -> None:
    """A million short epochs, or rows that hold many parameters, may not fill the memory."""
    history, block = History(), Waiting()
    for _ in range(most):
        history.extend(5, block, ["update", "w"], {"update": 7.0}, held)
    assert block.read == []
    history.extend(5, block, ["update", "w"], {"update": 7.0}, held)
    assert block.read == [slice(0, 5)] * most
    np.testing.assert_array_equal(history["w"], [9, 16, 25, 36, 49] * (most + 1))


@pytest.mark.parametrize("at_once", [1, 7, 10, 2_048])
def test_a_history_is_written_a_part_at_a_time(at_once: int) -> None:
    history = History()
    for update in range(20):
        history.append(update=update, epoch=update / 4, samples=3 * update, seconds=0.1 * update)
        if update % 4 == 0:
            history.add_to_last_row({"train_loss": 1 / (1 + update)})
        if update > 12:
            history.add_to_last_row({"late": math.nan if update % 2 else math.inf})
    whole = history.to_csv()
    assert len(whole.splitlines()) == 21
    assert whole.splitlines()[17] == "16,4,48,1.6,0.058823529411764705,,,inf"
    assert history.to_csv(at_once) == whole
