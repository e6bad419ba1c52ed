"""Columns that lose their digits in float32: named, refused where nothing is left, and helped by what is advised."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from gd_lightning import RegressionDataModule, RegressionModule, Table
from gd_lightning.data.lost_digits import lost_digits
from gd_lightning.errors import DataWarning, InputError
from tests.conftest import CommandLine, MakeTrainer
from tests.data.test_data_module import Given

ROWS = np.arange(60.0)
NOISE = np.random.default_rng(0).standard_normal(60)
NORMAL = np.random.default_rng(1).standard_normal(60)
LOST = {  # in float32: not at all, digits, or everything
    "years": (1900 + ROWS, "kept"),
    "decimals": (0.1 * ROWS, "kept"),
    "thousands": (1e3 + NOISE, "kept"),
    "thirds of a small number": (1e-20 * NOISE / 3, "kept"),
    "constant": (np.full(60, 0.1), "kept"),
    "constant up to rounding": (0.3 + np.where(ROWS % 2, 5e-17, 0), "kept"),
    "large powers of two": (2.0**40 * ROWS, "kept"),
    "millions": (1e6 + NOISE, "loses"),
    "milliseconds of a day": (1.7e12 + 1e6 * ROWS, "loses"),
    "kelvin": (293.15 + 1e-4 * ROWS, "loses"),
    "below what float32 has": (1e-43 * NOISE, "loses"),
    "unix time": (1.7e9 + ROWS, "constant"),
    "a billion": (1e9 + NOISE, "constant"),
    "vanishes": (1e-60 * NOISE, "constant"),
}


@pytest.mark.parametrize("name", LOST)
def test_what_float32_takes_from_a_column(name: str) -> None:
    values, fate = LOST[name]
    errors, becomes_constant = lost_digits(torch.from_numpy(values)[:, None], torch.float32)
    exact = values.astype(np.longdouble)
    error = float(np.sqrt(np.mean((exact - values.astype(np.float32)) ** 2)) / (exact.std() or 1))
    if "constant" not in name:
        assert errors.item() == pytest.approx(error, rel=1e-6)
    assert becomes_constant.item() == (fate == "constant")
    assert (errors.item() > 1e-3) == (fate != "kept")


def _write(path: Path, **columns: np.ndarray[Any, Any]) -> Path:
    header, rows = ",".join(columns), zip(*columns.values(), strict=True)
    path.write_text("\n".join([header, *(",".join(repr(float(v)) for v in row) for row in rows)]) + "\n")
    return path


CASES: list[tuple[dict[str, Any], str]] = [
    ({"when": LOST["unix time"][0], "y": NOISE}, "cannot train on column 'when'"),
    ({"x": NOISE, "y": LOST["a billion"][0]}, "cannot train on column 'y'"),
    ({"time": LOST["unix time"][0], "target": LOST["a billion"][0]}, "cannot train on column 'time'"),
    ({"a": NORMAL, "temp": LOST["kelvin"][0], "y": NOISE}, "column 'temp' loses digits in float32"),
    ({"x": NORMAL, "y": LOST["millions"][0]}, "column 'y' loses digits in float32"),
    ({"m": LOST["millions"][0], "y": LOST["kelvin"][0]}, "columns 'm', 'y' lose digits in float32"),
]


def _sentence(data: RegressionDataModule, trainer: Trainer) -> str:
    """Train for a moment; returns what is said of lost digits."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            trainer.fit(RegressionModule(lr=1e-30), data)
        except InputError as error:
            return str(error)
    said = [str(warning.message) for warning in caught if warning.category is DataWarning]
    assert len(said) < 2
    return said[0] if said else ""


@pytest.mark.parametrize(("columns", "message"), CASES, ids=[case[1] for case in CASES])
def test_what_is_advised_helps(
    make_trainer: MakeTrainer, tmp_path: Path, columns: dict[str, Any], message: str
) -> None:
    table = Table(str(_write(tmp_path / "table.csv", **columns)))
    sentence = _sentence(RegressionDataModule(table, standardize="none"), make_trainer(max_epochs=1))
    assert message in sentence
    advised = dict(re.findall(r"--(?:data|trainer)\.(\w+) ([\w-]+)", sentence))
    assert advised == {"standardize": "both", "precision": "64-true"}
    precise: Any = advised["precision"]
    raw = RegressionDataModule(table, standardize="none")
    assert _sentence(raw, make_trainer(max_epochs=1, precision=precise)) == ""
    assert _sentence(RegressionDataModule(table, standardize="both"), make_trainer(max_epochs=1)) == ""


