"""What the package uses of Lightning, and Lightning does not document: each does what it is used for.

Where one of these tests fails, a release of Lightning has changed that name; nothing else needs to be looked through.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, Timer, WeightAveraging
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_avg_fn
from torch.utils.data import DataLoader, TensorDataset

from gd_lightning import RegressionDataModule, RegressionModule, SteepLine
from gd_lightning import lightning_internals as internals
from tests.conftest import MakeTrainer

N = 4


def test_callbacks_are_those_of_a_class(make_trainer: MakeTrainer) -> None:
    stopping, timer = EarlyStopping("val_loss"), Timer("00:00:01:00")
    trainer = make_trainer(callbacks=[stopping, timer])
    assert internals.callbacks_of(trainer, Timer) == [timer]
    assert internals.callbacks_of(trainer, Callback)[:2] == [stopping, timer]


class Plain(internals.ModuleWithQuickHooks):
    """Descends (w - 1)^2 with a loader of N batches; calls something in each update."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.names: list[str] = []
        self.by_closure, self.gradients = False, list[float]()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.names.append(str(self._current_fx_name))
        return (self.weight - 1).square()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.weight.detach())

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.25)

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        if self.by_closure:
            self.weight.grad = torch.tensor(7.0)
            internals.run_without_backward(optimizer_closure)
            self.gradients.append(float(self.weight.grad))
        else:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)

    def train_dataloader(self) -> Any:
        return DataLoader(TensorDataset(torch.zeros(N, 1)), batch_size=1)

    def val_dataloader(self) -> Any:
        return self.train_dataloader()


class Asks(Callback):
    """Notes an answer behind each batch."""

    def __init__(self, question: Any) -> None:
        self.question, self.answers = question, list[Any]()

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.answers.append(self.question(trainer))


def _answers(make_trainer: MakeTrainer, question: Any, **options: Any) -> list[Any]:
    asks = Asks(question)
    make_trainer(**{"max_epochs": 1, **options}, callbacks=[asks]).fit(Plain())
    return asks.answers


def test_hooks_note_their_names(make_trainer: MakeTrainer) -> None:
    module = Plain()
    make_trainer(max_epochs=1).fit(module)
    assert module.names == ["training_step"] * N
    assert "_current_fx_name" in vars(LightningModule())


def test_a_closure_computes_the_loss_alone(make_trainer: MakeTrainer) -> None:
    module = Plain()
    module.by_closure = True
    make_trainer(max_epochs=1).fit(module)
    assert (len(module.names), module.weight.item(), module.gradients) == (N, 0, [7.0] * N)
    internals.run_without_backward(None)


@pytest.mark.parametrize("every", [1, 2, 3, N])
def test_where_lightning_validates(make_trainer: MakeTrainer, every: int) -> None:
    validated: list[int] = []

    class Notes(Callback):
        def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            if not trainer.sanity_checking:
                validated.append(trainer.global_step)

    asks = Asks(internals.validates_here)
    make_trainer(max_epochs=1, val_check_interval=every, callbacks=[asks, Notes()]).fit(Plain())
    assert [i + 1 for i, here in enumerate(asks.answers) if here] == validated == list(range(every, N + 1, every))


