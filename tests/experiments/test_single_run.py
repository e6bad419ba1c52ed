"""Runs in Python are those of the command line, by the same names; they are used, shown, saved and continued."""

from __future__ import annotations

import copy
import json
import logging
import os
import pickle
import tempfile
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from matplotlib.figure import Figure
from torch import nn

from gd_lightning import (
    Arrays,
    History,
    InputError,
    Run,
    SteepLine,
    StopOnDivergence,
    compare,
    fit,
    load,
    plan,
    sweep,
)
from gd_lightning.experiments.lightning_messages import quiet_lightning
from gd_lightning.experiments.options import sections
from tests.conftest import CommandLine

GENERATOR = np.random.default_rng(5)
X = GENERATOR.normal(size=(30, 2)).round(3)
Y = X @ [2.0, -1.0] + 0.5 + GENERATOR.normal(size=30) / 10
FRAME = {"a": X[:, 0], "b": X[:, 1], "y": Y}
OPTIONS: dict[str, Any] = {"batch_size": 8, "lr": 0.05, "epochs": 6}


def _columns(history: History) -> dict[str, list[float]]:
    return {name: history[name].tolist() for name in history.columns if name in history and name != "seconds"}


def _same(first: History, second: History) -> bool:
    columns = [_columns(each) for each in (first, second)]
    assert list(columns[0]) == list(columns[1])
    return all(np.array_equal(columns[0][name], columns[1][name], equal_nan=True) for name in columns[0])


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ({"batch_size": 10, "lr": 0.05, "epochs": 3}, ["--data.batch_size", "10", "--model.lr", "0.05"]),
        (
            {"hidden_sizes": [3], "lr": 1e-4, "max_epochs": 3, "seed": 2},
            ["--model.hidden_sizes", "[3]", "--model.lr", "1e-4"],
        ),
        ({"data": {"val_size": 0.2}, "model": {"momentum": 0.5}, "lr": 0.01, "epochs": 3}, ["--data.val_size", "0.2"]),
    ],
)
def test_a_run_is_that_of_the_command_line(
    command_line: CommandLine, tmp_path: Path, options: dict[str, Any], arguments: list[str]
) -> None:
    if "model" in options:
        arguments = [*arguments, "--model.momentum", "0.5", "--model.lr", "0.01"]
    if "seed" in options:
        arguments = [*arguments, "--seed_everything", "2", "--data.seed", "2"]
    assert command_line("fit", *arguments, "--trainer.max_epochs", "3") == 0
    (directory,) = (tmp_path / "lightning_logs").iterdir()
    run, loaded = fit(**options), load(directory)
    assert _same(run.history, loaded.history)
    assert np.array_equal(run.predict([[1.0], [2.0]]), loaded.predict([[1.0], [2.0]]))
    timed = ("seconds", "measures")
    results = [
        {name: value for name, value in vars(each.summary).items() if name not in timed} for each in (run, loaded)
    ]
    assert results[0] == results[1]
    assert (run.title, run.history.outcome) == (loaded.title, loaded.history.outcome)


def test_predictions_have_the_form_of_the_targets() -> None:
    vector, column = fit((X, Y), **OPTIONS), fit((X, Y[:, None]), **OPTIONS)
    wide, frame = fit((X, np.stack([Y, Y], axis=1)), **OPTIONS), fit(FRAME, targets="y", **OPTIONS)
    found = vector.predict(X)
    assert (found.shape, column.predict(X).shape, wide.predict(X).shape) == ((30,), (30, 1), (30, 2))
    affine = vector.module.affine()
    assert affine is not None
    expected = X @ affine.weight[0].double().numpy() + affine.flat()[-1].item()
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert np.array_equal(frame.predict({"b": X[:, 1], "c": X[:, 1], "a": X[:, 0]}), found)
    assert np.array_equal(frame.predict(torch.from_numpy(X)), found)
    with pytest.raises(
        InputError, match="cannot predict from 1 features, because the run was trained on 2; give these"
    ):
        vector.predict([1.0, 2.0])
    with pytest.raises(InputError, match="cannot find column 'b'"):
        frame.predict({"a": [1.0]})


