"""``compare`` on the command line: what is made, what is said, and what is made again."""

from __future__ import annotations

import csv
import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gd_lightning import SteepLine
from gd_lightning.cli.command import Command
from gd_lightning.cli.subcommands.compare_directory import own_directory
from gd_lightning.cli.subcommands.compare_members import FitMember
from gd_lightning.experiments import Report
from gd_lightning.experiments.comparison.problem_panels import ProblemPanels
from gd_lightning.records.history import History
from gd_lightning.versions import versions as versions_of_this
from tests.conftest import CONFIGS, CommandLine

SMALL = ["--batch_sizes", "full,16,1", "--seeds", "2", "--model.lr", "0.01", "--trainer.max_epochs", "4"]


def _directory(command_line: CommandLine) -> Path:
    return next(path for path in reversed(command_line.runs) if path.name.startswith("compare"))


def _table(directory: Path) -> list[dict[str, str]]:
    with (directory / "table.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def _members(directory: Path) -> list[Path]:
    return sorted(path.parent for path in directory.glob("*/history.csv"))


@pytest.mark.usefixtures("pictures")
def test_all_variants_start_alike_end_at_the_same_samples_and_the_table_is_that_of_their_events(
    command_line: CommandLine,
) -> None:
    assert command_line("compare", *SMALL) == 0, command_line.err
    assert command_line.err == ""
    directory = _directory(command_line)
    found: dict[str, list[float]] = {}
    for member in _members(directory):
        points = EventAccumulator(str(member), size_guidance={"scalars": 0}).Reload().Scalars("samples/train_loss")
        assert points[0].value == pytest.approx(599.12098, rel=1e-7)
        assert (points[0].step, points[-1].step) == (0, 400)
        size = json.loads((member / "summary.json").read_text())["batch_size"]
        found.setdefault(str(size), []).append(points[-1].value)
    table = _table(directory)
    assert [row["label"] for row in table] == ["batch", "mini-batch 16", "stochastic"]
    for row in table:
        values = found[row["batch_size"]]
        assert float(row["train_loss_mean"]) == pytest.approx(np.mean(values), rel=1e-6)
        assert float(row["train_loss_deviation"]) == pytest.approx(np.std(values, ddof=1), rel=1e-4, abs=1e-5)
        assert f"{float(row['train_loss_mean']):.5g}" in command_line.out
        assert row["runs"] == "2"
    for name in ("comparison.png", "comparison.svg", "table.md", "table.json"):
        assert (directory / name).stat().st_size > 0
    mean = EventAccumulator(str(directory / "aggregate" / "stochastic")).Reload().Scalars("samples/train_loss_mean")
    assert mean[-1].value == pytest.approx(np.mean(found["1"]), rel=1e-6)


def test_what_diverges_is_a_finding_with_its_limit_and_no_failure(command_line: CommandLine) -> None:
    options = ["--batch_sizes", "full,1", "--seeds", "1", "--model.lr", "0.1"]
    assert command_line("compare", *options) == 0
    assert "- stochastic diverged: the train loss grew from 599.1" in command_line.out
    assert "lr 0.1 is above 0.06418, the limit for batch_size 1 on these data" in command_line.out
    batch, stochastic = _table(_directory(command_line))
    assert (batch["outcome"], stochastic["outcome"]) == ("completed", "diverged")
    assert stochastic["train_loss_mean"] == ""
    assert float(batch["train_loss_mean"]) == pytest.approx(0.22152, rel=1e-4)


@pytest.mark.slow
def test_the_variance_of_the_updates_falls_as_the_batches_grow(command_line: CommandLine) -> None:
    options = ["--batch_sizes", "full,64,16,4,1", "--seeds", "1", "--trainer.max_epochs", "2"]
    assert command_line("compare", "--config", CONFIGS / "parabola_batch.yaml", *options) == 0
    variances = [float(row["gradient_variance_mean"]) for row in _table(_directory(command_line))]
    assert variances[0] == 0
    assert variances == sorted(variances)
    assert "batch is the smoothest, stochastic the noisiest" in command_line.out


@pytest.mark.slow
def test_the_same_command_again_makes_the_rest_only_and_the_same_table(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    whole = Command.fit_member

    def interrupted(self: Command, member: FitMember) -> History:
        if len(made) == 3:
            monkeypatch.setattr("gd_lightning.callbacks.stop_on_signal.StopOnSignal.on_train_batch_end", _interrupt)
        made.append(member.name)
        return whole(self, member)

    with monkeypatch.context():
        monkeypatch.setattr(Command, "fit_member", interrupted)
        assert command_line("compare", *SMALL) == 130
    monkeypatch.undo()
    assert "finished     3 of 6 runs; repeat the command for the others" in command_line.out
    assert "mini-batch 16" in command_line.out
    directory = _directory(command_line)
    names = ("batch_size-full-seed0", "batch_size-full-seed1", "batch_size-16-seed0")
    finished = {name: (directory / name / "history.csv").read_bytes() for name in names}
    again: list[str] = []

    def noted(self: Command, member: FitMember) -> History:
        again.append(member.name)
        return whole(self, pickle.loads(pickle.dumps(member)))  # a member is plain values, for any process

    monkeypatch.setattr(Command, "fit_member", noted)
    assert command_line("compare", *SMALL) == 0
    assert again == ["batch_size-16-seed1", "batch_size-1-seed0", "batch_size-1-seed1"]
    assert _directory(command_line) == directory
    assert all((directory / name / "history.csv").read_bytes() == content for name, content in finished.items())
    once_more = (directory / "table.csv").read_bytes()
    assert command_line("compare", *SMALL) == 0
    assert (directory / "table.csv").read_bytes() == once_more
    assert len(again) == 3

    elsewhere = command_line.root / "elsewhere"
    assert command_line("compare", *SMALL, "--directory", elsewhere) == 0
    at_hand = (elsewhere / "table.csv").read_bytes()  # of histories that were not read from files
    assert command_line("compare", *SMALL, "--directory", elsewhere) == 0
    assert (elsewhere / "table.csv").read_bytes() == at_hand
    for ours, theirs in zip(_table(directory), _table(elsewhere), strict=True):
        timed = [name for name in ours if "seconds" in name]
        assert {**ours, **dict.fromkeys(timed)} == {**theirs, **dict.fromkeys(timed)}


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("options", "labels", "lrs"),
    [
        (["--lrs", "0.05,0.02", "--batch_sizes", "full,10"], ["batch", "mini-batch 10"], [0.05, 0.02]),
        (["--lrs", "best", "--batch_sizes", "full,1"], ["batch", "stochastic"], [0.0908, 0.0147]),
        pytest.param(
            ["--lrs", "0.02", "--batch_sizes", "[full, 10]"],
            ["batch", "mini-batch 10"],
            [0.02, 0.02],
            marks=pytest.mark.slow,
        ),
        pytest.param(["--vary", "model.lr=0.01,0.02"], ["lr 0.01", "lr 0.02"], [0.01, 0.02], marks=pytest.mark.slow),
        (
            ["--vary", "data.order=shuffled,sequential", "--vary=model.momentum=0.0,0.5", "--data.batch_size", "50"],
            [f"order {order}, momentum {mu}" for order in ("shuffled", "sequential") for mu in ("0", "0.5")],
            [0.1] * 4,
        ),
    ],
)
def test_anything_can_be_varied(
    command_line: CommandLine, options: Sequence[str], labels: list[str], lrs: list[float]
) -> None:
    assert command_line("compare", *options, "--seeds", "1", "--trainer.max_epochs", "2") == 0, command_line.err
    table = _table(_directory(command_line))
    assert [row["label"] for row in table] == labels
    assert [float(row["lr"]) for row in table] == pytest.approx(lrs)


def test_seeds_change_the_order_and_if_asked_the_data(command_line: CommandLine) -> None:
    few = ["--batch_sizes", "10", "--seeds", "2", "--trainer.max_epochs", "1"]
    starts = []
    for options in ([], ["--vary_data", "true"]):
        assert command_line("compare", *few, *options) == 0
        histories = [History.from_csv(path / "history.csv") for path in _members(_directory(command_line))]
        starts.append([history.first("train_loss") for history in histories])
        assert histories[0].last("train_loss") != histories[1].last("train_loss")
    assert starts[0][0] == starts[0][1] == starts[1][0] != starts[1][1]


def test_finished_runs_are_compared(command_line: CommandLine) -> None:
    runs = [command_line.fit("--data.batch_size", size, "--model.lr", "0.01") for size in ("full", "10")]
    assert command_line("compare", *runs) == 0, command_line.err
    directory = _directory(command_line)
    assert directory.name == "compare-runs"
    assert [row["label"] for row in _table(directory)] == ["batch", "mini-batch 10"]
    assert (directory / "comparison.png").is_file()
    for run in runs:
        (run / "history.csv").unlink()
    assert command_line("compare", *runs, "--target", "300") == 0, command_line.err
    assert "of TensorBoard event files" in command_line.out


@pytest.mark.parametrize("versions", [None, {}, {"gd_lightning": "0.0.1", "torch": "2.6.0", "python": "3.10.0"}])
def test_a_comparison_that_another_version_began_is_continued(tmp_path: Path, versions: object) -> None:
    """Also one of a version that did not write versions; other settings are another comparison."""
    settings = {"settings": {"model": {"lr": 0.1}}, "members": ({},)}
    with own_directory(None, tmp_path, "compare", settings) as directory:
        file = directory / "compare.json"
    begun = json.loads(file.read_text())
    assert begun.pop("versions") == versions_of_this()
    text = json.dumps(begun if versions is None else {"versions": versions, **begun})
    file.write_text(text)
    with own_directory(None, tmp_path, "compare", settings) as again:
        assert (again, file.read_text()) == (directory, text)
    with own_directory(None, tmp_path, "compare", {**settings, "members": ({"lr": 1},)}) as other:
        assert other != directory


def test_claims_and_columns(command_line: CommandLine, tmp_path: Path) -> None:
    config = tmp_path / "claims.yaml"
    config.write_text(
        "vary: {model.lr: [0.01, 0.1]}\nseeds: 1\ncolumns: [distance_to_truth]\n"
        'claims:\n  larger is faster: "train_loss: lr 0.1 < lr 0.01"\n  it diverges: "outcome: lr 0.1 = diverged"\n'
    )
    assert command_line("compare", "--config", config, "--trainer.max_epochs", "3") == 0, command_line.err
    assert '- "larger is faster": agrees (train_loss: ' in command_line.out
    assert '- "it diverges": does not agree (outcome: lr 0.1 completed)' in command_line.out
    assert "distance to truth" in command_line.out


LR = ("--model.lr", "0.01")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch_sizes", "full,1000"], "batch_size 1000, because there are only 100 training samples"),
        (["--batch_sizes", "full,x"], "cannot use 'x' as batch_size"),
        (["--batch_sizes", "full,1", "--lrs", "0.1,0.2,0.3"], "cannot give 3 lrs to 2 batch sizes"),
        (["--lrs", "best", "--model.hidden_sizes", "[3]", "--model.momentum", "1"], "cannot plan with momentum 1"),
        (["--vary", "model.lr"], "cannot vary 'model.lr'; write an option and its values"),
        (["--vary", "model.lrr=1,2"], "there is no option"),
        (["--vary", "model.lr=0.1,x"], "model.lr"),
        (["--vary", "model.lr=1", "--lrs", "0.1"], "cannot vary model.lr twice"),
        (["--vary", "model.lr=1", "--vary", "model.lr=2"], "cannot vary model.lr twice"),
        (
            ["--batch_sizes", "1,1", *LR],
            "cannot compare data.batch_size 1 and data.batch_size 1, because they are the same",
        ),
        (
            ["--batch_sizes", "full,16,100", *LR],
            "data.batch_size full and data.batch_size 100, because they are the same",
        ),
        (["--vary", "model.lr=0.1,0.10"], "model.lr 0.1 and model.lr 0.10, because they are the same"),
        (["--vary", "optimizer=Adam,torch.optim.Adam"], "because they are the same; give each value once"),
        (["--vary", "seed_everything=3,3"], "seed_everything 3, because they are the same"),
        (["--seeds", "0"], "cannot compare with 0 seeds"),
        (["--vary_data", "true", "--data.problem", "FourPoints"], "has no seed"),
        (["--trainer.devices", "2"], "cannot compare with trainer.devices 2"),
        (["--trainer.logger", "false"], "cannot compare with trainer.logger False"),
        (["--trainer.fast_dev_run", "true"], "cannot compare with trainer.fast_dev_run True"),
        (["no_such_run"], "there is no such directory"),
        (["--ckpt_path", "last"], "there is no option --ckpt_path"),
    ],
)
def test_what_cannot_be_compared_is_said_in_one_line_before_anything_is_made(
    command_line: CommandLine, options: Sequence[str], message: str
) -> None:
    assert command_line("compare", *options) == 2
    assert message in command_line.err
    assert len(command_line.err.splitlines()) == 1
    assert command_line.out == ""
    assert not (command_line.root / "lightning_logs").exists()