def test_updates_are_counted_from_a_number_on(make_trainer: MakeTrainer) -> None:
    """By this number loggers are told where they are."""

    class Continues(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            internals.continue_counting(trainer, 10)

    trainer = make_trainer(max_epochs=1, callbacks=[Continues()])
    trainer.fit(Plain())
    assert (trainer.fit_loop.epoch_loop._batches_that_stepped, trainer.fit_loop.restarting) == (10 + N, False)


@pytest.mark.parametrize("skips", [False, True])
def test_batches_only_pass_forward(make_trainer: MakeTrainer, skips: bool) -> None:
    class Skips(Callback):
        def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            trainer.fit_loop._skip_backward = skips

    module, asks = Plain(), Asks(internals.skips_backward)
    make_trainer(max_epochs=1, callbacks=[Skips(), asks]).fit(module)
    assert asks.answers == [skips] * N
    assert (module.weight.item() == 0) == skips


def test_the_fewest_updates_hold_a_stop_back(make_trainer: MakeTrainer) -> None:
    assert _answers(make_trainer, internals.can_stop_early, min_epochs=0, min_steps=3) == [False, False, True, True]


@pytest.mark.parametrize("detects", [False, True])
def test_anomalies_are_looked_for(make_trainer: MakeTrainer, detects: bool) -> None:
    trainer = make_trainer(max_epochs=1, detect_anomaly=detects)
    assert internals.detects_anomalies(trainer) == detects


@pytest.mark.parametrize(("interval", "seconds"), [("00:00:01:30", 90), ({"minutes": 1}, 60), (1, None), (0.5, None)])
def test_the_seconds_between_validations(make_trainer: MakeTrainer, interval: Any, seconds: float | None) -> None:
    assert internals.seconds_between_validations(make_trainer(val_check_interval=interval)) == seconds


@pytest.mark.parametrize("injects", [False, True])
def test_samplers_are_injected(make_trainer: MakeTrainer, injects: bool) -> None:
    assert internals.injects_samplers(make_trainer(use_distributed_sampler=injects)) == injects


def test_options_of_ddp() -> None:
    assert internals.options_of_ddp(DDPStrategy(static_graph=True)) == {"static_graph": True}
    assert internals.options_of_ddp(DDPStrategy()) == {}


@pytest.mark.parametrize(
    ("options", "by_updates"), [({"every_n_train_steps": 5}, True), ({"every_n_epochs": 1}, False)]
)
def test_saving_by_updates(options: dict[str, Any], by_updates: bool) -> None:
    assert internals.saves_by_updates(ModelCheckpoint(**options)) == by_updates


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_timers_that_end_a_run_at_epochs(make_trainer: MakeTrainer, interval: str) -> None:
    """Whose time is over as soon as training begins."""
    timer = Timer("00:01:00:00", interval=interval)

    class Passes(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            timer.time_elapsed = lambda *_: 1e9  # type: ignore[method-assign]

    make_trainer(max_epochs=3, min_epochs=0, callbacks=[timer, Passes()]).fit(module := Plain())
    assert internals.ends_at_epochs(timer) == (interval == "epoch")
    assert len(module.names) == (N if interval == "epoch" else 1)


@pytest.mark.parametrize(("strategy", "forks"), [("ddp_spawn", True), ("ddp", False)])
def test_processes_that_are_forked(make_trainer: MakeTrainer, strategy: str, forks: bool) -> None:
    assert internals.forks(make_trainer(strategy=strategy, devices=2)) == forks


def test_a_signal_goes_to_the_processes_that_repeat_the_command(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, sent = make_trainer(strategy="ddp", devices=2), list[int]()
    internals.pass_on_signal(make_trainer(), 15)  # there are none
    monkeypatch.setattr(trainer.strategy.launcher, "kill", sent.append)
    internals.pass_on_signal(trainer, 15)
    assert sent == [15]


@pytest.mark.parametrize("kind", [TensorBoardLogger, CSVLogger])
def test_the_versions_of_loggers(tmp_path: Path, kind: type[TensorBoardLogger] | type[CSVLogger]) -> None:
    assert internals.has_version(kind(tmp_path, version=7))
    logger = kind(tmp_path, name="runs")
    (tmp_path / "runs" / "version_3").mkdir(parents=True)
    assert not internals.has_version(logger)
    assert internals.next_version(logger) == 4
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "runs", tmp_path / "runs" / "version_3"]
    internals.set_version(logger, 5)
    assert internals.has_version(logger)
    assert Path(logger.log_dir) == tmp_path / "runs" / "version_5"


class Watches(Callback):
    """Notes validations and ends of epochs, and asks for the end behind an update."""

    def __init__(self, stop: int) -> None:
        self.stop, self.seen = stop, list[tuple[str, int]]()

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        trainer.should_stop = trainer.should_stop or trainer.global_step == self.stop

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seen.append(("validation", trainer.global_step))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seen.append(("epoch", trainer.global_step))


@pytest.mark.parametrize("stop", [N, N + 1, 2 * N - 1, 2 * N])
def test_metrics_are_judged_where_a_run_without_a_stop_judges_them(
    make_trainer: MakeTrainer, tmp_path: Path, stop: int
) -> None:
    parts: list[int] = []

    class Judges(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            internals.judge_as_without_stop(trainer, lambda: parts.append(trainer.global_step))

    watches, early = Watches(stop), EarlyStopping("val_loss", patience=9, mode="max")
    saved = ModelCheckpoint(tmp_path, "{step}", "val_loss", mode="max", save_top_k=-1)
    callbacks = [Judges(), watches, early, saved]
    make_trainer(max_epochs=3, num_sanity_val_steps=0, enable_checkpointing=True, callbacks=callbacks).fit(Plain())
    whole = [N, 2 * N][: stop // N]
    ends = [*whole, *([stop] if stop % N else [])]
    assert watches.seen == [
        (what, at) for at in ends for what in ("validation", "epoch") if what == "epoch" or at in whole
    ]
    assert parts == ends[len(whole) :]
    assert sorted(path.stem for path in tmp_path.iterdir()) == [f"step={at}" for at in whole]
    assert (early.wait_count, float(early.best_score) > 0) == (0, True)


def test_a_run_goes_on_behind_a_validation(make_trainer: MakeTrainer) -> None:
    """Once, whatever is due; then as before."""
    trainer, answers = make_trainer(max_epochs=1), list[bool]()

    class Asks(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            loop: Any = trainer.fit_loop.epoch_loop
            loop.batch_progress.is_last_batch = True
            internals.go_on_behind_validation(trainer)
            answers.extend(loop._should_check_val_fx(trainer.fit_loop._data_fetcher) for _ in range(3))

    trainer.callbacks.append(Asks())  # type: ignore[attr-defined]
    trainer.fit(Plain())
    assert answers == [False, True, True]


class WithArrays(LightningModule):
    def __init__(self, values: Any, more: Any) -> None:
        super().__init__()
        self.save_hyperparameters({"lr": 0.1}, logger=False, frame=internals.frame_without_callers())


class AnArray:
    """What compares as an array of NumPy or a data frame does."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("the truth value is ambiguous")

    __hash__ = None  # type: ignore[assignment]


def test_arguments_of_constructors_are_not_compared_with_hyperparameters() -> None:
    class Derived(WithArrays):
        def __init__(self, frame: Any) -> None:
            super().__init__(frame, AnArray())

    with pytest.raises(ValueError, match="ambiguous"):
        assert AnArray() == {}
    assert dict(Derived(AnArray()).hparams) == {"lr": 0.1}


@pytest.fixture
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have Lightning find sixteen cores, whichever machine this is."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 16)


@pytest.mark.usefixtures("many_cores")
@pytest.mark.filterwarnings("error:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*have no `val_dataloader`.*")
def test_advice_on_workers_is_left_out_for_data_in_memory_alone(make_trainer: MakeTrainer) -> None:
    trainer, before = make_trainer(max_epochs=1), list(warnings.filters)
    module, data = RegressionModule(), RegressionDataModule(SteepLine(), val_size=0.2)
    trainer.fit(module, data)  # a warning would be an error
    trainer.validate(module, data, verbose=False)
    trainer.test(module, data, verbose=False)
    trainer.predict(module, data)
    assert warnings.filters == before
    with pytest.warns(UserWarning, match="workers"):  # of a loader that may need some
        make_trainer(max_epochs=1).fit(Plain(), DataLoader(TensorDataset(torch.ones(4))))


def test_the_arguments_of_an_average_are_those_that_its_callback_was_given() -> None:
    average = get_ema_avg_fn(0.9)
    assert internals.options_of_averages(WeightAveraging(avg_fn=average)) == {"avg_fn": average}
    assert internals.options_of_averages(WeightAveraging()) == {}


def test_installed_callbacks_are_looked_for_once(make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Found:
        name = "mine"

        def load(self) -> Any:
            return lambda: [Timer()]

    def entry_points(group: str) -> list[Found]:
        asked.append(group)
        return [Found()]

    monkeypatch.setattr(internals, "entry_points", entry_points)
    known: dict[Any, Any] = {}
    trainers = []
    for _ in range(2):
        with internals.entry_points_read_once(known):
            trainers.append(make_trainer())
    timers = [callback for each in trainers for callback in vars(each)["callbacks"] if isinstance(callback, Timer)]
    assert len(set(map(id, timers))) == 2  # each has its own
    assert asked == ["lightning.pytorch.callbacks_factory"]
    make_trainer()
    assert len(asked) == 1