def test_a_run_is_saved_loaded_and_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = fit(FRAME, **OPTIONS)
    place = run.save()
    assert place.parent.name == "lightning_logs"
    assert run.save() != place
    loaded = load(place)
    assert np.array_equal(loaded.predict(FRAME), run.predict(FRAME))
    assert _same(loaded.history, run.history)
    assert loaded.summary == run.summary
    assert np.array_equal(load(loaded.save(tmp_path / "copy")).predict(X), run.predict(X))
    with pytest.raises(InputError, match="it contains other files; use another name"):
        run.save(place)
    longer = fit({name: FRAME[name] for name in "bay"}, targets="y", ckpt_path=place, epochs=9)
    assert _same(longer.history, fit(FRAME, **{**OPTIONS, "epochs": 9}).history)
    with pytest.raises(InputError, match="cannot use the frame with this checkpoint, because the values of column 'y'"):
        fit({**FRAME, "y": Y + 1}, ckpt_path=place, epochs=9)
    with pytest.raises(InputError, match=r"cannot continue with lr 0\.1, because the run was made with 0\.05"):
        fit(FRAME, ckpt_path=place, lr=0.1, epochs=9)
    with pytest.raises(InputError, match="give problem="):
        fit(ckpt_path=place, epochs=9)


def test_a_run_in_a_directory_goes_on_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    place = Path("lightning_logs/mine")
    fit(epochs=2, batch_size=20, lr=0.05, directory=place)
    assert {"history.csv", "summary.json", "checkpoints"} <= {path.name for path in place.iterdir()}
    with pytest.raises(InputError, match="cannot train in lightning_logs/mine, because it contains other files; use"):
        fit(epochs=2, directory=place)
    longer = fit(ckpt_path="last", epochs=4, directory=place)
    assert longer.directory == place
    assert _same(load("last").history, longer.history)
    assert _same(longer.history, fit(epochs=4, batch_size=20, lr=0.05).history)
    assert json.loads((place / "summary.json").read_text())["epochs"] == 4


def test_columns_of_new_rows_become_features_as_those_of_the_training(tmp_path: Path) -> None:
    sizes = [1.0, 2.0, None, 4.0, 3.0, 1.0]
    frame = {"color": ["red", "blue", "green"] * 2, "size": sizes, "heated": [True, False] * 3, "price": [*range(6)]}
    options: dict[str, Any] = {"targets": "price", "categories": "auto", "missing": "mean", "lr": 0.01, "epochs": 4}
    run = fit(frame, **options)
    assert list(run.summary.parameters or {}) == ["w_color=green", "w_color=red", "w_size", "w_heated", "b"]
    new = {"heated": [False, True], "color": ["green", "blue"], "size": [5, None]}
    rows = [[1.0, 0.0, 5.0, 0.0], [0.0, 0.0, 2.2, 1.0]]
    assert run.predict(new) == pytest.approx(run.predict(rows), rel=1e-6)
    place = run.save(tmp_path / "run")
    assert np.array_equal(load(place).predict(new), run.predict(new))
    longer = fit(frame, targets="price", ckpt_path=place, epochs=6)
    assert _same(longer.history, fit(frame, **{**options, "epochs": 6}).history)
    with pytest.raises(InputError, match="'black' in row 1 of the data is not one of its categories in training"):
        run.predict({**new, "color": ["black", "red"]})


@pytest.mark.parametrize("given", [(X, Y), FRAME])
def test_a_run_on_arrays_is_none_of_the_command_line(command_line: CommandLine, tmp_path: Path, given: Any) -> None:
    place = fit(given, **OPTIONS).save(tmp_path / "run")
    for stage in ("fit", "test", "predict"):
        assert command_line(stage, "--ckpt_path", place) == 2
        assert (
            "checkpoints do not contain the arrays that a run was trained on; use fit(..., ckpt_path=...)"
            in command_line.err
        )
        assert command_line.err.count("\n") == 1
    assert fit(given, ckpt_path=place, epochs=7).summary.epochs == 7
    assert load(place).predict(X).shape == (30,)