STOPPING = "{class_path: EarlyStopping, init_args: {monitor: %s, patience: 9}}"
PLATEAU = "{class_path: ReduceLROnPlateau, init_args: {monitor: %s}}"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--vary", f"trainer.callbacks=null,{STOPPING % 'nothing'}"], "nothing"),
        (["--vary", "data.val_size=0.2,0", "--trainer.callbacks", f"[{STOPPING % 'val_loss'}]"], "val_loss"),
        (["--vary", f"lr_scheduler={PLATEAU % 'train_loss'},{PLATEAU % 'nothing'}", "--optimizer", "SGD"], "nothing"),
        (["--vary", "trainer.accumulate_grad_batches=1,2"], "cannot train with accumulate_grad_batches 2"),
        (["--vary", "model.initialization=auto,{w: 1.0}", "--model.hidden_sizes", "[2]"], "initialization"),
    ],
)
def test_what_only_the_training_of_a_later_variant_refuses_is_said_before_the_first_is_trained(
    command_line: CommandLine, options: Sequence[str], message: str
) -> None:
    assert command_line("compare", "--seeds", "1", *options) == 2
    assert message in command_line.err
    assert len(command_line.err.splitlines()) == 1
    assert not (command_line.root / "lightning_logs").exists()


@pytest.mark.parametrize(
    "options",
    [
        ["--data.val_size", "20", "--trainer.val_check_interval", "4"],  # more updates than are tried
        ["--trainer.callbacks", "[{class_path: StochasticWeightAveraging, init_args: {swa_lrs: 0.01}}]"],
        ["--data.val_size", "20", "--trainer.check_val_every_n_epoch", "2", "--trainer.num_sanity_val_steps", "2"],
        ["--trainer.min_epochs", "2", "--trainer.max_steps", "11"],
    ],
)
def test_what_can_be_trained_is_not_refused_where_it_is_tried(command_line: CommandLine, options: list[str]) -> None:
    few = ["--batch_sizes", "10", "--seeds", "1", "--trainer.max_epochs", "2", "--model.lr", "0.01"]
    assert command_line("compare", *few, *options) == 0, command_line.err


