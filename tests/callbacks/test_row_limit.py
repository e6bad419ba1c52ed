"""A run of unknown length: what is recorded is bounded, and is the same however the run was cut into pieces."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gd_lightning import (
    History,
    HistoryRecorder,
    InputError,
    LinearProblem,
    LossPlateau,
    RegressionDataModule,
    RegressionModule,
    SteepLine,
)
from gd_lightning.callbacks.row_limit import RowLimit
from gd_lightning.engine import ChunkRequest
from gd_lightning.tracking.other_loggers import LoggerWriter
from tests.conftest import MakeTrainer
from tests.selection import every

MOST = 25
OF_UPDATES = {"update", "epoch", "samples", "seconds", "batch_loss", "lr", "w", "b", "grad_w", "grad_b"}
OF_UPDATES |= {"distance_to_least_squares"}


def _updates(values: NDArray[np.float64]) -> Callable[[slice], dict[str, NDArray[np.float64] | float]]:
    return lambda where: {"update": values[where]}


def _expected(last: int, measured: dict[str, list[int]], most: int) -> list[int]:
    """Return the updates that have a row behind an update, by the rule as the documentation says it."""
    every = 1
    while last > 2 * most * every:
        every *= 2
    rows = {update for update in range(last + 1) if update % every == 0}
    for updates in measured.values():
        rows |= {min(group) for group in ([u for u in updates if u // every == part] for part in range(last)) if group}
    return sorted(rows)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(1, 7), st.integers(3, 11), st.data())
def test_rows_are_a_function_of_the_number_of_updates(pieces: list[int], most: int, epoch: int, data: Any) -> None:
    """Whatever the pieces are in which updates come, and wherever the history went through a checkpoint."""
    history, limit, update = History(), RowLimit(math.inf, most), 0
    history.append(update=0, epoch=0, samples=0, seconds=0, train_loss=1.0)
    measured: dict[str, list[int]] = {"train_loss": [0], "val_loss": []}
    for piece in pieces:
        if data.draw(st.booleans()):
            state = limit.state()
            history, limit = History.from_state_dict(history.state_dict()), RowLimit(math.inf, most)
            limit.go_on(state, history, update)
        limit.apply(history, update, OF_UPDATES)
        end = min(update + piece, (update // epoch + 1) * epoch)
        kept = [u for u in range(update + 1, end + 1) if u % limit.every == 0 or u % epoch == 0]
        update = end
        if kept:
            history.extend(len(kept), _updates(np.array(kept, dtype=np.float64)), ["update"], {"update": kept[-1]})
        for name, interval in (("train_loss", epoch), ("val_loss", 3 * epoch)):
            if update % interval == 0:
                measured[name].append(update)
                history.add_to_last_row({name: float(update)})
    limit.apply(history, update, OF_UPDATES)
    assert history["update"].tolist() == _expected(update, measured, most)
    for name in measured:
        at, values = history.series(name) if name in history else (np.empty(0), np.empty(0))
        assert values[1:].tolist() == at[1:].tolist()


class EndsAt(Callback):
    """Ends a run whose length Lightning does not know, and saves it on the way."""

    max_chunk_seconds = math.inf

    def __init__(self, epochs: int, path: Path | None = None, every: int = 1) -> None:
        self.epochs, self.path, self.every = epochs, path, every

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        done = trainer.current_epoch + 1
        if self.path is not None and done % self.every == 0:
            trainer.save_checkpoint(self.path / f"{done:05d}.ckpt")
        if done >= self.epochs:
            trainer.should_stop = True


def _train(
    make_trainer: MakeTrainer, ends: EndsAt, batch_size: Any, checkpoint: Path | None = None, **options: Any
) -> HistoryRecorder:
    of_module = {name: options.pop(name) for name in ("engine", "lr") if name in options}
    of_trainer: dict[str, Any] = {"max_epochs": -1, **options}
    recorder = HistoryRecorder(max_rows=options.pop("max_rows", MOST))
    of_trainer.pop("max_rows", None)
    torch.manual_seed(0)
    module = RegressionModule(**{"lr": 0.001, **of_module})
    data = RegressionDataModule(SteepLine(), batch_size=batch_size, val_size=20)
    callbacks = [recorder, *of_trainer.pop("callbacks", []), ends]
    trainer = make_trainer(callbacks=callbacks, **of_trainer)
    trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
    return recorder


def _rows(history: History, *without: str) -> list[dict[str, float]]:
    left_out = {"seconds", *without}
    return [{name: value for name, value in row.items() if name not in left_out} for row in history.rows()]


CASES: list[Any] = [
    (1, 8, {"engine": "fused"}),
    pytest.param(1, 4, {"engine": "autograd"}, marks=pytest.mark.slow),
    pytest.param(10, 40, {}, marks=pytest.mark.slow),  # the last one is like it, and validates in between
    pytest.param("full", 300, {}, marks=pytest.mark.slow),  # as is the next one
    ("full", 300, {"check_val_every_n_epoch": 7}),
    pytest.param(10, 40, {"val_check_interval": 3}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("batch_size", "epochs", "options"), CASES)
def test_a_run_of_unknown_length_has_bounded_rows_and_goes_on_with_the_same(
    make_trainer: MakeTrainer, tmp_path: Path, batch_size: Any, epochs: int, options: dict[str, Any]
) -> None:
    if options.get("engine") == "fused":
        pytest.importorskip("numba", reason="the fused engine is compiled by numba")
    whole = _train(make_trainer, EndsAt(epochs, tmp_path, every=epochs // 4), batch_size, **options).history
    updates = int(whole.last("update"))
    assert updates > 4 * MOST
    per_epoch = updates // epochs
    measured = {"train_loss": list(range(0, updates + 1, per_epoch))}
    between = per_epoch * options.get("check_val_every_n_epoch", 1)
    within = options.get("val_check_interval", between)  # only its multiples within an epoch
    measured["val_mse"] = [
        end + update
        for end in range(0, updates // between * between, between)
        for update in range(within, between + 1, within)
    ]
    assert set(_expected(updates, measured, MOST)) | {updates} == set(whole["update"].astype(int).tolist())
    assert len(whole) <= 2 * MOST + 2 * MOST * 2 + 1
    for checkpoint in sorted(tmp_path.glob("*.ckpt"))[:3]:
        state = torch.load(checkpoint, weights_only=True)["gd_lightning_record"]["history"]
        assert state["length"] <= 6 * MOST + 1
        resumed = _train(make_trainer, EndsAt(epochs), batch_size, checkpoint, **options).history
        # Between validations it is measured once Lightning has made the loader, which it does at the first of them.
        without = ["val_loss"] if "check_val_every_n_epoch" in options else []
        assert _rows(resumed, *without) == _rows(whole, *without)


@pytest.mark.parametrize("batch_size", every(3, [10, 1, "full"]))
def test_the_rows_of_a_run_of_unknown_length_are_among_those_of_all_updates(
    make_trainer: MakeTrainer, tmp_path: Path, batch_size: Any
) -> None:
    pytest.importorskip("numba", reason="the fused engine is compiled by numba")
    epochs = {1: 4, 10: 20, "full": 200}[batch_size]
    some = _train(make_trainer, EndsAt(epochs), batch_size, engine="fused").history
    everything = _train(
        make_trainer, EndsAt(epochs), batch_size, engine="fused", max_epochs=epochs, max_rows=10**6
    ).history
    by_update = {row["update"]: row for row in _rows(everything)}
    assert len(some) < len(everything)
    for row in _rows(some):
        assert row == {name: by_update[row["update"]][name] for name in row}


class CountsHeldRows(Callback):
    """Keeps how many rows the history has at most, and how long chunks are; ends a run whose length is not known."""

    max_chunk_seconds = math.inf

    def __init__(self, epochs: int) -> None:
        self.epochs, self.most, self.updates = epochs, 0, [0]

    def chunk_request(self, trainer: Trainer) -> ChunkRequest:
        return ChunkRequest(epochs=self.epochs - trainer.current_epoch)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        (recorder,) = (each for each in trainer.callbacks if isinstance(each, HistoryRecorder))  # type: ignore[attr-defined]
        self.most = max(self.most, len(recorder.history))
        self.updates.append(trainer.global_step)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.should_stop = trainer.current_epoch + 1 >= self.epochs


@pytest.mark.parametrize(("samples", "batch_size", "epochs"), [(900, 1, 1), (40, 1, 20), (30, "full", 800)])
def test_a_chunk_that_reaches_beyond_the_bound_adds_no_more_rows_than_single_updates(
    make_trainer: MakeTrainer, samples: int, batch_size: Any, epochs: int
) -> None:
    """Within an epoch, over several, and where each epoch is one update."""
    pytest.importorskip("numba", reason="the fused engine is compiled by numba")
    found = {}
    for engine in ("fused", "autograd"):
        counts, recorder = CountsHeldRows(epochs), HistoryRecorder(max_rows=MOST)
        module = RegressionModule(lr=0.001, engine=engine)
        data = RegressionDataModule(LinearProblem(n_samples=samples, n_features=1), batch_size=batch_size)
        trainer = make_trainer(callbacks=[recorder, counts], max_epochs=-1)
        trainer.fit(module, data)
        assert engine == "autograd" or max(np.diff(counts.updates)) > 2
        assert counts.most <= 4 * MOST + 2
        found[engine] = recorder.history["update"].tolist()
    assert found["fused"] == found["autograd"]


def test_a_chunk_holds_the_orders_of_a_bounded_number_of_samples(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("numba", reason="the fused engine is compiled by numba")
    ends = []
    for most in (2**21, 100):  # samples
        monkeypatch.setattr("gd_lightning.module.chunked_training._MOST_ORDERED", most)
        counts, module = CountsHeldRows(20), RegressionModule(lr=0.001, engine="fused")
        data = RegressionDataModule(LinearProblem(n_samples=40), batch_size=10)
        make_trainer(callbacks=[HistoryRecorder(), counts], max_epochs=-1).fit(module, data)
        longest = max(np.diff(counts.updates))
        assert longest > 8 if most > 100 else longest == 8
        ends.append([value.tolist() for value in module.parameters()])
    assert ends[0] == ends[1]


@pytest.mark.slow
def test_a_run_of_known_length_that_goes_on_far_beyond_it_is_bounded_too(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    _train(make_trainer, EndsAt(20, tmp_path, every=20), "full", max_epochs=20)
    longer = _train(make_trainer, EndsAt(2000), "full", next(tmp_path.glob("*.ckpt")), max_epochs=1000).history
    assert longer.last("update") == 1000
    assert len(longer) <= 4 * MOST


def test_an_interval_that_was_chosen_stays(make_trainer: MakeTrainer) -> None:
    limit = RowLimit(math.inf, MOST, every=3)
    assert (limit.every, limit.thins, limit.is_due(10**9)) == (3, False, False)
    with pytest.raises(InputError, match="at most 0 updates"):
        HistoryRecorder(max_rows=0)


def test_progress_is_counted_over_epochs_that_have_no_row_any_more(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    """At such a learning rate the train loss rises from the first epoch on; 137 epochs are far more than the rows."""
    ended = {}
    for name, checkpoint in (("whole", None), ("resumed", "00100.ckpt")):
        criterion = LossPlateau(epochs=137)
        ends = EndsAt(500, tmp_path if checkpoint is None else None, every=100)
        start = None if checkpoint is None else tmp_path / checkpoint
        recorder = _train(make_trainer, ends, "full", start, callbacks=[criterion], max_rows=5, lr=1e-30)
        ended[name] = (recorder.history.last("update"), recorder.history.reason)
    assert ended["whole"] == ended["resumed"]
    assert ended["whole"][0] == 137


def test_points_of_tensorboard_are_few(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    """500 for each doubling of the length, and the newest."""
    epochs = 60
    _train(make_trainer, EndsAt(epochs), 1, logs=True, max_rows=20_000)
    (events,) = tmp_path.rglob("*tfevents*")
    accumulator = EventAccumulator(str(events.parent), size_guidance={"scalars": 0})
    accumulator.Reload()
    steps = [scalar.step for scalar in accumulator.Scalars("updates/batch_loss")]
    updates = 80 * epochs
    assert steps[-1] == updates
    assert len(steps) <= 500 * (2 + math.ceil(math.log2(updates / 1000))) + epochs
    assert len(steps) > 1000


class CountsRows:
    """Takes the place of a logger."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        assert step is not None
        self.steps.append(step)

    def log_hyperparams(self, params: dict[str, Any]) -> None:
        pass

    def save(self) -> None:
        pass