class Wide(nn.Module):
    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.layer = nn.Linear(in_features, out_features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(x)
        return out


def test_a_network_of_ones_own_is_given_again(tmp_path: Path) -> None:
    run = fit((X, Y), network=Wide, epochs=2)
    place = run.save(tmp_path / "run")
    assert np.array_equal(load(place, network=Wide).predict(X), run.predict(X))
    with pytest.raises(InputError, match="give network="):
        load(place)


def test_runs_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="cannot find a checkpoint at nowhere; give the directory of a run"):
        load("nowhere")
    with pytest.raises(InputError, match="cannot find the last run, because lightning_logs contains none; train first"):
        load("last")
    place = fit(epochs=1).save()
    (place / "summary.json").unlink()
    with pytest.raises(InputError, match=r"because it has no summary.json; continue the run with fit"):
        load(place)
    (place / "history.csv").unlink()
    with pytest.raises(InputError, match=r"because it has no history.csv; give another run"):
        History.from_run(place)


def test_options_have_one_name() -> None:
    assert sections({"epochs": 3, "order": "sequential", "optimizer": "Adam"}) == {
        "data": {"order": "sequential"},
        "model": {"optimizer": {"class_path": "torch.optim.Adam"}},
        "trainer": {"max_epochs": 3},
    }
    for call in (fit, plan, compare, sweep):
        with pytest.raises(InputError, match="there is no option 'bach_size'; use batch_size"):
            call(bach_size=3)
        with pytest.raises(InputError, match="cannot take momentum twice; give it once"):
            call(momentum=0.5, model={"momentum": 0.5})
    with pytest.raises(InputError, match="cannot take epochs twice"):
        fit(epochs=3, trainer={"max_epochs": 3})
    with pytest.raises(InputError, match="cannot sweep with max_time, because the runs have no Trainer; leave it out"):
        sweep(max_time="00:00:01:00")
    with pytest.raises(InputError, match="a limit of them allows no update"):
        fit(epochs=0)


def test_options_of_an_experiment_by_name_are_those_in_sections() -> None:
    by_name = compare((X, Y), batch_sizes=[30, 5], seeds=1, lr=0.02, momentum=0.5, epochs=2)
    model = {"lr": 0.02, "momentum": 0.5}
    in_sections = compare((X, Y), batch_sizes=[30, 5], seeds=1, model=model, trainer={"max_epochs": 2})
    assert [row.train_loss.mean for row in by_name.rows] == [row.train_loss.mean for row in in_sections.rows]
    swept = sweep(FRAME, targets="y", lrs=[0.01, 0.02], batch_size=5, momentum=0.5, seeds=1, epochs=2)
    other = sweep((X, Y), lrs=[0.01, 0.02], data={"batch_size": 5}, model={"momentum": 0.5}, seeds=1, max_epochs=2)
    assert np.array_equal(swept.last, other.last)
    assert plan((X, Y), lr=0.02).to_dict() == plan(FRAME, targets="y", model={"lr": 0.02}).to_dict() | {
        "digits": plan((X, Y), lr=0.02).to_dict()["digits"]
    }


