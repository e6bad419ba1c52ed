"""Criteria end a run where they say, the record proves it, and a run that is continued knows it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from torch import nn
from torch.nn.utils import parameters_to_vector
from torch.utils.data import DataLoader, IterableDataset

from gd_lightning import (
    ExcessBelow,
    GradientNormBelow,
    History,
    HistoryRecorder,
    InputError,
    LossBelow,
    LossPlateau,
    Outcome,
    Parabola,
    Problem,
    RegressionDataModule,
    RegressionModule,
    SteepLine,
    TimeBudget,
    least_squares,
)
from gd_lightning.losses import mean_loss
from gd_lightning.measures import training_seconds
from tests.conftest import CONFIGS, CommandLine, MakeTrainer, run_program


def _run(
    make_trainer: MakeTrainer,
    *criteria: Callback,
    of_data: dict[str, Any] | None = None,
    of_trainer: dict[str, Any] | None = None,
    problem: Problem | None = None,
    checkpoint: Path | None = None,
    **options: Any,
) -> tuple[History, Trainer]:
    recorder = HistoryRecorder()
    trainer = make_trainer(callbacks=[recorder, *criteria], **{"max_epochs": 60, **(of_trainer or {})})
    data = RegressionDataModule(problem or SteepLine(), **(of_data or {}))
    trainer.fit(RegressionModule(**{"lr": 0.1, **options}), data, ckpt_path=checkpoint, weights_only=True)
    return recorder.history, trainer


def _first(values: Any, at_most: float) -> int:
    return int(np.argmax(np.asarray(values) <= at_most))


@pytest.mark.parametrize("batch_size", ["full", 16])
def test_a_loss_is_low_enough_at_the_first_epoch_at_which_it_is(make_trainer: MakeTrainer, batch_size: Any) -> None:
    of_data, of_trainer = {"batch_size": batch_size}, {"max_epochs": 40}
    free, _ = _run(make_trainer, of_data=of_data, of_trainer=of_trainer, lr=0.01)
    history, _ = _run(make_trainer, LossBelow(100.0), of_data=of_data, of_trainer=of_trainer, lr=0.01)
    expected = _first(free.series("train_loss")[1], 100.0)
    assert expected > 0
    assert (history.outcome, history.last("epoch")) == (Outcome.CONVERGED, expected)
    assert history.reason == f"the train loss {history.last('train_loss'):.6g} is at most 100"


@pytest.mark.parametrize(("excess", "relative"), [(2.0, False), (1e-4, True)])
def test_an_excess_is_over_the_least_squares(make_trainer: MakeTrainer, excess: float, relative: bool) -> None:
    """The smallest loss from numpy, and where descent gets near it from its recorded losses."""
    precise = {"precision": "64-true"}
    free, trainer = _run(make_trainer, of_trainer=precise)
    samples = trainer.datamodule.train  # type: ignore[attr-defined]
    design, y = np.hstack([samples.x.numpy(), np.ones((100, 1))]), samples.y.numpy()
    smallest = np.mean((y - design @ np.linalg.lstsq(design, y, rcond=None)[0]) ** 2)
    history, _ = _run(make_trainer, ExcessBelow(excess, relative), of_trainer=precise)
    bound = excess * smallest if relative else excess
    assert (history.outcome, history.last("epoch")) == (
        Outcome.CONVERGED,
        _first(free.series("train_loss")[1] - smallest, bound),
    )
    assert "above the least-squares loss" in history.reason


@pytest.mark.parametrize("micro_batch_size", [None, 7])
@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
def test_the_gradient_norm_is_that_of_the_whole_set(
    make_trainer: MakeTrainer, micro_batch_size: int | None, precision: Any
) -> None:
    """From the closed form of the gradient of a line, at the recorded parameters: 2/N X^T (X theta - y)."""
    of_data = {"batch_size": 16, "micro_batch_size": micro_batch_size}
    history, trainer = _run(
        make_trainer,
        GradientNormBelow(30.0),
        of_data=of_data,
        of_trainer={"precision": precision, "max_epochs": 100},
        lr=0.001,
    )
    samples = trainer.datamodule.train  # type: ignore[attr-defined]
    design, y = np.hstack([samples.x.double().numpy(), np.ones((100, 1))]), samples.y.double().numpy()[:, 0]
    updates, norms = history.series("gradient_norm")
    for update, norm in zip(updates.astype(int), norms, strict=True):
        theta = np.array([history["w"][update], history["b"][update]])
        expected = np.linalg.norm(2 / 100 * design.T @ (design @ theta - y))
        assert norm == pytest.approx(expected, rel=1e-12 if precision == "64-true" else 1e-5)
    assert updates.tolist() == list(range(0, 7 * len(updates), 7))
    assert norms[-1] <= 30.0 < min(norms[:-1])
    assert (history.outcome, len(updates) > 3) == (Outcome.CONVERGED, True)
    assert history.reason.startswith("the gradient norm ")


def test_the_gradient_norm_of_a_network_is_that_of_autograd_in_evaluation(make_trainer: MakeTrainer) -> None:
    options: dict[str, Any] = {"hidden_sizes": [6], "dropout": 0.5, "l1": 0.1}
    history, trainer = _run(
        make_trainer, GradientNormBelow(1e-9), problem=Parabola(), of_trainer={"max_epochs": 3}, **options
    )
    module, samples = trainer.lightning_module.eval(), trainer.datamodule.train  # type: ignore[attr-defined]
    gradients = torch.autograd.grad(mean_loss(module(samples.x), samples.y), list(module.parameters()))
    expected = parameters_to_vector(gradients).norm().item()
    assert history.last("gradient_norm") == pytest.approx(expected, rel=1e-5)
    assert history.outcome is Outcome.COMPLETED


def test_criteria_change_no_bit_of_the_result(make_trainer: MakeTrainer) -> None:
    states = []
    criteria = [LossBelow(-1), GradientNormBelow(1e-9), LossPlateau(1000), TimeBudget(1e9)]
    for callbacks in ([], criteria):
        torch.manual_seed(3)
        of_data = {"batch_size": 16, "val_size": 0.2}
        options: dict[str, Any] = {
            "hidden_sizes": [6],
            "dropout": 0.3,
            "momentum": 0.5,
            "of_trainer": {"max_epochs": 4},
        }
        _, trainer = _run(make_trainer, *callbacks, problem=Parabola(), of_data=of_data, **options)
        parameters = [p.detach().clone() for p in trainer.lightning_module.parameters()]
        states.append([*parameters, torch.get_rng_state()])
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


def _plateau_at(losses: Any, epochs: int, min_delta: float) -> int:
    """The epoch at which there has been no progress, as the shortest code that is right."""
    for epoch in range(epochs, len(losses)):
        reference = losses[0]
        waited = 0
        for loss in losses[1 : epoch + 1]:
            if loss < reference * (1 - min_delta):
                reference, waited = loss, 0
            else:
                waited += 1
        if waited >= epochs:
            return epoch
    return -1


@pytest.mark.parametrize(("batch_size", "epochs", "min_delta"), [("full", 2, 0.05), (1, 3, 0.0), (1, 1, 0.5)])
def test_a_plateau_is_a_stop(make_trainer: MakeTrainer, batch_size: Any, epochs: int, min_delta: float) -> None:
    of_data = {"batch_size": batch_size, "order": "shuffled"}
    lr = 0.1 if batch_size == "full" else 0.02
    free, _ = _run(make_trainer, of_data=of_data, lr=lr)
    history, _ = _run(make_trainer, LossPlateau(epochs, min_delta), of_data=of_data, lr=lr)
    expected = _plateau_at(free.series("train_loss")[1], epochs, min_delta)
    assert (history.outcome, history.last("epoch")) == (Outcome.STOPPED, expected)
    assert history.reason.endswith(f" for {epochs} epochs")


class Clock:
    """Time in which each look takes a millisecond."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        self.now += 0.001
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return a clock that is the same on every machine."""
    clock = Clock()
    monkeypatch.setattr(training_seconds, "time", clock)
    return clock


class AtTheEnd(Callback):
    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        trainer.save_checkpoint(self.path)


def test_a_budget_ends_between_updates_and_the_run_goes_on_with_a_larger_one(
    make_trainer: MakeTrainer, tmp_path: Path, clock: Clock
) -> None:
    options: dict[str, Any] = {
        "of_data": {"batch_size": 16, "val_size": 20},
        "of_trainer": {"max_epochs": 5},
        "lr": 0.01,
    }
    whole, trainer = _run(make_trainer, **options)
    weights = trainer.lightning_module.state_dict()

    def run(name: str, seconds: float, checkpoint: str | None = None) -> tuple[History, Trainer]:
        criteria = [TimeBudget(seconds), AtTheEnd(tmp_path / name)]
        return _run(make_trainer, *criteria, checkpoint=tmp_path / checkpoint if checkpoint else None, **options)

    part, _ = run("part.ckpt", 0.03)
    assert (part.outcome, part.reason) == (Outcome.COMPLETED, "the 0.03 seconds of training were used")
    assert part.last("epoch") % 1 > 0
    assert part.last("seconds") < 0.032
    for name in ("again.ckpt", "and_again.ckpt"):  # it stays ended
        again, _ = run(name, 0.03, "part.ckpt")
        assert (again.outcome, again.reason) == (part.outcome, part.reason)
        assert again.last("update") == part.last("update")
        assert again.last("train_loss") == part.last("train_loss")
    rest, trainer = run("rest.ckpt", 60.0, "and_again.ckpt")
    assert rest.outcome is Outcome.COMPLETED
    assert "max_epochs" in rest.reason
    for name, value in trainer.lightning_module.state_dict().items():
        assert torch.equal(value, weights[name])
    np.testing.assert_array_equal(rest["batch_loss"], whole["batch_loss"])
    np.testing.assert_array_equal(rest["train_loss"], whole["train_loss"])


CRITERIA: list[tuple[Callable[[], Callback], Callable[[], Callback]]] = [
    (lambda: LossBelow(100.0), lambda: LossBelow(60.0)),
    (lambda: ExcessBelow(100.0), lambda: ExcessBelow(60.0)),
    (lambda: GradientNormBelow(24.0), lambda: GradientNormBelow(16.0)),
    (lambda: LossPlateau(2, 0.5), lambda: LossPlateau(3, 0.5)),
]


class EveryFifth(Callback):
    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step % 5 == 0:
            trainer.save_checkpoint(self.path / f"{trainer.global_step:03d}.ckpt")


@pytest.mark.parametrize(("make", "make_stricter"), CRITERIA)
def test_a_run_that_is_continued_ends_where_it_would_have_ended(
    make_trainer: MakeTrainer, tmp_path: Path, make: Callable[[], Callback], make_stricter: Callable[[], Callback]
) -> None:
    options: dict[str, Any] = {
        "of_data": {"batch_size": 16, "order": "shuffled"},
        "of_trainer": {"max_epochs": 12},
        "lr": 0.01,
    }

    def run(criterion: Callback, checkpoint: Path | None = None) -> History:
        saving = [] if checkpoint else [EveryFifth(tmp_path / "run"), AtTheEnd(tmp_path / "run/end.ckpt")]
        return _run(make_trainer, criterion, *saving, checkpoint=checkpoint, **options)[0]

    def content(history: History) -> list[dict[str, float]]:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in history.rows()]

    whole = run(make())
    assert whole.outcome is not Outcome.COMPLETED
    checkpoints = sorted((tmp_path / "run").glob("*.ckpt"))
    assert len(checkpoints) > 4
    for checkpoint in [checkpoints[1], *checkpoints[-3:]]:
        again = run(make(), checkpoint)
        assert (again.outcome, again.reason) == (whole.outcome, whole.reason)
        assert content(again) == content(whole)
    further = run(make_stricter(), tmp_path / "run/end.ckpt")
    stricter = run(make_stricter())
    assert further.last("epoch") > whole.last("epoch")
    assert content(further) == content(stricter)
    assert (further.outcome, further.reason) == (stricter.outcome, stricter.reason)


def test_a_start_that_is_good_enough_needs_no_update(make_trainer: MakeTrainer) -> None:
    history, trainer = _run(make_trainer, LossBelow(1000.0))
    assert (history.outcome, trainer.global_step, len(history)) == (Outcome.CONVERGED, 0, 1)


def test_it_waits_for_the_least_number_of_epochs(make_trainer: MakeTrainer) -> None:
    for criterion in (LossBelow(1000.0), TimeBudget(1e-9)):
        history, _ = _run(make_trainer, criterion, of_trainer={"min_epochs": 3})
        assert history.last("epoch") == 3
    assert history.reason == "the 1e-09 seconds of training were used"
    # What was low enough before, and is not any more, ends nothing.
    history, _ = _run(make_trainer, LossBelow(600.0), of_trainer={"min_epochs": 2, "max_epochs": 4}, lr=0.2)
    assert (history.first("train_loss") < 600, history.last("epoch")) == (True, 4)
    assert history.outcome is Outcome.COMPLETED


def test_several_criteria_and_early_stopping_stand_beside_each_other(make_trainer: MakeTrainer) -> None:
    early = EarlyStopping("train_loss", patience=50, stopping_threshold=300.0, check_on_train_epoch_end=True)
    history, _ = _run(make_trainer, LossBelow(10.0), LossBelow(1.0), LossPlateau(), early)
    assert history.reason.startswith("early stopping")
    assert (history.outcome, history.last("epoch")) == (Outcome.CONVERGED, 2)


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter([(torch.ones(1), torch.ones(1))] * 4)


@pytest.mark.filterwarnings("ignore:.*have no `val_dataloader`.*")
@pytest.mark.parametrize(
    ("criterion", "module", "data", "message"),
    [
        (ExcessBelow(0.1), RegressionModule(hidden_sizes=[3]), None, "only a linear regressor with the loss mse"),
        (ExcessBelow(0.1), RegressionModule(loss="mae"), None, "use LossBelow or GradientNormBelow"),
        (
            LossBelow(0.1),
            RegressionModule(in_features=1, out_features=1),
            DataLoader(Endless(), batch_size=2),
            "LossBelow, because the train loss of these data cannot be measured",
        ),
    ],
)
def test_what_could_never_be_met_is_refused(
    make_trainer: MakeTrainer, criterion: Callback, module: RegressionModule, data: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make_trainer(callbacks=[HistoryRecorder(), criterion], max_epochs=1).fit(
            module, RegressionDataModule(SteepLine()) if data is None else data
        )


@pytest.mark.parametrize(("slope", "intercept"), [(0.0, 0.0), (0.1, 0.3), (-5.0, 20.0)])
def test_a_relative_excess_over_nothing_is_refused(make_trainer: MakeTrainer, slope: float, intercept: float) -> None:
    class Nothing(SteepLine):
        def sample(self) -> tuple[torch.Tensor, torch.Tensor]:
            x, _ = super().sample()
            return x, slope * x + intercept

    assert least_squares(*Nothing().sample())[1] < 1e-12
    with pytest.raises(InputError, match="least-squares loss is 0"):
        _run(make_trainer, ExcessBelow(0.1, relative=True), problem=Nothing())


def test_a_criterion_needs_the_recorder(make_trainer: MakeTrainer) -> None:
    for callbacks in ([LossBelow(1.0)], [LossBelow(1.0), HistoryRecorder()]):
        with pytest.raises(InputError, match="cannot use LossBelow, because no HistoryRecorder comes before it"):
            make_trainer(callbacks=callbacks, max_epochs=1).fit(RegressionModule(), RegressionDataModule(SteepLine()))


@pytest.mark.parametrize(
    "make",
    [
        lambda: LossBelow(float("nan")),
        lambda: ExcessBelow(0),
        lambda: GradientNormBelow(-1),
        lambda: LossPlateau(0),
        lambda: LossPlateau(1, min_delta=1.0),
        lambda: TimeBudget(0),
    ],
)
def test_nonsense_is_refused(make: Callable[[], Callback]) -> None:
    with pytest.raises(InputError, match="; use "):
        make()


def test_the_command_line_knows_them_by_their_short_names(command_line: CommandLine, tmp_path: Path) -> None:
    run = command_line.fit("--trainer.callbacks+=LossBelow", "--trainer.callbacks.threshold", "100")
    summary = json.loads((run / "summary.json").read_text())
    assert summary["outcome"] == "converged"
    assert summary["reason"] == f"the train loss {summary['train_loss_last']:.6g} is at most 100"
    assert f"converged: {summary['reason']}" in command_line.out

    config = tmp_path / "criteria.yaml"
    config.write_text(
        "trainer:\n  max_epochs: 500\n  callbacks:\n"
        "  - class_path: GradientNormBelow\n    init_args: {threshold: 0.5}\n"
        "  - class_path: LossPlateau\n  - class_path: TimeBudget\n    init_args: {seconds: 1000}\n"
    )
    run = command_line.fit("--config", config)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["reason"].startswith("the gradient norm 0.4")
    assert summary["measures"]["gradient_norm"] <= 0.5

    options = ["--trainer.callbacks+=ExcessBelow", "--trainer.callbacks.excess", "0.1", "--model.hidden_sizes", "[3]"]
    before = command_line.runs
    assert command_line("fit", *options) == 2
    assert len(command_line.err.splitlines()) == 1
    assert "cannot use ExcessBelow, because only a linear regressor" in command_line.err
    assert command_line.runs == before


def test_a_run_that_converged_stays_so_on_the_command_line(command_line: CommandLine) -> None:
    for epochs in ("50", "3"):  # before its limit, and at it
        options = ["--trainer.callbacks+=LossBelow", "--trainer.callbacks.threshold", "130"]
        run = command_line.fit(*options, "--trainer.max_epochs", epochs)
        summary = json.loads((run / "summary.json").read_text())
        assert (summary["outcome"], summary["updates"]) == ("converged", 3)
        assert command_line("fit", "--ckpt_path", run) == 0
        assert json.loads((run / "summary.json").read_text()) == summary
        assert command_line("test", "--ckpt_path", run) == 0
        assert command_line.err == ""


@pytest.mark.slow
def test_two_processes_converge_where_one_does(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    criteria = ["--trainer.callbacks+=GradientNormBelow", "--trainer.callbacks.threshold", "5"]
    criteria += ["--trainer.callbacks+=TimeBudget", "--trainer.callbacks.seconds", "1000"]
    options = ["--config", str(CONFIGS / "ddp.yaml"), "--trainer.precision", "64-true", "--data.batch_size", "33"]
    result = run_program("fit", *options, *criteria, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    (run,) = (tmp_path / "lightning_logs").iterdir()
    shared = History.from_csv(run / "history.csv")
    of_data, of_trainer = {"batch_size": 33, "order": "shuffled"}, {"precision": "64-true", "max_epochs": 20}
    alone, _ = _run(make_trainer, GradientNormBelow(5.0), of_data=of_data, of_trainer=of_trainer)
    assert alone.outcome is Outcome.CONVERGED
    assert shared["update"].tolist() == alone["update"].tolist()
    np.testing.assert_allclose(shared.series("gradient_norm")[1], alone.series("gradient_norm")[1], rtol=1e-10)


def test_a_frozen_layer_has_no_part_in_the_gradient_norm(make_trainer: MakeTrainer) -> None:
    class Frozen(nn.Sequential):
        def __init__(self, in_features: int, out_features: int) -> None:
            super().__init__(nn.Linear(in_features, 4), nn.Tanh(), nn.Linear(4, out_features))
            self[0].requires_grad_(False)

    history, trainer = _run(
        make_trainer, GradientNormBelow(1e-9), problem=Parabola(), network=Frozen, of_trainer={"max_epochs": 1}
    )
    module, samples = trainer.lightning_module, trainer.datamodule.train  # type: ignore[attr-defined]
    trained = [p for p in module.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(mean_loss(module(samples.x), samples.y), trained)
    assert history.last("gradient_norm") == pytest.approx(parameters_to_vector(gradients).norm().item(), rel=1e-5)
