"""``--ckpt_path best``: the weights at which a monitored value was best."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

import gd_lightning
from gd_lightning import History
from gd_lightning.tracking.checkpoint_file import read_checkpoint
from tests.conftest import CommandLine

# A rate that is too high for its last epochs: the loss of a small network on few samples goes up and down.
NOISY = (
    *("--data.problem", "Sine", "--data.val_size", "0.25", "--data.batch_size", "1"),
    *("--model.hidden_sizes", "[6]", "--model.lr", "0.1", "--trainer.max_epochs", "6"),
)
KEEPS = ("--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.monitor")
STOPS = (
    *("--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor", "val_loss"),
    *("--trainer.callbacks.patience", "1"),
)


def _best(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "summary.json").read_text())["best_checkpoint"]
    return found


@pytest.mark.parametrize(
    ("monitor", "options"),
    [
        ("val_loss", ()),
        pytest.param("val_loss", ("--model.engine", "autograd"), marks=pytest.mark.slow),
        pytest.param("train_loss", (), marks=pytest.mark.slow),
        ("val_r2", ("--trainer.callbacks.mode", "max")),
        ("val_loss", STOPS),
    ],
)
def test_the_best_is_the_one_of_the_history(command_line: CommandLine, monitor: str, options: tuple[str, ...]) -> None:
    run = command_line.fit(*NOISY, *KEEPS, monitor, *options)
    assert "best weights" in command_line.out
    history, best = History.from_run(run), _best(run)
    # Nothing is kept before the first update.
    rows = [row for row in history.rows_at(history.measured(monitor)) if row["update"]]
    choose = max if monitor == "val_r2" else min
    expected = choose(rows, key=lambda row: row[monitor])
    assert best["monitor"] == monitor
    assert (best["epoch"], best["update"]) == (expected["epoch"], expected["update"])
    assert best["value"] == pytest.approx(expected[monitor], rel=1e-6)
    assert best["update"] < history.last("update")  # else it shows nothing
    assert read_checkpoint(run / best["path"])["global_step"] == best["update"]


# Said by Lightning where a run goes on in another directory: what was kept before is not compared with what comes.
@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_best_is_judged_used_and_continued(command_line: CommandLine) -> None:
    run = command_line.fit(*NOISY, *KEEPS, "val_loss")
    best = _best(run)
    for given in ("best", f"{run}/best", str(run / best["path"])):
        assert command_line("validate", "--ckpt_path", given) == 0, command_line.err
    judged = [json.loads(path.read_text()) for path in sorted(run.glob("validate*.json"))]
    assert len(judged) == 3
    for values in judged:
        assert values["checkpoint"] == Path(best["path"]).name
        assert values["val_loss"] == pytest.approx(best["value"], rel=1e-5)
    assert command_line("test", "--ckpt_path", run) == 0, command_line.err
    assert json.loads((run / "test.json").read_text())["checkpoint"] == "last.ckpt"  # that of a run stays its last
    assert command_line("predict", "--ckpt_path", "best") == 0, command_line.err
    assert list(run.glob("predictions*.csv"))
    again = command_line.fit("--ckpt_path", f"{run}/best", "--trainer.max_epochs", "6")
    weights, same = (read_checkpoint(path / "checkpoints/last.ckpt")["state_dict"] for path in (run, again))
    assert all(torch.equal(weights[name], same[name]) for name in weights)


def test_the_best_lies_elsewhere_or_the_run_was_moved(command_line: CommandLine, tmp_path: Path) -> None:
    run = command_line.fit(*NOISY, *KEEPS, "val_loss", "--trainer.callbacks.dirpath", tmp_path / "kept")
    assert Path(_best(run)["path"]).parent == tmp_path / "kept"
    assert command_line("validate", "--ckpt_path", f"{run}/best") == 0, command_line.err
    assert json.loads((run / "validate.json").read_text())["val_loss"] == pytest.approx(_best(run)["value"], rel=1e-5)
    run = command_line.fit(*NOISY, *KEEPS, "val_loss")
    moved = tmp_path / "moved"
    shutil.move(run, moved)
    assert command_line("validate", "--ckpt_path", f"{moved}/best") == 0, command_line.err
    assert (moved / "validate.json").is_file()


def test_without_a_best_it_is_refused(command_line: CommandLine) -> None:
    def refused(given: str | Path) -> str:
        assert command_line("test", "--ckpt_path", given) == 2
        (line,) = command_line.err.splitlines()
        return line

    assert "contains none; train first" in refused("best")
    run = command_line.fit("--trainer.max_epochs", "1", "--data.val_size", "0.2", *STOPS)
    assert _best(run) is None
    assert "because it kept none; train with " in refused(f"{run}/best")
    run = command_line.fit("--trainer.max_epochs", "1", "--trainer.callbacks+=ModelCheckpoint")
    assert "because it kept none" in refused("best")  # the newest is not the best: nothing was monitored
    run = command_line.fit("--trainer.max_epochs", "1", *KEEPS, "train_loss")
    (run / _best(run)["path"]).unlink()
    assert "does not exist any more; give another one" in refused("best")
    (run / "summary.json").unlink()
    assert f"because it has not ended; continue it with fit --ckpt_path {run}" in refused("best")
    assert "cannot find a checkpoint at" in refused(run / "checkpoints" / "nothing.ckpt")


@pytest.mark.parametrize(
    "way", ["as it was given", *(pytest.param(way, marks=pytest.mark.slow) for way in ("seen from elsewhere", "moved"))]
)
def test_a_run_that_goes_on_still_knows_its_best(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Its best stays the best, and only one file is kept of the two parts."""
    options = [*NOISY, *KEEPS, "val_loss"]
    whole = _best(command_line.fit(*options))
    epochs = int(whole["epoch"])  # the best comes before the last
    run = command_line.fit(*options, "--trainer.max_epochs", str(epochs))
    assert _best(run) == whole
    if way == "moved":
        run = Path(shutil.move(run, tmp_path / "moved"))
    monkeypatch.chdir(run.parent)
    given = run.name if way == "seen from elsewhere" else str(run)
    assert command_line("fit", "--ckpt_path", given, "--trainer.max_epochs", "6") == 0, command_line.err
    assert _best(run) == whole
    assert len(list((run / "checkpoints").iterdir())) == 2


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_python_loads_and_continues_the_best(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = command_line.fit(*NOISY, *KEEPS, "val_loss")
    monkeypatch.chdir(command_line.root)
    state = read_checkpoint(run / _best(run)["path"])["state_dict"]
    for name in ("best", run / "best"):
        loaded = gd_lightning.load(name)
        assert all(torch.equal(value, state[key]) for key, value in loaded.module.state_dict().items())
        assert (Path(loaded.directory or "").resolve(), loaded.summary.updates) == (run.resolve(), _last(run))
    kept = ModelCheckpoint(monitor="val_loss")
    again = gd_lightning.fit(
        ckpt_path="best",
        epochs=int(_best(run)["epoch"]) + 1,
        directory=tmp_path / "again",
        trainer={"callbacks": [kept]},
    )
    assert again.history.last("epoch") == _best(run)["epoch"] + 1
    for name in ("best", tmp_path / "nowhere"):
        monkeypatch.chdir(tmp_path if name != "best" else tmp_path.parent)
        with pytest.raises(gd_lightning.InputError, match="cannot find"):
            gd_lightning.load(name)


def _last(run: Path) -> float:
    return History.from_run(run).last("update")