@pytest.mark.parametrize(("piece", "epoch"), [(1, 1), (1_000, 1_000), (250_000, 10**6), (250_000, 10**12)])
def test_what_is_kept_of_a_run_without_an_end_is_bounded(piece: int, epoch: int) -> None:
    """Thousands of pieces of updates, up to a thousand million of them, measured at the ends of epochs, and written."""
    most, update, largest = 50, 0, 0
    history, limit, logger = History(), RowLimit(math.inf, most), CountsRows()
    history.append(update=0, epoch=0, samples=0, seconds=0, train_loss=1.0)
    writer = LoggerWriter(logger, math.inf, math.inf, {})
    for turn in range(4_000):
        limit.apply(history, update, OF_UPDATES)
        end = min(update + min(piece, 1 + update // 8), (update // epoch + 1) * epoch)  # the first pieces are short
        first = update // limit.every + 1
        kept = np.append(np.arange(first * limit.every, end, limit.every), end).astype(np.float64)
        columns = {"update": kept, "epoch": kept / epoch, "samples": kept, "seconds": kept, "batch_loss": kept}
        history.extend(len(kept), _parts_of(columns), list(columns), {"update": float(end)})
        update = end
        if update % epoch == 0:
            history.add_to_last_row({"train_loss": float(update)})
        if turn % 100 == 99:
            writer.write_new(history)
        largest = max(largest, len(history))
    assert update >= 3_800 * piece
    assert largest <= 6 * most
    assert all(len(rows) <= 6 * most for rows, _ in history.state_dict()["columns"].values())
    assert len(logger.steps) <= 2 * 500 * (3 + math.log2(update))


def _parts_of(columns: dict[str, NDArray[np.float64]]) -> Callable[[slice], dict[str, NDArray[np.float64] | float]]:
    return lambda where: {name: values[where] for name, values in columns.items()}
