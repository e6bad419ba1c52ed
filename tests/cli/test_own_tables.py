"""Tables of one's own on the command line: what is said of them, carried to new rows, and kept beside predictions."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from tests.conftest import CommandLine

N = 24
_draw = np.random.default_rng(3)
SIZE, AGE = _draw.normal(size=N), _draw.normal(size=N)
COLOUR, GARAGE = [("red", "blue", "green")[i % 3] for i in range(N)], [("yes", "no")[i % 4 < 2] for i in range(N)]
AGE[5] = np.nan
PRICE = 3 * SIZE - 2 * np.nan_to_num(AGE) + np.arange(N) % 3 + 0.1 * _draw.normal(size=N)
HEADER = "ticket,size,age,colour,garage,price"
TICKETS = [f"{2**60 + 7 * i}" for i in range(N)]  # no float64 number has all of their digits


def _lines(rows: range) -> list[str]:
    cells = zip(TICKETS, SIZE, AGE, COLOUR, GARAGE, PRICE, strict=True)
    texts = [
        f"{ticket},{float(size)},{'' if np.isnan(age) else float(age)},{colour},{garage},{float(price)}"
        for ticket, size, age, colour, garage, price in cells
    ]
    return [texts[i] for i in rows]


def _matrix() -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return the features as scikit-learn would be given them: the gap filled, blue as the reference."""
    age = np.where(np.isnan(AGE), np.nanmean(AGE), AGE)
    is_colour = [[float(colour == each) for colour in COLOUR] for each in ("green", "red")]
    return np.stack([SIZE, age, *is_colour, [float(each == "yes") for each in GARAGE]], axis=1)


@pytest.fixture
def houses(tmp_path: Path) -> list[str | Path]:
    """Write the table, and return the options that use it."""
    (tmp_path / "houses.csv").write_text("\n".join([HEADER, *_lines(range(N))]) + "\n")
    return [
        *(
            "--data.problem",
            "Table",
            "--data.problem.path",
            tmp_path / "houses.csv",
            "--data.problem.exclude",
            "ticket",
        ),
        *("--data.problem.categories", "auto", "--data.problem.missing", "mean", "--trainer.precision", "64-true"),
    ]


def test_columns_of_all_kinds_are_trained_on_and_carried_to_new_rows(
    command_line: CommandLine, houses: list[str | Path], tmp_path: Path
) -> None:
    run = command_line.fit(
        *houses, "--data.problem.targets", "price", "--model.lr", "0.2", "--trainer.max_epochs", "3000"
    )
    first = command_line.out.splitlines()[0]
    assert first.startswith(f"{N} rows of ")
    assert "price from size, age, colour (3 categories, reference blue), garage (no and yes as 0 and 1)" in first
    assert "missing values of 'age' are filled with the mean" in first
    summary = json.loads((run / "summary.json").read_text())
    names = ["size", "age", "colour=green", "colour=red", "garage"]
    assert (summary["features"], summary["targets"]) == (names, ["price"])
    reference = LinearRegression().fit(_matrix(), PRICE)
    found = [summary["parameters"][f"w_{name}"] for name in names]
    np.testing.assert_allclose(found, reference.coef_, atol=1e-6)

    # Fewer rows and categories, other columns between, and a gap; the training table is gone.
    (tmp_path / "houses.csv").unlink()
    lines = [f"{line.rpartition(',')[0]},0007" for line in _lines(range(4, 7))]
    (tmp_path / "new.csv").write_text("\n".join(["ticket,size,age,colour,garage,=note", *lines]) + "\n")
    assert command_line("predict", "--ckpt_path", run, "--data.predict_inputs", tmp_path / "new.csv") == 0, (
        command_line.err
    )
    with (run / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["ticket"] for row in rows] == TICKETS[4:7]
    assert [row["'=note"] for row in rows] == ["0007"] * 3
    assert list(rows[0]) == ["ticket", "size", "age", "colour", "garage", "'=note", "predicted_price"]
    predicted = [float(row["predicted_price"]) for row in rows]
    np.testing.assert_allclose(predicted, reference.predict(_matrix()[4:7]), atol=1e-6)
    assert command_line("test", "--ckpt_path", run) == 2
    assert "there is no such file" in command_line.err


@pytest.mark.parametrize("stage", ["test", "validate"])
def test_another_table_is_judged_as_a_whole(
    command_line: CommandLine, houses: list[str | Path], tmp_path: Path, stage: str
) -> None:
    held_out = ["--data.test_size", "0.25", "--data.val_size", "6", "--data.batch_size", "8", "--model.lr", "0.1"]
    run = command_line.fit(*houses, *held_out, "--trainer.max_epochs", "30")
    other = tmp_path / "other.csv"
    other.write_text("\n".join([HEADER, *_lines(range(6))]) + "\n")
    (tmp_path / "houses.csv").unlink()
    assert command_line(stage, "--ckpt_path", run, "--data.problem.path", other) == 0, command_line.err
    assert f"on the 6 samples of the table {other}:" in command_line.out
    assert json.loads((run / f"{stage}.json").read_text())["table"] == str(other)
    judged = float(next(line.split()[1] for line in command_line.out.splitlines() if "_mse" in line))
    assert command_line("predict", "--ckpt_path", run, "--data.problem.path", other) == 0, command_line.err
    with (run / "predictions.csv").open() as file:
        errors = [float(row["predicted_price"]) - float(row["price"]) for row in csv.DictReader(file)]
    assert judged == pytest.approx(np.mean(np.square(errors)), rel=1e-6)
    assert command_line("fit", "--ckpt_path", run, "--data.problem.path", other) == 2  # that would be another run


def test_rows_that_are_left_out_have_no_prediction(command_line: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("predicted_y,x,y\n1,1,2\n2,NA,4\n3,3,6\n4,4,9\n")
    options: list[str | Path] = ["--data.problem", "Table", "--data.problem.path", path, "--data.problem.features", "x"]
    run = command_line.fit(*options, "--data.problem.missing", "drop", "--trainer.max_epochs", "2")
    assert "3 of 4 rows of " in command_line.out.splitlines()[0]
    assert command_line("predict", "--ckpt_path", run) == 0
    header, *rows = (run / "predictions.csv").read_text().splitlines()
    assert header == "predicted_y,x,y,predicted_y_2"
    assert [row.rpartition(",")[0] for row in rows] == ["1,1,2", "2,NA,4", "3,3,6", "4,4,9"]
    assert [bool(row.rpartition(",")[2]) for row in rows] == [True, False, True, True]
