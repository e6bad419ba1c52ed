"""A run that ends while its loss still falls names more epochs, and these lead to a loss that no longer falls."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import r2_score
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import StandardScaler

from gd_lightning import History, fit
from gd_lightning.records.history import Outcome
from gd_lightning.tracking.longer_training import longer_training
from tests.conftest import CommandLine

Array = NDArray[np.float64]


def _history(loss: Callable[[Array], Array], epochs: int, name: str = "train_loss") -> History:
    """Return a run that completed with a loss of these values at each epoch."""
    history = History()
    for epoch, value in enumerate(loss(np.arange(epochs + 1.0))):
        history.append(update=epoch, epoch=epoch, samples=epoch, seconds=epoch, **{name: value})
    history.outcome, history.reason = Outcome.COMPLETED, f"max_epochs {epochs} reached"
    return history


def _named(advice: str) -> int:
    """Return the number of epochs that an advice names, the same for both forms; 0 of none."""
    found = re.search(r"--trainer.max_epochs (\d+) \(in Python epochs=(\d+)\)", advice)
    assert (found is None) == (advice == "")
    if found is None:
        return 0
    assert found[1] == found[2]
    return int(found[1])


@pytest.mark.parametrize("name", ["train_loss", "val_loss"])
@pytest.mark.parametrize("end", [0.0, 0.3])
def test_the_epochs_suffice_where_the_distance_to_the_end_is_inversely_proportional_to_them(
    name: str, end: float
) -> None:
    def loss(epoch: Array) -> Array:
        return end + (1 - end) / (1 + epoch)

    little = {"train_loss": 0.01, "val_loss": 0.003}[name]
    for epochs in (50, 60):
        more = _named(longer_training(_history(loss, epochs, name)))
        assert epochs < more < 10 * epochs
        assert loss(np.array(more / 2)) - loss(np.array(more)) < 1.05 * little < loss(np.array(more / 8)) - end
        assert longer_training(_history(loss, 2 * more, name)) == ""


@pytest.mark.parametrize(
    "loss",
    [
        lambda epoch: np.ones_like(epoch),
        lambda epoch: 1.0 + epoch,
        lambda epoch: np.zeros_like(epoch),
        lambda epoch: 0.5**epoch,
        lambda epoch: 0.2 + 0.8 * (epoch == 0) + 0.1 * (epoch % 2),
        lambda epoch: 0.2 + 0.001 * (epoch - 5) ** 2,
    ],
    ids=["constant", "rising", "zero", "halved", "noisy", "lowest within the first half"],
)
def test_a_loss_that_does_not_fall_any_more_is_not_spoken_of(loss: Callable[[Array], Array]) -> None:
    assert longer_training(_history(loss, 30)) == ""


def test_only_a_last_epoch_that_was_given_is_spoken_of() -> None:
    history = _history(lambda epoch: 1 / (1 + epoch), 20)
    assert longer_training(history)
    for outcome, reason in (
        (Outcome.CONVERGED, "the train loss is low enough"),
        (Outcome.DIVERGED, "the train loss is nan"),
        (Outcome.INTERRUPTED, "Ctrl-C"),
        (Outcome.COMPLETED, "the time limit max_time was reached"),
    ):
        history.outcome, history.reason = outcome, reason
        assert longer_training(history) == ""


def test_a_network_that_is_trained_as_long_as_it_says_learns_more() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(60, 2))
    options: dict[str, Any] = {"hidden_sizes": [8], "lr": 0.1, "val_size": 20}
    short = fit((x, np.sin(2 * x[:, 0]) + x[:, 1]), epochs=5, **options)
    assert "the validation loss still fell by" in short.summary.advice
    assert short.summary.advice in str(short)
    longer = fit((x, np.sin(2 * x[:, 0]) + x[:, 1]), epochs=_named(short.summary.advice), **options)
    assert longer.summary.measures["val_loss"] < 0.8 * short.summary.measures["val_loss"]
    assert fit((x, x[:, 0]), epochs=3).summary.advice == ""  # theory says when it will have converged


def _table(kind: str) -> tuple[Array, Array, int]:
    """Return a target of mean 140,000 and spread 50,000, features of scales 1e-3 to 1e6, and the training rows."""
    random, rows = np.random.default_rng(0), {"additive": 2000, "product": 800}[kind]
    z = random.normal(size=(rows + 500, 8))
    f = z[:, 0] + np.sin(2 * z[:, 1]) + 0.5 * z[:, 2] * z[:, 3] + 0.3 * random.normal(size=len(z))
    if kind == "product":
        f = 2 * z[:, 0] + z[:, 1] - z[:, 2] * z[:, 3] + np.sin(2 * z[:, 4]) + 0.5 * random.normal(size=len(z))
    return (z + 3) * 10.0 ** np.linspace(-3, 6, 8), 140_000 + 50_000 * (f - f.mean()) / f.std(), rows


def _write(path: Path, x: Array, y: Array) -> None:
    names = [*(f"x{i}" for i in range(x.shape[1])), "price"]
    np.savetxt(path, np.column_stack([x, y]), "%.9g", ",", header=",".join(names), comments="")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["additive", "product"])
@pytest.mark.parametrize("batch_size", ["1", "16", "64", "full"])
def test_followed_to_its_end_it_learns_a_raw_table_as_scikit_learn_learns_it_standardised(
    command_line: CommandLine, tmp_path: Path, batch_size: str, kind: str
) -> None:
    x, y, rows = _table(kind)
    for name, part in (("train.csv", slice(rows)), ("new.csv", slice(rows, None))):
        _write(tmp_path / name, x[part], y[part])
    scaler, mean, std = StandardScaler().fit(x[:rows]), y[:rows].mean(), y[:rows].std()
    other = MLPRegressor(hidden_layer_sizes=(64, 64), random_state=0, max_iter=400)
    other.fit(scaler.transform(x[:rows]), (y[:rows] - mean) / std)
    expected = r2_score(y[rows:], mean + std * other.predict(scaler.transform(x[rows:])))
    options = ["--data.problem", "Table", "--data.problem.path", str(tmp_path / "train.csv")]
    options += ["--model.hidden_sizes", "[64,64]", "--data.batch_size", batch_size, "--data.val_size", "0.1"]
    for lr in ([], ["--model.lr", "best"]):
        command_line.fit(*options, *lr)
        while named := re.search(r"fit (--ckpt_path last --trainer.max_epochs \d+)", command_line.out):
            assert command_line("fit", *named[1].split()) == 0, command_line.err
        assert command_line("test", "--ckpt_path", "last", "--data.problem.path", str(tmp_path / "new.csv")) == 0
        judged = re.search(r"test_r2\s+(\S+)", command_line.out)
        assert judged is not None
        assert float(judged[1]) > expected - 0.02