def test_variants_are_tried_without_a_word_or_a_file(command_line: CommandLine, tmp_path: Path) -> None:
    saving = f"{{class_path: ModelCheckpoint, init_args: {{dirpath: {tmp_path / 'saved'}, save_top_k: -1}}}}"
    callbacks = f"[PrintUpdates, LearningRateMonitor, {saving}]"
    few = ["--batch_sizes", "50", "--seeds", "1", "--trainer.max_epochs", "2", "--trainer.callbacks", callbacks]
    assert command_line("compare", *few) == 0, command_line.err
    assert command_line.err == ""
    assert command_line.out.count("update 1 ") <= 1
    saved = sorted(path.name for path in (tmp_path / "saved").iterdir())
    assert saved == ["epoch=0-step=2.ckpt", "epoch=1-step=4.ckpt"]


def test_a_directory_that_holds_something_else_is_left_alone(command_line: CommandLine, tmp_path: Path) -> None:
    other = tmp_path / "mine"
    other.mkdir()
    (other / "thesis.txt").write_text("x")
    assert command_line("compare", *SMALL, "--directory", other) == 2
    assert "because it contains something else" in command_line.err
    run = command_line.fit()
    assert command_line("compare", run, "--directory", other) == 2
    assert "because it contains something else" in command_line.err
    assert [path.name for path in other.iterdir()] == ["thesis.txt"]
    assert command_line("compare", run) == 0
    assert command_line("compare", run) == 0
    assert len(list((command_line.root / "lightning_logs").glob("compare-runs*"))) == 1