@pytest.mark.parametrize(
    "stage", ["fit", *(pytest.param(s, marks=pytest.mark.slow) for s in ("plan", "sweep", "compare"))]
)
def test_every_subcommand_names_the_column_in_one_line(command_line: CommandLine, tmp_path: Path, stage: str) -> None:
    of_stage = {
        "fit": [],
        "plan": ["--map", "false"],
        "sweep": ["--model.lr", "0.1,0.2", "--data.batch_size", "full"],
        "compare": ["--batch_sizes", "full,30", "--seeds", "1"],
    }[stage]
    for name, code in (("millions", 0), ("a billion", 2)):
        path = _write(tmp_path / "table.csv", x=NORMAL, target=LOST[name][0])
        options = ["--data.problem", "Table", "--data.problem.path", str(path), "--trainer.max_epochs", "1", *of_stage]
        options += ["--data.standardize", "none"]
        assert command_line(stage, *options) == code
        (line,) = [line for line in command_line.err.splitlines() if "float32" in line]
        assert "'target'" in line
    assert command_line(stage, *options, "--trainer.precision", "64-true") == 0, command_line.err
    assert "float32" not in command_line.err


def test_python_is_told_too(make_trainer: MakeTrainer) -> None:
    x, y = torch.from_numpy(LOST["kelvin"][0])[:, None], torch.from_numpy(NOISE)[:, None]
    with pytest.warns(DataWarning, match="column 'x0' loses digits in float32"):
        make_trainer(max_epochs=1).fit(RegressionModule(lr=1e-9), RegressionDataModule(Given(x, y)))
    with pytest.raises(InputError, match="column 'y0' in float32"):
        make_trainer(max_epochs=1).fit(RegressionModule(), RegressionDataModule(Given(y, x + 1e9)))
    # What standardises takes them as they are, and so does float64: pytest fails where anything warns.
    make_trainer(max_epochs=1).fit(RegressionModule(), RegressionDataModule(Given(x, y), standardize=True))
    make_trainer(max_epochs=1, precision="64-true").fit(
        RegressionModule(lr=1e-9), RegressionDataModule(Given(y, x + 1e9))
    )


@pytest.mark.parametrize("hidden_sizes", [[], [4]])
@pytest.mark.parametrize("precision", ["32-true", "64-true"])
def test_a_large_table_is_standardised_before_it_is_cast(
    make_trainer: MakeTrainer, tmp_path: Path, precision: Any, hidden_sizes: list[int]
) -> None:
    """The same table with times counted from its first row, in memory, mapped, and in micro-batches."""
    ends = []
    for origin, in_memory, micro in ((0.0, 2**24, None), (1.7e9, 2**24, None), (1.7e9, 10, None), (1.7e9, 10, 7)):
        np.save(tmp_path / "table.npy", np.stack([origin + ROWS, NOISE, NORMAL + 0.1 * ROWS], axis=1))
        table = Table(str(tmp_path / "table.npy"))
        table.map_above = in_memory
        data = RegressionDataModule(table, standardize=True, micro_batch_size=micro)
        data.max_loaded_bytes = 0
        module = RegressionModule(lr=0.1, hidden_sizes=hidden_sizes)
        make_trainer(max_epochs=5, precision=precision).fit(module, data)
        assert data.problem.mapped == (in_memory == 10)
        assert module.network is not None
        ends.append(torch.cat([parameter.detach().flatten() for parameter in module.network.parameters()]))
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0], rtol=1e-5 if precision == "32-true" else 1e-8, atol=1e-6)


@pytest.mark.parametrize("precision", ["32-true", "64-true"])
def test_unix_times_are_judged_and_continued_with_all_their_digits(
    make_trainer: MakeTrainer, tmp_path: Path, precision: Any
) -> None:
    """At the loss that training ended with, and at the bits of a run in one go."""
    columns = {"t": LOST["unix time"][0], "y": 3 + 0.5 * ROWS + 0.1 * NOISE}
    path = str(_write(tmp_path / "table.csv", **columns))

    def fitted(epochs: int, checkpoint: Path | None = None) -> tuple[RegressionModule, Trainer]:
        module, trainer = RegressionModule(lr=0.1), make_trainer(max_epochs=epochs, precision=precision)
        trainer.fit(module, RegressionDataModule(Table(path), standardize=True), ckpt_path=checkpoint)
        return module, trainer

    module, trainer = fitted(40)
    trainer.save_checkpoint(tmp_path / "run.ckpt", weights_only=False)
    with torch.no_grad():
        predicted = module(torch.from_numpy(columns["t"])[:, None])[:, 0].double().numpy()
    loss = np.mean((predicted - columns["y"]) ** 2)
    assert loss < 0.02
    other = RegressionModule(lr=0.1)
    data = RegressionDataModule(Table(path), standardize=True)
    judge = make_trainer(precision=precision)
    (judged,) = judge.test(other, data, ckpt_path=tmp_path / "run.ckpt", verbose=False, weights_only=True)
    assert judged["test_loss"] == pytest.approx(loss, rel=1e-5 if precision == "32-true" else 1e-12)
    (whole, _), (continued, _) = fitted(41), fitted(41, tmp_path / "run.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(continued.state_dict()[name], value), name
