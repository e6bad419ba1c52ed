"""Training on arrays is training on the table of the same numbers, and is continued with the same arrays alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gd_lightning import (
    Arrays,
    ExamScores,
    FourPoints,
    HistoryRecorder,
    InputError,
    LinearProblem,
    NoisyLine,
    Parabola,
    Problem,
    RegressionDataModule,
    RegressionModule,
    Sine,
    SteepLine,
    Table,
    Variant,
    as_problem,
    compare,
    starting_from,
    sweep,
)
from tests.conftest import MakeTrainer

GENERATOR = np.random.default_rng(3)
X = GENERATOR.normal(size=(24, 3)).round(4)
Y = X @ [2.0, -1.0, 0.5] + 3
COLUMNS = {name: X[:, i] for i, name in enumerate("abc")} | {"y": Y}


def _trained(make_trainer: MakeTrainer, given: Any, epochs: int = 4, **continued: Any) -> RegressionModule:
    module = RegressionModule(lr=0.05, initialization="zero")
    data = RegressionDataModule(given, batch_size=5, seed=2, val_size=4)
    make_trainer(max_epochs=epochs, callbacks=[HistoryRecorder()]).fit(module, data, **continued)
    return module


def _weights(module: RegressionModule) -> list[float]:
    affine = module.affine()
    assert affine is not None
    return affine.flat().tolist()


@pytest.mark.parametrize("given", [(X, Y), (torch.from_numpy(X), Y[:, None]), COLUMNS])
def test_arrays_train_as_the_table_of_the_same_numbers(make_trainer: MakeTrainer, tmp_path: Path, given: Any) -> None:
    rows = [",".join(map(repr, row)) for row in np.column_stack([X, Y]).tolist()]
    (tmp_path / "t.csv").write_text("a,b,c,y\n" + "\n".join(rows) + "\n")
    table, arrays = (_trained(make_trainer, problem) for problem in (Table(str(tmp_path / "t.csv")), given))
    assert _weights(table) == _weights(arrays)


def _checkpoint(make_trainer: MakeTrainer, given: Any, path: Path) -> Path:
    module = RegressionModule(lr=0.05, initialization="zero")
    trainer = make_trainer(max_epochs=2, callbacks=[HistoryRecorder()])
    trainer.fit(module, RegressionDataModule(given, batch_size=5, seed=2, val_size=4))
    trainer.save_checkpoint(path)
    return path


@pytest.mark.parametrize("same", [(X.copy(), Y.copy()), (torch.from_numpy(X), Y[:, None]), Arrays(X.tolist(), Y)])
def test_a_run_goes_on_with_the_same_arrays(make_trainer: MakeTrainer, tmp_path: Path, same: Any) -> None:
    path = _checkpoint(make_trainer, (X, Y), tmp_path / "a.ckpt")
    continued = _trained(make_trainer, same, ckpt_path=path, weights_only=True)
    assert _weights(continued) == _weights(_trained(make_trainer, (X, Y)))


def test_a_run_goes_on_with_a_frame_whose_columns_have_another_order(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    path = _checkpoint(make_trainer, as_problem(COLUMNS, targets="y"), tmp_path / "a.ckpt")
    turned = as_problem({name: COLUMNS[name] for name in ("c", "y", "a", "b")} | {"more": Y}, targets="y")
    continued = _trained(make_trainer, turned, ckpt_path=path, weights_only=True)
    assert _weights(continued) == _weights(_trained(make_trainer, COLUMNS))


OTHER = X.copy()
OTHER[17, 1] += 1e-9


@pytest.mark.parametrize(
    ("other", "because"),
    [
        ((OTHER, Y), "the values of column 1 differ from those that the run was trained on, first in row 18"),
        ((X, np.flip(Y)), "the values of column 3 differ from those that the run was trained on, first in row 1"),
        ((X[1:], Y[1:]), "there are 23 rows, and the run was trained on 24"),
    ],
)
def test_a_run_does_not_go_on_with_other_arrays(
    make_trainer: MakeTrainer, tmp_path: Path, other: Any, because: str
) -> None:
    path = _checkpoint(make_trainer, (X, Y), tmp_path / "a.ckpt")
    with pytest.raises(InputError, match=f"cannot use these arrays with this checkpoint, because {because}"):
        _trained(make_trainer, other, ckpt_path=path, weights_only=True)


def test_a_checkpoint_holds_no_data(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    path = _checkpoint(make_trainer, (X, Y), tmp_path / "a.ckpt")
    content = path.read_bytes()
    assert not any(row.astype(dtype).tobytes() in content for row in X for dtype in (np.float32, np.float64))
    assert torch.load(path, weights_only=True)["RegressionDataModule"]["rows"] == len(X)


@pytest.mark.parametrize(
    "problem",
    [
        SteepLine(),
        FourPoints(),
        ExamScores(),
        Parabola(seed=np.int64(1)),
        Sine(n_samples=np.int32(20), seed=np.uint8(1)),
        NoisyLine(seed=np.int64(1)),
        LinearProblem(n_samples=np.int64(20), n_features=np.int16(2), noise=np.float32(0.5), seed=np.int64(3)),
    ],
    ids=lambda problem: type(problem).__name__,
)
def test_numbers_of_numpy_are_numbers(make_trainer: MakeTrainer, tmp_path: Path, problem: Problem) -> None:
    options: dict[str, Any] = {"batch_size": np.int64(2), "seed": np.int64(3), "micro_batch_size": np.int32(2)}
    options |= {"drop_last": np.bool_(True), "val_size": np.float64(0.25)}
    data = RegressionDataModule(problem, **options)
    widths: Any = np.array([3, 2])
    numbers: dict[str, Any] = {"lr": np.float64(1e-4), "momentum": np.float32(0.5), "l1": np.float16(0.0)}
    module = RegressionModule(**numbers, hidden_sizes=widths, dropout=np.float64(0.0))
    recorder = HistoryRecorder(every_n_updates=np.int64(2), max_rows=np.int64(50))
    trainer = make_trainer(max_epochs=1, callbacks=[recorder])
    trainer.fit(module, data)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    again = RegressionModule.load_from_checkpoint(tmp_path / "a.ckpt")
    assert (again.hparams["lr"], again.hparams["hidden_sizes"]) == (1e-4, [3, 2])
    assert RegressionDataModule.load_from_checkpoint(tmp_path / "a.ckpt").batch_size == 2


def test_numbers_of_numpy_in_experiments() -> None:
    one: dict[str, Any] = {"seeds": np.int64(1), "max_epochs": np.int32(2)}
    many: dict[str, Any] = {"batch_sizes": np.array([50, 10]), "lrs": np.array([0.1, 0.01])}
    compared = compare(target=np.float64(9.0), **many, **one)
    assert list(compared.histories) == list(compare(batch_sizes=[50, 10], lrs=[0.1, 0.01], **one).histories)
    rates: Any = np.array([0.1, 0.05])
    varied = compare(vary={"model.lr": rates}, data={"val_size": np.float64(0.2)}, **one)
    assert len(varied.histories) == 2
    swept = sweep(**{**many, "lrs": np.logspace(-2, -1, 3)}, **one)
    assert np.array_equal(swept.last, sweep(lrs=[0.01, 10**-1.5, 0.1], batch_sizes=[10, 50], **one).last)
    assert Variant.of(np.int64(4), np.int64(8)).updates_per_epoch == 2
    with starting_from(np.int64(3)):
        assert torch.initial_seed() is not None


def test_experiments_take_data_of_every_kind() -> None:
    options: dict[str, Any] = {"seeds": 1, "max_epochs": 2, "batch_sizes": [24, 4]}
    kinds: list[tuple[Any, dict[str, Any]]] = [
        ((X, Y), {}),
        (COLUMNS, {"targets": "y"}),
        (COLUMNS, {"features": [*"abc"]}),
    ]
    ends = [compare(given, lrs=0.01, **names, **options).histories for given, names in kinds]
    losses = [[histories[0].last("train_loss") for histories in each.values()] for each in ends]
    assert losses[0] == losses[1] == losses[2]
    swept = [sweep(given, lrs=[0.01, 0.02], **names, **options).last for given, names in kinds]
    assert np.array_equal(swept[0], swept[1])
