"""``gd_lightning.compare`` in Python."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import nullcontext
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping

from gd_lightning import FourPoints, InputError, LinearProblem, Parabola, compare
from gd_lightning.errors import StartError
from gd_lightning.experiments import executors
from gd_lightning.experiments.comparison.trainer_member import TrainerMember
from gd_lightning.experiments.executors import carried_out
from gd_lightning.plots.style import pixels
from gd_lightning.records.history import Outcome
from tests.experiments.pickling import Pickling
from tests.experiments.runs import same_runs

FEW: dict[str, Any] = {"seeds": 2, "max_epochs": 3, "lrs": 0.01}


def test_it_returns_histories_table_and_picture(tmp_path: Path) -> None:
    report = compare(batch_sizes=["full", 25], **FEW)
    assert list(report.histories) == ["batch", "mini-batch 25"]
    losses = [history["train_loss"][0] for histories in report.histories.values() for history in histories]
    assert np.ptp(losses) == 0
    batch, mini = report.rows
    final = [history.last("train_loss") for history in report.histories["mini-batch 25"]]
    assert (mini.train_loss.mean, mini.train_loss.std) == pytest.approx((np.mean(final), np.std(final, ddof=1)))
    assert batch.updates.mean == 3
    assert str(report).startswith("SteepLine: 2 variants, 4 runs\n")
    assert pixels(report.plot()).shape[2] == 3
    assert report._repr_png_().startswith(b"\x89PNG")
    assert report.panels.surface is not None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("pictures")
def test_a_directory_holds_the_report_and_the_runs(tmp_path: Path) -> None:
    compare(LinearProblem(n_samples=50), batch_sizes=[10], directory=tmp_path / "mine", **FEW)
    names = {path.name for path in (tmp_path / "mine").iterdir()}
    assert {"table.csv", "table.md", "table.json", "comparison.png", "comparison.svg", "aggregate"} <= names
    assert {"batch_size-10-lr-0.01-seed0", "batch_size-10-lr-0.01-seed1"} <= names


def test_seeds_and_starts_are_those_of_the_runs_and_the_generator_is_left_alone() -> None:
    state = torch.get_rng_state()
    report = compare(Parabola(), batch_sizes=["full"], model={"hidden_sizes": [4]}, **FEW)
    assert torch.equal(torch.get_rng_state(), state)
    first, second = report.histories["batch"]
    assert first.first("train_loss") != second.first("train_loss")
    again = compare(Parabola(), batch_sizes=["full"], model={"hidden_sizes": [4]}, **{**FEW, "seeds": 1})
    np.testing.assert_array_equal(again.histories["batch"][0]["train_loss"], first["train_loss"])
    assert report.panels.fits is not None
    assert report.panels.surface is None


def test_any_option_is_varied_and_theory_gives_the_best_rates() -> None:
    report = compare(
        vary={"model.momentum": [0.0, 0.5], "data.order": ["shuffled", "sequential"]}, seeds=1, max_epochs=1
    )
    assert list(report.histories) == [
        f"momentum {momentum}, order {order}" for momentum in ("0", "0.5") for order in ("shuffled", "sequential")
    ]
    for given in ("best", None):  # without any, it is the best, too
        report = compare(batch_sizes=["full", 1], lrs=given, seeds=1, max_epochs=1)
        assert [row.lr for row in report.rows] == pytest.approx([0.0728, 0.0265], rel=0.01)  # end lowest after an epoch
        for size, row in zip((100, 1), report.rows, strict=True):
            said = f"The best lr for batch_size {size} is {row.lr:g} by theory: the lowest train loss after 1 epoch, "
            assert all(said in text for text in (str(report), report._as_markdown()))
            assert any(said in note for note in report.to_dict()["notes"])


def test_the_usual_variants_fit_few_samples() -> None:
    assert list(compare(FourPoints(), **{**FEW, "seeds": 1}).histories) == ["batch", "mini-batch 2", "stochastic"]


def test_what_diverges_is_shown_and_told() -> None:
    report = compare(batch_sizes=["full", 1], lrs=0.1, seeds=1, max_epochs=5)
    assert report.histories["stochastic"][0].outcome is Outcome.DIVERGED
    assert any("stochastic diverged" in finding and "0.06418" in finding for finding in report.findings)
    assert list(report.panels.fits.functions if report.panels.fits else []) == ["batch"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vary": {"lr": [1]}}, "cannot vary 'lr'"),
        ({"vary": {"data.batch_size": [1]}}, "cannot vary 'data.batch_size'"),
        ({"batch_sizes": ["full", 1], "lrs": [1, 2, 3]}, "cannot give 3 lrs to 2 batch sizes"),
        ({"lrs": "best", "model": {"hidden_sizes": [3], "momentum": 1.0}}, "cannot plan with momentum 1"),
        ({"batch_sizes": [1000]}, "batch_size 1000, because there are only"),
        ({"seeds": 0}, "cannot compare with 0 seeds"),
    ],
)
def test_nonsense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        compare(**options)


def test_what_the_training_of_a_later_variant_refuses_is_said_before_the_first_is_trained(tmp_path: Path) -> None:
    trained = list[float]()

    class Counts(Callback):
        """Says how many updates are made."""

        def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            """Count them."""
            trained.append(trainer.global_step)

    stopping = [EarlyStopping("val_loss", patience=9), Counts()]
    options: dict[str, Any] = {"trainer": {"callbacks": lambda: stopping}, "directory": tmp_path / "there"}
    with pytest.raises(InputError, match=r"EarlyStopping reports: .*val_loss"):
        compare(batch_sizes=["full"], vary={"data.val_size": [0.2, 0]}, **options, **FEW)
    assert max(trained) == 1  # those that were tried
    assert not (tmp_path / "there").exists()


def test_a_member_is_plain_values_that_another_process_could_carry_out() -> None:
    options = {"data": {"batch_size": 10}, "model": {"lr": 0.01}, "trainer": {"max_epochs": 2}}
    member = TrainerMember("one", {"problem": Parabola(), **options}, 3, {}, None)
    member.check()
    again = pickle.loads(pickle.dumps(member))
    here, there = member.train(), pickle.loads(pickle.dumps(again.train()))
    np.testing.assert_array_equal(here.run.history["train_loss"], there.run.history["train_loss"])
    weights = (torch.nn.utils.parameters_to_vector(result.load().parameters()) for result in (here, there))
    assert torch.equal(*weights)


def _local() -> torch.nn.Module:
    class Local(torch.nn.Linear):
        """Has no name that another process could import."""

    return Local(1, 1)


@pytest.mark.parametrize(
    ("make", "warning"),
    [
        (lambda: ThreadPoolExecutor(2), None),
        (Pickling, None),
        (lambda: Pickling(broken_from=1), "was killed or could not start"),
        pytest.param(lambda: ProcessPoolExecutor(2, get_context("spawn")), None, marks=pytest.mark.slow),
        pytest.param(lambda: ProcessPoolExecutor(2, get_context("fork")), None, marks=pytest.mark.slow),
    ],
)
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # of a process with threads
def test_runs_of_an_executor_are_those_of_one_process(make: Callable[[], Executor], warning: str | None) -> None:
    options = {"batch_sizes": ["full", 10], "model": {"hidden_sizes": [3], "dropout": 0.1}, **FEW}
    told = nullcontext() if warning is None else pytest.warns(UserWarning, match=warning)
    with make() as executor, told:
        there = compare(Parabola(), **options, executor=executor)
    here = compare(Parabola(), **options)
    assert same_runs(here, there)
    assert there.panels.fits is not None


def test_a_task_in_another_process_computes_in_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert list(carried_out(Pickling(), _threads, [0])) == [2]
        processes = iter([("here", 1), ("there", 1)])
        monkeypatch.setattr(executors, "_this_process", lambda: next(processes))
        assert list(carried_out(Pickling(), _threads, [0])) == [1]
    finally:
        torch.set_num_threads(before)


def _threads(_: int) -> int:
    return torch.get_num_threads()


def _refused(_: int) -> None:
    raise StartError("of this", "do that")


def test_what_a_worker_refuses_is_said_as_here(monkeypatch: pytest.MonkeyPatch) -> None:
    processes = itertools.cycle([("here", 1), ("there", 1)])
    monkeypatch.setattr(executors, "_this_process", lambda: next(processes))
    with pytest.raises(InputError, match="do that"):
        list(carried_out(Pickling(), _refused, [0, 1]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"executor": Pickling(), "trainer": {"callbacks": lambda: []}}, "cannot be pickled"),
        ({"executor": Pickling(), "model": {"network": torch.nn.Sequential(_local())}}, "cannot be pickled"),
        ({"executor": 2}, "cannot use 2 as executor"),
    ],
)
def test_what_cannot_be_sent_to_workers_is_said_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        compare(batch_sizes=["full"], **options, **FEW)
    with ThreadPoolExecutor(1) as threads:  # as the message advises
        compare(batch_sizes=["full"], **{**options, "executor": threads}, **FEW)
