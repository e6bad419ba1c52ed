"""Data that changed between training and what comes after it: taken by name where they are the same, else refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
import torch
from numpy.typing import NDArray
from pyarrow import parquet
from torch import Tensor

from gd_lightning import InputError, Problem, RegressionDataModule, RegressionModule, Table
from tests.conftest import CommandLine, MakeTrainer

Columns = dict[str, NDArray[np.float64]]
Change = Callable[[Columns], Columns]
SAME: dict[str, Change] = {  # what is done to the columns a, c, y
    "as it was": lambda t: t,
    "another order": lambda t: {name: t[name] for name in ("c", "a", "y")},
    "the target first": lambda t: {name: t[name] for name in ("y", "c", "a")},
    "one more column": lambda t: {"a": t["a"], "new": 2 * t["a"], "c": t["c"], "y": t["y"], "last": t["y"] + 1},
}
CHANGED: dict[str, tuple[Change, str]] = {
    "more rows": (lambda t: {name: np.tile(t[name], 2) for name in t}, "there are 60 rows, and .* trained on 30"),
    "fewer rows": (lambda t: {name: t[name][:-1] for name in t}, "there are 29 rows, and .* trained on 30"),
    "a value": (lambda t: {**t, "c": t["c"] + (np.arange(30) == 16) * 1e-9}, "column 'c' differ .* in row 17;"),
    "a target": (lambda t: {**t, "y": t["y"] + (np.arange(30) > 20)}, "column 'y' differ .* in row 22;"),
    "swapped names": (lambda t: {"a": t["c"], "c": t["a"], "y": t["y"]}, "column 'a' and of 1 other differ"),
    "rows in another order": (lambda t: {name: t[name][::-1] for name in t}, "column 'a' and of 2 others differ"),
    "a column less": (lambda t: {name: t[name] for name in ("a", "y")}, "cannot find column 'c'"),
    "no target": (lambda t: {name: t[name] for name in ("a", "c")}, "cannot find column 'y'"),
}


def _columns(rows: int = 30, seed: int = 0) -> Columns:
    random = np.random.default_rng(seed)
    a, c = random.normal(size=rows), 5 + 3 * random.normal(size=rows)
    return {"a": a, "c": c, "y": 3 * a - c + 1 + 0.1 * random.normal(size=rows)}


def _write(path: Path, columns: Columns) -> Path:
    if path.suffix == ".csv":
        rows = zip(*(column.tolist() for column in columns.values()), strict=True)
        path.write_text("\n".join([",".join(columns), *(",".join(map(repr, row)) for row in rows)]) + "\n")
    elif path.suffix == ".npz":
        np.savez(path, **columns)  # type: ignore[arg-type]
    else:
        parquet.write_table(
            pyarrow.table({name: np.ascontiguousarray(column) for name, column in columns.items()}), path
        )
    return path


def _data(path: Path, **options: Any) -> RegressionDataModule:
    return RegressionDataModule(Table(str(path)), batch_size=4, **options)


def _stages(make_trainer: MakeTrainer, path: Path, checkpoint: Path, **options: Any) -> Iterator[Callable[[], Any]]:
    """Yield what uses a checkpoint with the data of a table, each with a fresh module."""
    load: dict[str, Any] = {"ckpt_path": checkpoint, "weights_only": True}
    for stage in ("fit", "test", "validate", "predict"):
        module, data, trainer = RegressionModule(lr=0.01), _data(path, **options), make_trainer(max_epochs=3)
        yield partial(getattr(trainer, stage), module, data, **load)
    yield lambda: RegressionDataModule.load_from_checkpoint(checkpoint).setup()


def _trained(make_trainer: MakeTrainer, table: Path, **options: Any) -> tuple[RegressionModule, Path]:
    trainer, module = make_trainer(max_epochs=2), RegressionModule(lr=0.01)
    trainer.fit(module, _data(table, **options))
    trainer.save_checkpoint(table.parent / "run.ckpt")
    return module, table.parent / "run.ckpt"


@pytest.mark.parametrize("change", CHANGED)
def test_what_differs_is_refused_by_name(make_trainer: MakeTrainer, tmp_path: Path, change: str) -> None:
    table = _write(tmp_path / "table.csv", _columns())
    _, checkpoint = _trained(make_trainer, table)
    alter, message = CHANGED[change]
    _write(table, alter(_columns()))
    for stage in _stages(make_trainer, table, checkpoint):
        with pytest.raises(InputError, match=message):
            stage()


# Each change and each kind of table is there; all combinations, on request.
@pytest.mark.parametrize(
    ("ending", "standardize", "change"),
    [
        pytest.param(ending, standardize, change, marks=[] if number % 3 == kind else [pytest.mark.slow])
        for kind, (ending, standardize) in enumerate([(".csv", True), (".npz", False), (".parquet", True)])
        for number, change in enumerate(SAME)
    ],
)
def test_columns_are_taken_by_name(
    make_trainer: MakeTrainer, tmp_path: Path, change: str, ending: str, standardize: bool
) -> None:
    table = _write(tmp_path / f"table{ending}", _columns())
    module, path = _trained(make_trainer, table, standardize=standardize)
    trained = module.affine()
    assert trained is not None
    straight = RegressionModule(lr=0.01)
    load: dict[str, Any] = {"ckpt_path": path, "weights_only": True}
    make_trainer(max_epochs=3).fit(straight, _data(table, standardize=standardize), **load)
    _write(table, SAME[change](_columns()))
    other = _write(table.with_stem("other"), SAME[change](_columns(9, seed=1)))
    for name, columns in ((table, _columns()), (other, _columns(9, seed=1))):
        expected = trained(torch.tensor(np.stack([columns["a"], columns["c"]], axis=1)))[:, 0].numpy()
        loaded = RegressionModule.load_from_checkpoint(path, weights_only=True)
        for each, options in ((module, {}), (loaded, {}), (RegressionModule(), load)):
            (result,) = make_trainer().test(each, _data(name, standardize=standardize), verbose=False, **options)
            assert result["test_mse"] == pytest.approx(np.mean((expected - columns["y"]) ** 2), rel=1e-4)
        data = RegressionDataModule.load_from_checkpoint(path, predict_inputs=str(name))
        predictions = torch.cat(make_trainer().predict(loaded, data))  # type: ignore[arg-type]
        assert np.allclose(predictions[:, 0].numpy(), expected, rtol=1e-5, atol=1e-5)
    goes_on = RegressionModule(lr=0.01)
    make_trainer(max_epochs=3).fit(goes_on, _data(table, standardize=standardize), **load)
    for ours, theirs in zip(goes_on.parameters(), straight.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_the_command_line_refuses_changed_data_and_its_advice_works(command_line: CommandLine, tmp_path: Path) -> None:
    table = _write(tmp_path / "table.csv", _columns())
    options: list[str | Path] = ["--data.problem", "Table", "--data.problem.path", table, "--trainer.max_epochs", "2"]
    run = command_line.fit(*options)
    weights = RegressionModule.load_from_checkpoint(run / "checkpoints" / "last.ckpt", weights_only=True).affine()
    assert weights is not None
    before = sorted(run.rglob("*"))
    _write(table, CHANGED["more rows"][0](_columns()))
    assert command_line("fit", "--ckpt_path", run, "--trainer.max_epochs", "3") == 2
    assert command_line.out == ""
    assert command_line.err.count("\n") == 1
    assert "there are 60 rows, and the run was trained on 30; begin a new run" in command_line.err
    assert sorted(run.rglob("*")) == before
    # It advises to predict new rows with predict_inputs, or to begin a new run.
    assert command_line("predict", "--ckpt_path", run, "--data.predict_inputs", table) == 0, command_line.err
    command_line.fit(*options)
    # To predict, the training table need not be there; the order of the columns is that of the weights.
    table.unlink()
    new = _write(tmp_path / "new.csv", {"c": np.array([3.0]), "a": np.array([2.0])})
    assert command_line("predict", "--ckpt_path", run, "--data.predict_inputs", new) == 0, command_line.err
    predicted = float((run / "predictions-2.csv").read_text().split(",")[-1])
    assert predicted == pytest.approx(weights(torch.tensor([[2.0, 3.0]])).item(), rel=1e-5)
    new.write_text("c,b\n1,2\n")
    assert command_line("predict", "--ckpt_path", run, "--data.predict_inputs", new) == 2
    assert "cannot find column 'a'" in command_line.err


@pytest.mark.parametrize("state", [None, 3, {"features": 1, "marks": "x"}, {"features": [], "targets": [], "rows": 1}])
def test_a_checkpoint_without_a_fingerprint_is_read(make_trainer: MakeTrainer, tmp_path: Path, state: object) -> None:
    table = _write(tmp_path / "table.csv", _columns())
    _, path = _trained(make_trainer, table)
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["RegressionDataModule"], checkpoint["gd_lightning_columns"]
    torch.save(checkpoint if state is None else {**checkpoint, "RegressionDataModule": state}, path)
    for stage in _stages(make_trainer, table, path):
        stage()


@pytest.mark.filterwarnings("ignore:.*is used without column 'index'")
def test_a_checkpoint_from_before_row_numbers_were_left_out_is_read(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    table = _write(tmp_path / "table.csv", {"index": np.arange(30.0), **_columns()})
    trainer, module, path = make_trainer(max_epochs=2), RegressionModule(lr=1e-4), tmp_path / "run.ckpt"
    named = Table(str(table), features=["index", "a", "c"])
    trainer.fit(module, RegressionDataModule(named, batch_size=4))
    trainer.save_checkpoint(path)
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["RegressionDataModule"], checkpoint["gd_lightning_columns"], checkpoint["gd_lightning_schema"]
    checkpoint["datamodule_hyper_parameters"]["problem"]["init_args"]["features"] = None
    checkpoint["hyper_parameters"]["lr"] = 0.01
    torch.save(checkpoint, path)
    expected = module(named.sample()[0].float())
    for stage in list(_stages(make_trainer, table, path))[:-1]:
        found = stage()
        if stage.func.__name__ == "predict":  # type: ignore[attr-defined]
            torch.testing.assert_close(torch.cat(found), expected)


@dataclass
class Measured(Problem):
    """Reads what others may write."""

    seed: int = 0

    def sample(self) -> tuple[Tensor, Tensor]:
        x = torch.randn(20, 1, generator=torch.Generator().manual_seed(self.seed))
        return x, CHANGE_OF_TARGET(x)


CHANGE_OF_TARGET: Callable[[Tensor], Tensor] = torch.sin


def test_other_problems_are_compared_within_rounding(
    make_trainer: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(epochs: int, **load: Any) -> None:
        trainer = make_trainer(max_epochs=epochs)
        trainer.fit(RegressionModule(lr=0.1), RegressionDataModule(Measured()), weights_only=True, **load)
        trainer.save_checkpoint(tmp_path / "run.ckpt")

    trained(2)
    monkeypatch.setattr(f"{__name__}.CHANGE_OF_TARGET", lambda x: torch.sin(x) * (1 + 1e-7))  # of another processor
    trained(3, ckpt_path=tmp_path / "run.ckpt")
    assert len(RegressionDataModule.load_from_checkpoint(tmp_path / "run.ckpt").train) == 20
    monkeypatch.setattr(f"{__name__}.CHANGE_OF_TARGET", torch.cos)
    with pytest.raises(InputError, match=r"the data of Measured .* column 1 differ .* in row 1;"):
        trained(4, ckpt_path=tmp_path / "run.ckpt")
    with pytest.raises(InputError, match="the data of Measured"):
        RegressionDataModule.load_from_checkpoint(tmp_path / "run.ckpt").setup()