@pytest.mark.slow
def test_fits_are_drawn_over_the_data_of_the_first_seed(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[ProblemPanels] = []
    write = Report.save

    def noted(self: Report, directory: Path) -> None:
        drawn.append(self.panels)
        write(self, directory)

    monkeypatch.setattr(Report, "save", noted)
    few = ["--batch_sizes", "full", "--seeds", "2", "--vary_data", "true", "--trainer.max_epochs", "1"]
    assert command_line("compare", *few) == 0
    assert drawn[0].fits is not None
    np.testing.assert_allclose(drawn[0].fits.y, SteepLine(seed=0).sample()[1][:, 0], rtol=1e-6)
    assert command_line("compare", "--vary", "data.problem=SteepLine,NoisyLine", "--trainer.max_epochs", "1") == 0
    assert drawn[1].fits is None


@pytest.mark.parametrize(
    "network", ["--model.network=torch.nn.Linear", "--vary=model.network=torch.nn.Linear,torch.nn.RMSNorm"]
)
def test_a_network_of_ones_own_is_drawn_with_its_weights(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, network: str
) -> None:
    drawn: list[dict[str, Any]] = []
    collect = ProblemPanels.of

    def noted(data: Any, modules: dict[str, Any]) -> ProblemPanels:
        drawn.extend(module.state_dict() for module in modules.values())
        return collect(data, modules)

    monkeypatch.setattr(ProblemPanels, "of", noted)
    options = [network, "--batch_sizes=full,50", "--seeds=1", "--trainer.max_epochs=1"]
    for _ in range(2):  # the second time, the runs are there
        assert command_line("compare", *options) == 0, command_line.err
    members = _members(_directory(command_line))
    assert len(drawn) == 2 * len(members)
    saved = [torch.load(path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for path in members]
    for weights in drawn:
        fitting = (state for state in saved if set(state) == set(weights))
        assert any(all(torch.equal(weights[name], value) for name, value in state.items()) for state in fitting)