@pytest.mark.parametrize("compute", [fit, plan])
def test_a_forked_process_computes_in_one_thread(compute: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    try:
        for process, threads in ((os.getpid(), 2), (0, 1)):
            monkeypatch.setattr("gd_lightning.threads._IMPORTED_BY", process)
            torch.set_num_threads(2)
            compute((X, Y), lr=0.05, epochs=1)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_a_history_is_pickled_copied_and_short() -> None:
    run = fit((X, Y), **OPTIONS)
    for history in (pickle.loads(pickle.dumps(run.history)), copy.deepcopy(run.history)):
        assert _same(history, run.history)
        assert (history.outcome, history.reason) == (run.history.outcome, run.history.reason)
        assert repr(history) == repr(run.history)
    assert repr(run.history).startswith("<History of 25 rows, train loss ")
    assert repr(History()) == "<History of 0 rows>"


@pytest.mark.parametrize(
    ("problem", "options"),
    [
        pytest.param((X, Y), {}, marks=pytest.mark.slow),
        pytest.param((X, Y.reshape(-1, 1)), {"hidden_sizes": [3], "val_size": 0.2}, marks=pytest.mark.slow),
        (Arrays(X, Y, ["a", "b"], ["y"]), {"standardize": "none", "momentum": 0.5}),
        (SteepLine(), {"lr": 0.01}),
    ],
)
def test_a_run_and_its_plan_are_pickled_as_they_are_saved(
    problem: Any, options: dict[str, Any], tmp_path: Path
) -> None:
    options = OPTIONS | {"epochs": 2} | options
    run, planned = fit(problem, **options), plan(problem, **options)
    inputs = [[0.5] * run.module.hparams["in_features"]]
    once = pickle.loads(pickle.dumps(run))
    run.save(tmp_path / "own")
    for other in (once, pickle.loads(pickle.dumps(once)), copy.deepcopy(run)):
        assert np.array_equal(other.predict(inputs), run.predict(inputs))
        assert other.predict(inputs).shape == run.predict(inputs).shape
        assert str(other) == str(run)
        other.save(place := Path(tempfile.mkdtemp(dir=tmp_path)) / "run")
        for file in ("checkpoints/last.ckpt", "history.csv", "summary.json"):
            assert (place / file).read_bytes() == (tmp_path / "own" / file).read_bytes()
    assert repr(once.animate(problem)) == repr(run.animate())
    again = pickle.loads(pickle.dumps(planned))
    assert (str(again), again.to_dict()) == (str(planned), planned.to_dict())


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_history_becomes_a_frame(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        DataFrame = dict

    history = fit((X, Y), **OPTIONS).history
    monkeypatch.setitem(__import__("sys").modules, library, Library)
    frame = getattr(history, f"to_{library}")()
    assert list(frame) == [name for name in history.columns if name in history]
    assert np.array_equal(frame["batch_loss"], history["batch_loss"], equal_nan=True)
    monkeypatch.setitem(__import__("sys").modules, library, None)
    with pytest.raises(InputError, match=f"cannot make a frame of {library}, because it is not installed; install it"):
        getattr(history, f"to_{library}")()
    assert history.to_csv()


def test_what_a_notebook_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gd_lightning.experiments.html_report.png_bytes", lambda _: b"a picture")
    shown: list[Any] = [
        fit((X, Y), **OPTIONS),
        plan((X, Y), **OPTIONS),
        plan((X, Y), lr=0.05, loss="mae"),
        compare((X, Y), batch_sizes=[30, 5], seeds=1, epochs=2),
        sweep((X, Y), lrs=[0.01, 0.02], batch_sizes=[5, 30], seeds=1, epochs=2),
    ]
    for each in shown:
        html = each._repr_html_()
        assert html.count("<table>") == html.count("</table>") == 1
        assert ("data:image/png;base64,YSBwaWN0dXJl" in html) == (each is not shown[2])
        items = html.partition("<ul>")[2].partition("</ul>")[0].split("<li>")[1:]
        assert [item for item in items if "  " in item or item.startswith(" ")] == []
        assert len(repr(each)) < 300
        assert str(each).count("\n") > 3
        assert isinstance(each.to_dict() if not isinstance(each, Run) else each.summary.as_dict(), dict)
        assert each is shown[2] or isinstance(each.plot(), Figure)
    with pytest.raises(
        InputError, match="cannot draw a map of outcomes, because the statements hold only at the start"
    ):
        shown[2].plot()
    assert "<li><em>best lr</em>: by theory" in shown[1]._repr_html_()
    assert "or if none does within the epochs of the run" in shown[1]._repr_html_()
    assert "<li><em>largest lr</em>: the largest lr of the grid" in shown[4]._repr_html_()
    axes = Figure().subplots()
    assert shown[0].plot(axes) is axes.get_figure()
    assert shown[0]._repr_png_().startswith(b"\x89PNG")
    assert shown[0].plot()._repr_png_().startswith(b"\x89PNG")


def test_names_of_columns_are_no_html() -> None:
    run = fit({"<b>": X[:, 0], "y": Y}, **OPTIONS)
    assert "<b>" not in run._repr_html_()


def test_lightning_says_nothing_of_a_run(capfd: pytest.CaptureFixture[str]) -> None:
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch.utilities.rank_zero",)]
    before, shown = [list(logger.filters) for logger in loggers], warnings.filters[:]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit((X, Y), **OPTIONS)
        compare((X, Y), batch_sizes=[5], seeds=1, epochs=1)
        with quiet_lightning(), quiet_lightning():
            pass
    assert capfd.readouterr().err == ""
    assert [list(logger.filters) for logger in loggers] == before
    assert warnings.filters == shown


class Interrupts(Callback):
    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch == 2:
            raise KeyboardInterrupt


def test_an_interrupted_run_is_given_back(tmp_path: Path) -> None:
    run = fit((X, Y), **OPTIONS, callbacks=[Interrupts()])
    assert run.history.outcome == "interrupted"
    assert run.summary.epochs == 2
    assert fit((X, Y), ckpt_path=run.save(tmp_path / "run"), epochs=6).summary.epochs == 6


def test_a_diverged_run_says_so() -> None:
    with pytest.warns(UserWarning, match="lr"):
        run = fit(SteepLine(), lr=10.0, epochs=40, callbacks=StopOnDivergence())
    assert run.history.outcome == "diverged"
    assert run.summary.largest_stable_lr is not None


NO_PATHS: list[Any] = [3, b"runs", np.ones((2, 2)), ["runs"], object()]


@pytest.mark.parametrize("given", NO_PATHS)
def test_what_is_no_path_is_refused_in_a_sentence(given: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    calls = (
        lambda: load(given),
        lambda: fit(epochs=1, directory=given),
        lambda: fit(epochs=1, ckpt_path=given),
        lambda: compare(batch_sizes=["full"], seeds=1, directory=given),
        lambda: sweep(lrs=[0.1], seeds=1, directory=given),
    )
    for call in calls:
        with pytest.raises(InputError, match="as a path, because"):
            call()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("section", ["data", "model", "trainer"])
@pytest.mark.parametrize("given", [3, "lr", [0.1], {"nope": 1}, {1: 2}, {"problem": None}])
def test_what_a_section_of_options_lacks_is_refused_in_a_sentence(section: str, given: Any) -> None:
    for call in (fit, plan, compare, sweep):
        if section == "trainer" and call is sweep:
            continue  # it has none
        with pytest.raises(InputError, match=r"as options of|there is no option"):
            call(**{section: given})


@pytest.mark.parametrize("target", [float("nan"), float("inf"), -1.0, "low"])
def test_a_target_that_is_no_train_loss_is_refused(target: Any) -> None:
    with pytest.raises(InputError, match="as a train loss"):
        compare(batch_sizes=["full"], seeds=1, target=target)


@pytest.mark.parametrize(
    ("given", "spec"),
    [
        (torch.optim.Adam, {"class_path": "torch.optim.Adam"}),
        (partial(torch.optim.RMSprop, alpha=0.5), {"class_path": "torch.optim.RMSprop", "init_args": {"alpha": 0.5}}),
        (
            partial(torch.optim.AdamW, weight_decay=np.float64(0.1)),
            {"class_path": "torch.optim.AdamW", "init_args": {"weight_decay": 0.1}},
        ),
    ],
)
def test_an_optimiser_may_be_its_class(given: Any, spec: dict[str, Any]) -> None:
    losses = [fit(batch_size=10, epochs=2, optimizer=each).history["train_loss"] for each in (given, spec)]
    assert np.array_equal(losses[0], losses[1], equal_nan=True)
    assert np.nanmax(losses[0][1:]) < losses[0][0]


def test_a_scheduler_may_be_its_class_and_is_kept_in_the_checkpoint(tmp_path: Path) -> None:
    run = fit(epochs=4, lr=0.01, lr_scheduler=partial(torch.optim.lr_scheduler.StepLR, step_size=2))
    spec = {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 2}}
    assert (
        run.history["train_loss"].tolist() == fit(epochs=4, lr=0.01, lr_scheduler=spec).history["train_loss"].tolist()
    )
    kept = load(run.save(tmp_path / "run")).module.hparams["lr_scheduler"]
    assert kept["class_path"].endswith("StepLR")
    assert kept["init_args"] == {"step_size": 2}


@pytest.mark.parametrize("given", [torch.optim.Adam([torch.ones(1)]), lambda parameters: None, 3])
def test_what_is_no_class_is_refused_as_an_optimiser(given: Any) -> None:
    with pytest.raises(InputError, match="or a mapping with class_path and init_args"):
        fit(optimizer=given)


def test_callbacks_are_taken_that_lightning_refuses_with_our_defaults(tmp_path: Path) -> None:
    callbacks = [ModelCheckpoint(dirpath=tmp_path, monitor="train_loss"), TQDMProgressBar()]
    assert fit(batch_size=10, epochs=2, callbacks=callbacks).summary.outcome == "completed"
    assert len(list(tmp_path.glob("*.ckpt"))) == 1
    with pytest.raises(InputError, match="enable_checkpointing=False"):
        fit(epochs=1, callbacks=[ModelCheckpoint(dirpath=tmp_path)], enable_checkpointing=False)
