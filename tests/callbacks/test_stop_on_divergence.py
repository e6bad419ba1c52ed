"""A run that diverges stops where it does, says so, and loses neither its curve nor its last sound weights."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from gd_lightning import (
    History,
    HistoryRecorder,
    InputError,
    LastCheckpoint,
    LinearProblem,
    Outcome,
    Problem,
    RegressionDataModule,
    RegressionModule,
    SteepLine,
    StopOnDivergence,
)
from gd_lightning.callbacks.stopping import Criterion
from tests.conftest import CONFIGS, CommandLine, MakeTrainer, run_program

DIVERGING = ["--data.batch_size", "1", "--model.lr", "0.1", "--data.order", "shuffled"]


def _run(make_trainer: MakeTrainer, *, lr: float, seed: int = 0, **of_trainer: Any) -> History:
    recorder, data = HistoryRecorder(), RegressionDataModule(SteepLine(), batch_size=1, order="shuffled", seed=seed)
    trainer = make_trainer(callbacks=[recorder, StopOnDivergence()], **{"max_epochs": 20, **of_trainer})
    trainer.fit(RegressionModule(lr=lr), data)
    return recorder.history


@pytest.mark.parametrize("seed", range(10))
def test_the_published_rate_diverges_with_every_order_of_single_samples(make_trainer: MakeTrainer, seed: int) -> None:
    history = _run(make_trainer, lr=0.1, seed=seed)
    assert history.outcome is Outcome.DIVERGED
    assert history.last("train_loss") > 1e6 * history.first("train_loss")
    assert history.last("update") <= 1000
    before = history.series("train_loss")[1][:-1]
    assert np.all(before <= 1e6 * before[0])  # it was stopped where it was first to be seen


@pytest.mark.parametrize("seed", range(3))
def test_a_tenth_of_that_rate_is_never_stopped(make_trainer: MakeTrainer, seed: int) -> None:
    history = _run(make_trainer, lr=0.01, seed=seed)
    assert (history.outcome, history.last("epoch")) == (Outcome.COMPLETED, 20)


def test_the_command_line_keeps_the_curve_and_the_weights_before_it_and_exits_with_3(command_line: CommandLine) -> None:
    run = command_line.fit(*DIVERGING, code=3)
    summary, history = json.loads((run / "summary.json").read_text()), History.from_csv(run / "history.csv")
    assert summary["outcome"] == "diverged"
    assert "the train loss grew from 599.1 to" in summary["reason"]
    assert summary["reason"] in command_line.out
    assert "the weights after update 0, the last ones saved before the run diverged" in command_line.out
    assert history["update"].tolist() == list(range(summary["updates"] + 1))
    checkpoint = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 0
    assert torch.equal(checkpoint["state_dict"]["network.weight"], torch.tensor([[-10.0]]))
    assert command_line("test", "--ckpt_path", run) == 0
    assert "599.12" in command_line.out
    assert command_line.err == ""


def test_a_run_that_diverged_goes_on_only_where_that_is_wanted(command_line: CommandLine) -> None:
    run = command_line.fit(*DIVERGING, code=3)
    content = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    assert command_line("fit", "--ckpt_path", run, "--trainer.max_epochs", "30") == 2
    assert "because it diverged: the train loss grew from 599.1 to" in command_line.err
    assert len(command_line.err.splitlines()) == 1
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == content

    # From the weights before the divergence, and at the same bits as if it had never been stopped.
    assert command_line("fit", "--ckpt_path", run, "--on_divergence", "continue", "--trainer.max_epochs", "4") == 3
    whole = command_line.fit(*DIVERGING, "--on_divergence", "continue", "--trainer.max_epochs", "4", code=3)
    ours, theirs = (History.from_csv(directory / "history.csv") for directory in (run, whole))
    assert ours.last("epoch") == 4
    for name in ("update", "train_loss", "batch_loss", "w", "b"):
        np.testing.assert_array_equal(ours[name], theirs[name])

    # What was continued beyond its divergence is stopped at once where that is asked for again.
    assert command_line("fit", "--ckpt_path", whole, "--on_divergence", "stop", "--trainer.max_epochs", "9") == 3
    assert History.from_csv(whole / "history.csv").last("epoch") == 4


def test_the_bound_is_an_option(command_line: CommandLine) -> None:
    run = command_line.fit(*DIVERGING, "--divergence_factor", "1e300", "--trainer.max_epochs", "3")
    assert json.loads((run / "summary.json").read_text())["outcome"] == "completed"
    # Continued at its end, with the same bound, it stays as it is.
    assert command_line("fit", "--ckpt_path", run) == 0
    assert command_line("fit", "--trainer.callbacks+=StopOnDivergence") == 2
    assert "give --on_divergence and --divergence_factor" in command_line.err


@pytest.mark.parametrize(
    ("options", "message"), [({"divergence_factor": 1}, "1 as divergence_factor"), ({"on_divergence": "x"}, "x")]
)
def test_nonsense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        StopOnDivergence(**options)


def test_it_needs_the_recorder(make_trainer: MakeTrainer) -> None:
    data = RegressionDataModule(SteepLine())
    with pytest.raises(InputError, match="no HistoryRecorder comes before it"):
        make_trainer(callbacks=[StopOnDivergence(), HistoryRecorder()], max_epochs=1).fit(RegressionModule(), data)


@pytest.mark.parametrize(("lr", "sign"), [(0.2, "grew"), (1e30, "no longer a finite number")])
def test_a_long_epoch_is_stopped_within(make_trainer: MakeTrainer, tmp_path: Path, lr: float, sign: str) -> None:
    recorder, data = HistoryRecorder(), RegressionDataModule(LinearProblem(n_samples=2000), batch_size=1)
    callbacks = [recorder, StopOnDivergence(), LastCheckpoint(interval=1e-9)]
    trainer = make_trainer(callbacks=callbacks, max_epochs=1, logs=True, enable_checkpointing=True)
    module = RegressionModule(lr=lr)
    trainer.fit(module, data)
    history = recorder.history
    assert history.outcome is Outcome.DIVERGED
    assert sign in history.reason
    assert history.last("update") % 100 == 0
    assert history.last("epoch") < 1
    assert history["update"].tolist() == list(range(int(history.last("update")) + 1))
    # The last checkpoint is the last of those behind each update that was not beyond the bound.
    checkpoint = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    beyond = [not loss <= 1e6 * history.first("train_loss") for loss in history["batch_loss"][1:]]
    assert checkpoint["global_step"] == beyond.index(True)
    assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())


def test_weights_that_are_not_finite_are_never_saved(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    """Not even without a recorder, or where the run is to go on."""
    for callbacks in ([], [HistoryRecorder(), StopOnDivergence("continue")]):
        options = {"max_epochs": 60, "logs": True, "enable_checkpointing": True}
        trainer = make_trainer(callbacks=[*callbacks, LastCheckpoint(interval=1e-9)], **options)
        module = RegressionModule(lr=1e3)
        trainer.fit(module, RegressionDataModule(SteepLine()))
        assert trainer.global_step == 60
        assert not module.network.weight.isfinite().all()  # type: ignore[union-attr, operator]
        checkpoint = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
        assert checkpoint["global_step"] < 60
        assert checkpoint["state_dict"]["network.weight"].isfinite().all()


def test_a_run_that_was_continued_elsewhere_has_a_checkpoint_too(command_line: CommandLine, tmp_path: Path) -> None:
    run = command_line.fit(*DIVERGING, code=3)
    alone = tmp_path / "alone.ckpt"
    (run / "checkpoints/last.ckpt").rename(alone)
    branch = command_line.fit("--ckpt_path", alone, "--trainer.max_epochs", "20", code=3)
    assert command_line("test", "--ckpt_path", branch) == 0
    assert "599.12" in command_line.out


@dataclass
class OneFarOff(Problem):
    """A line, and a single sample whose loss is nearly that of all others together."""

    def sample(self) -> tuple[Tensor, Tensor]:
        x = torch.linspace(-1, 1, 400, dtype=torch.float64).view(-1, 1)
        y = 2 * x
        y[57] = 1000
        return x, y


class MeasuredWithin(Callback):
    """Keeps at which updates the recorder measured within an epoch."""

    def __init__(self) -> None:
        self.updates: list[int] = []

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        (recorder,) = (callback for callback in trainer.callbacks if isinstance(callback, HistoryRecorder))  # type: ignore[attr-defined]
        history = recorder.history
        if history.in_last_row("train_loss") is not None and history.last("update") == trainer.global_step:
            self.updates.append(trainer.global_step)


def test_one_sample_far_off_does_not_stop_a_run_that_converges(make_trainer: MakeTrainer) -> None:
    recorder, within = HistoryRecorder(), MeasuredWithin()
    data = RegressionDataModule(OneFarOff(), batch_size=1, order="sequential")
    callbacks = [recorder, StopOnDivergence(divergence_factor=10), within]
    make_trainer(callbacks=callbacks, max_epochs=5).fit(RegressionModule(lr=0.001), data)
    history = recorder.history
    assert max(history["batch_loss"][1:]) > 300 * history.first("train_loss")
    # Behind the first 100 updates of each epoch, of which it is one, the train loss was asked.
    assert within.updates == [100 + 400 * epoch for epoch in range(5)]
    assert (history.outcome, history.last("epoch")) == (Outcome.COMPLETED, 5)
    # What was measured there is the loss at the weights of its row.
    x, y = (values[:, 0].numpy() for values in OneFarOff().sample())
    for update in within.updates:
        expected = np.mean((history["w"][update] * x + history["b"][update] - y) ** 2)
        assert history["train_loss"][update] == pytest.approx(expected, rel=1e-5)


def test_looking_changes_no_bit_and_stops_no_clock(make_trainer: MakeTrainer) -> None:
    states = []
    for factor in (1e6, 1.0000001):
        torch.manual_seed(3)
        within, module = MeasuredWithin(), RegressionModule(lr=0.001, hidden_sizes=[6], dropout=0.3)
        stop = StopOnDivergence(divergence_factor=factor)
        stop.updates_between_checks = 1
        trainer = make_trainer(callbacks=[HistoryRecorder(), stop, within], max_epochs=2)
        trainer.fit(module, RegressionDataModule(OneFarOff(), batch_size=8))
        assert len(within.updates) == (2 if factor < 2 else 0)
        states.append([p.detach().clone() for p in module.parameters()] + [torch.get_rng_state()])
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


class EverySecond(Callback):
    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step % 2 == 0:
            trainer.save_checkpoint(self.path / f"{trainer.global_step}.ckpt")


class Looks(Criterion):
    """Is never met, and keeps the epochs at whose ends it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs: list[float] = []

    def reason_to_end(self, recorder: HistoryRecorder) -> str:
        self.epochs.append(recorder.history.last("epoch"))
        return ""


