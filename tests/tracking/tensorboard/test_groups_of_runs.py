"""Aggregate runs in TensorBoard: against NumPy, and as TensorBoard's own plugins read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.custom_scalar.custom_scalars_plugin import CustomScalarsPlugin
from tensorboard.plugins.hparams import api_pb2, list_session_groups
from tensorboard.plugins.hparams.backend_context import Context
from torch.utils.tensorboard import SummaryWriter

from gd_lightning.plots.style import new_figure, png_bytes
from gd_lightning.records.groups import Group
from gd_lightning.records.history import PREDICTED, History, Outcome
from gd_lightning.tracking.tensorboard.groups_of_runs import image_of, write_aggregate
from gd_lightning.tracking.tensorboard.history_writer import HistoryWriter
from gd_lightning.tracking.tensorboard.hparams import columns_of
from gd_lightning.tracking.thinned_rows import POINTS

AXES = {"epochs": "epoch", "updates": "update", "samples": "samples", "microseconds": "seconds"}


def _run(losses: Any, pace: float = 0.1, outcome: Outcome = Outcome.COMPLETED) -> History:
    """Return a run of two updates an epoch, with a val loss at the ends of epochs."""
    history = History()
    for i, loss in enumerate(losses):
        history.append(update=i, epoch=i / 2, samples=8 * i, seconds=pace * i, train_loss=loss)
        if i % 2 == 0:
            history.add_to_last_row({"val_loss": 2 * loss})
    history.outcome = outcome
    return history


def _group(label: str, updates: int = 12, runs: int = 4, seed: int = 0) -> Group:
    generator = np.random.default_rng(seed)
    histories = (_run(generator.random(updates + 1), pace=generator.random()) for _ in range(runs))
    return Group(label, tuple(histories))


def _scalars(directory: Path) -> dict[str, list[Any]]:
    events = EventAccumulator(str(directory), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}


def _provider(directory: Path) -> MultiplexerDataProvider:
    multiplexer = EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(directory))
    multiplexer.Reload()
    return MultiplexerDataProvider(multiplexer, str(directory))


def _layout(directory: Path) -> list[dict[str, Any]]:
    plugin = CustomScalarsPlugin(TBContext(logdir=str(directory), data_provider=_provider(directory)))
    categories: list[dict[str, Any]] = json.loads(plugin.layout_impl(RequestContext(), ""))["category"]
    return categories


@pytest.mark.parametrize("column", ["train_loss", "val_loss"])
@pytest.mark.parametrize("family", AXES)
def test_values_are_numpys_mean_and_deviation_of_the_runs(tmp_path: Path, family: str, column: str) -> None:
    group = _group("mini-batch 16")
    write_aggregate(tmp_path, [group])
    scalars = _scalars(tmp_path / "aggregate" / "mini-batch 16")
    rows = [i for i in range(13) if i % 2 == 0 or (column == "train_loss" and family != "epochs")]
    values = np.array([history[column][rows] for history in group.histories])
    at = np.mean([history[AXES[family]][rows] for history in group.histories], axis=0)
    mean, deviation = values.mean(axis=0), np.std(values, axis=0, ddof=1)
    expected = {"mean": mean, "deviation": deviation, "lower": mean - deviation, "upper": mean + deviation}
    steps = [round(x * (1e6 if family == "microseconds" else 1)) for x in at]
    for name, numbers in expected.items():
        points = scalars[f"{family}/{column}_{name}"]
        assert [point.step for point in points] == steps
        np.testing.assert_allclose([point.value for point in points], numbers, rtol=1e-6, atol=1e-7)
        if name != "deviation":
            assert [p.value for p in scalars[f"groups/mini-batch 16/{family}/{column}_{name}"]] == [
                point.value for point in points
            ]


def test_the_relative_axis_is_mean_training_time(tmp_path: Path) -> None:
    group = Group("sgd", (_run([3, 2, 1], pace=1.0), _run([3, 2, 1], pace=3.0)))
    write_aggregate(tmp_path, [group])
    times = [point.wall_time for point in _scalars(tmp_path / "aggregate" / "sgd")["updates/train_loss_mean"]]
    np.testing.assert_allclose(np.diff(times), [2, 2], atol=1e-4)


def test_the_layout_overlays_all_groups_first_and_has_a_band_of_each(tmp_path: Path) -> None:
    groups = [_group("batch"), _group("mini-batch 16", seed=1), Group("sgd", (_run([2, 1]),))]
    write_aggregate(tmp_path, groups)
    with SummaryWriter(tmp_path / "SteepLine-seed0") as member:  # its layout must not come first
        history = History()
        history.append(update=0, epoch=0, samples=0, seconds=0.0, train_loss=1.0, **{PREDICTED: 1.0})
        HistoryWriter(member, 0.0, 1, 1).write_new(history)
    overlay, validation, *bands = _layout(tmp_path)
    assert overlay["title"] == "train loss, all variants"
    assert (overlay["closed"], validation["closed"]) == (False, True)
    assert [band["title"] for band in bands] == [
        *(g.label for g in groups),
        "train loss, validation loss and what theory predicts",
    ]
    lines = [chart["multiline"]["tag"] for chart in overlay["chart"] if "multiline" in chart]
    assert lines == [[f"{family}/train_loss_mean$"] for family in AXES]
    for chart in overlay["chart"][len(AXES) :]:
        ((family, margin),) = [(f, s) for f in AXES for s in chart["margin"]["series"] if s["value"].startswith(f)]
        assert margin == {part: f"{family}/train_loss_{part}".replace("value", "mean") for part in margin}
    for group, category in zip(groups, bands, strict=False):
        assert category["closed"]
        tags = _scalars(tmp_path / "aggregate" / group.label)
        drawn = [series for chart in category["chart"] for series in chart["margin"]["series"]]
        assert len(drawn) == 2 * len(AXES)
        assert all({series["value"], series["lower"], series["upper"]} <= set(tags) for series in drawn)


def test_writing_again_replaces_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    write_aggregate(tmp_path, [_group("a"), _group("b"), _group("c")])
    other, kept = tmp_path / "events.out.tfevents.1.host", tmp_path / "aggregate" / "c" / "notes.txt"
    other.touch()
    kept.touch()
    (former,) = (tmp_path / "aggregate" / "a").iterdir()
    content = former.read_bytes()
    write_aggregate(tmp_path, [_group("a", seed=5)])
    assert sorted(path.name for path in (tmp_path / "aggregate").iterdir()) == ["a", "c"]
    assert other.exists()
    assert list((tmp_path / "aggregate" / "c").iterdir()) == [kept]
    assert len(list(tmp_path.glob("*tfevents*"))) == 2
    points = _scalars(tmp_path / "aggregate" / "a")["updates/train_loss_mean"]
    assert [point.step for point in points] == list(range(13))
    assert [category["title"] for category in _layout(tmp_path)][2:] == ["a"]
    # A TensorBoard that read the former file before the new one, as one that runs all the time, shows the new one only.
    (former.parent / "events.out.tfevents.0.aggregate").write_bytes(content)
    assert _scalars(former.parent)["updates/train_loss_mean"] == points


def test_long_series_are_thinned_but_keep_both_ends(tmp_path: Path) -> None:
    write_aggregate(tmp_path, [_group("sgd", updates=3001, runs=2)])
    scalars = _scalars(tmp_path / "aggregate" / "sgd")
    assert all(len(points) == POINTS for points in scalars.values())
    steps = [point.step for point in scalars["updates/train_loss_mean"]]
    assert (steps[0], steps[-1]) == (0, 3001)
    assert max(np.diff(steps)) <= 7


def test_runs_that_diverged_are_left_out_and_a_group_of_them_has_no_run(tmp_path: Path) -> None:
    beyond = _run([1, 1e9], outcome=Outcome.DIVERGED)
    write_aggregate(tmp_path, [Group("some", (_run([4, 2]), beyond)), Group("all", (beyond,))])
    assert [path.name for path in (tmp_path / "aggregate").iterdir()] == ["some"]
    assert [point.value for point in _scalars(tmp_path / "aggregate" / "some")["updates/train_loss_mean"]] == [4, 2]
    write_aggregate(tmp_path, [Group("all", (beyond,))])
    assert not list(tmp_path.rglob("*tfevents*"))


def test_steps_grow_where_slow_runs_ended_early_and_where_an_axis_is_unknown(tmp_path: Path) -> None:
    unknown = History()
    unknown.append(update=0, epoch=np.nan, samples=np.nan, seconds=np.nan, train_loss=1.0)
    groups = [Group("mixed", (_run([4, 3, 2, 1], pace=1.0), _run([4, 3], pace=9.0))), Group("theirs", (unknown,))]
    write_aggregate(tmp_path, groups)
    mixed = _scalars(tmp_path / "aggregate" / "mixed")
    assert [point.step for point in mixed["microseconds/train_loss_mean"]] == [0, 5_000_000]
    assert [point.step for point in mixed["updates/train_loss_mean"]] == [0, 1, 2, 3]
    theirs = _scalars(tmp_path / "aggregate" / "theirs")
    assert {tag.partition("/")[0] for tag in theirs if not tag.startswith("groups/")} == {"updates"}


def test_labels_become_names_that_file_systems_allow_and_tell_apart(tmp_path: Path) -> None:
    labels = ["a/b", "a:b", "A-B", "..", "lr 0.1, B=16", "long " * 50]
    write_aggregate(tmp_path, [_group(label, updates=1, runs=1) for label in labels])
    names = sorted(path.name for path in (tmp_path / "aggregate").iterdir())
    assert names == sorted(["a-b", "a-b-2", "A-B-3", "group", "lr 0.1, B=16", ("long " * 20).strip()])


def test_the_hparams_tab_has_a_row_a_run_with_its_outcome(tmp_path: Path) -> None:
    ends = {"run-0": Outcome.COMPLETED, "run-1": Outcome.DIVERGED, "run-2": Outcome.CONVERGED}
    for i, (name, outcome) in enumerate(ends.items()):
        with SummaryWriter(tmp_path / name) as writer:
            HistoryWriter(writer, 0.0, 1, 1).write_hparams({"lr": 0.1 * i}, {"train_loss": float(i)}, outcome)
    write_aggregate(tmp_path, [_group("sgd")])
    context = Context(TBContext(logdir=str(tmp_path), data_provider=_provider(tmp_path)))
    allowed = [api_pb2.STATUS_SUCCESS, api_pb2.STATUS_FAILURE]
    request = api_pb2.ListSessionGroupsRequest(start_index=0, slice_size=9, allowed_statuses=allowed)
    handler = list_session_groups.Handler(RequestContext(), context, "", request)
    rows = {group.name: group for group in handler.run().session_groups}
    assert {name: row.hparams["outcome"].string_value for name, row in rows.items()} == {
        name: str(outcome) for name, outcome in ends.items()
    }
    assert {name for name, row in rows.items() if row.sessions[0].status == api_pb2.STATUS_FAILURE} == {"run-1"}
    values = {name: [metric.value for metric in row.metric_values] for name, row in rows.items()}
    assert values == {"run-0": [0.0], "run-1": [1.0], "run-2": [2.0]}


def test_the_picture_of_a_comparison_is_an_image_and_what_was_varied_is_shown(tmp_path: Path) -> None:
    png = png_bytes(new_figure(1))
    settings = {"data.batch_size": 16, "model.lr": 0.1, "model.momentum": 0.5, "data.val_size": 0.2}
    columns = columns_of(settings, ["model.momentum", "optimizer"])
    write_aggregate(tmp_path, [_group("sgd")], [image_of("comparison", png), columns])
    with SummaryWriter(tmp_path / "run-0") as writer:  # as a run that was not the one with momentum
        HistoryWriter(writer, 0.0, 1, 1).write_hparams({"lr": 0.1, "momentum": 0.0}, {"train_loss": 1.0})
    events = EventAccumulator(str(tmp_path)).Reload()
    (image,) = events.Images("views/comparison")
    assert image.encoded_image_string == png
    assert (image.width, image.height) == (700, 554)
    context = Context(TBContext(logdir=str(tmp_path), data_provider=_provider(tmp_path)))
    experiment = context.experiment_from_metadata(
        RequestContext(), "", True, context.hparams_metadata(RequestContext(), ""), None
    )
    shown = {info.name for info in experiment.hparam_infos if info.differs}
    assert {"momentum", "optimizer", "batch_size", "lr"} <= shown
    assert "val_size" not in shown


def test_curves_come_before_pictures_and_train_beside_validation_loss(tmp_path: Path) -> None:
    with SummaryWriter(tmp_path) as writer:
        HistoryWriter(writer, 0.0, 1, 1).write_new(_run([3, 2, 1]), to_the_end=True)
    families = {tag.partition("/")[0] for tag in _scalars(tmp_path)}
    assert all(family < "views" for family in families)
    (category,) = _layout(tmp_path)
    assert [chart["multiline"]["tag"] for chart in category["chart"]] == [
        [f"{axis}/(train_loss|val_loss|train_loss_predicted)$"] for axis in ("epochs", "updates", "samples")
    ]