def test_a_run_that_is_continued_looks_where_it_would_have_looked(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    def run(path: Path, checkpoint: Path | None = None) -> list[tuple[float, float]]:
        recorder, looks, stop = HistoryRecorder(), Looks(), StopOnDivergence(divergence_factor=5)
        stop.updates_between_checks = 2
        callbacks = [recorder, looks, stop, EverySecond(path)]
        trainer = make_trainer(callbacks=callbacks, max_epochs=3, logger=False)
        data = RegressionDataModule(OneFarOff(), batch_size=40, order="shuffled")
        trainer.fit(RegressionModule(lr=0.01), data, ckpt_path=checkpoint, weights_only=True)
        assert looks.epochs[-1] == 3
        assert all(epoch == int(epoch) for epoch in looks.epochs)  # criteria ask for whole epochs
        return list(zip(*(column.tolist() for column in recorder.history.series("train_loss")), strict=True))

    whole = run(tmp_path)
    assert len(whole) > 4  # within epochs, too
    for update in range(2, 30, 2):
        assert run(tmp_path / "again", tmp_path / f"{update}.ckpt") == whole


@pytest.mark.slow
def test_two_processes_stop_where_one_does(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    options = ["--config", str(CONFIGS / "ddp.yaml"), *DIVERGING, "--trainer.precision", "64-true"]
    result = run_program("fit", *options, cwd=tmp_path)
    assert result.returncode == 3, result.stderr
    (warning,) = result.stderr.splitlines()  # of one process
    assert "is above 0.06418, the limit for batch_size 1" in warning
    (run,) = (tmp_path / "lightning_logs").iterdir()
    shared, alone = History.from_csv(run / "history.csv"), _run(make_trainer, lr=0.1, precision="64-true")
    assert shared.last("update") == alone.last("update")
    assert math.isclose(shared.last("train_loss"), alone.last("train_loss"), rel_tol=1e-9)
    assert torch.load(run / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 0
