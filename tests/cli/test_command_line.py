from __future__ import annotations

import csv
import errno
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch.cli import LightningArgumentParser
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import gd_lightning
from gd_lightning.cli.command import Command
from gd_lightning.cli.options.examples import EXAMPLES
from gd_lightning.cli.options.parser import Parser
from tests.conftest import CONFIGS, CommandLine, build_parsers


@pytest.mark.usefixtures("pictures")
def test_fit_without_options_is_system_1_and_says_nothing_but_its_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert gd_lightning.main(["fit"]) == 0
    out, err = capfd.readouterr()
    assert err == ""  # nor in a process of its own, where the wheel is tested
    for word in ("batch gradient descent", "0.22152", "least squares", "truth", "completed", "tensorboard --logdir"):
        assert word in out
    (run,) = (tmp_path / "lightning_logs").iterdir()
    assert run.name == "SteepLine-batch-b100-lr0.1-seed0"
    names = {path.name for path in run.iterdir() if not path.name.startswith("events.out.tfevents")}
    assert names == {"history.csv", "summary.json", "curves.png", "config.yaml", "checkpoints"}
    assert [path.name for path in tmp_path.iterdir()] == ["lightning_logs"]


@pytest.mark.usefixtures("new_parsers")
@pytest.mark.parametrize("variable", [None, "PL_CONFIG", "PL_SUBCOMMAND"])
def test_only_the_options_of_the_subcommand_that_is_called_are_collected(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str | None
) -> None:
    """Unless something else may speak of another one."""
    (tmp_path / "all.yaml").write_text("{fit: {model: {lr: 0.01}}, test: {model: {lr: 0.02}}}")
    if variable is not None:
        monkeypatch.setenv(variable, {"PL_CONFIG": str(tmp_path / "all.yaml"), "PL_SUBCOMMAND": "test"}[variable])
    collected = []
    collect = Command.add_core_arguments_to_parser

    def counted(command: Command, parser: LightningArgumentParser) -> None:
        collected.append(parser)
        collect(command, parser)

    monkeypatch.setattr(Command, "add_core_arguments_to_parser", counted)
    assert command_line("fit", "--trainer.max_epochs", "1", "--print_config") == 0
    assert yaml.safe_load(command_line.out)["model"]["lr"] == (0.01 if variable == "PL_CONFIG" else 0.1)
    assert len(collected) == (1 if variable is None else len(EXAMPLES))


def test_a_parser_that_was_used_says_what_a_new_one_says(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """So command lines of tests can share parsers."""
    for command, code in {
        "fit --data.problem Sine --optimizer Adam --trainer.callbacks+=LearningRateMonitor --print_config": 0,
        "fit --data.problem Table --print_config": 2,
        "fit --data.problem Nope": 2,
        "compare --data.problem Sine --model.lr 1 --print_config": 0,
    }.items():
        assert command_line(*command.split()) == code, command_line.err
    asked = ("fit", "--help-all"), ("fit", "--print_config"), ("compare", "--print_config")
    said = []
    for _ in range(2):
        assert [gd_lightning.main([*arguments]) for arguments in asked] == [0, 0, 0]
        said.append(capfd.readouterr().out)
        monkeypatch.setattr(Command, "setup_parser", build_parsers)
    assert said[0] == said[1]


def test_a_config_before_the_subcommand_may_speak_of_several(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "all.yaml"
    config.write_text("{fit: {model: {lr: 0.01}}, test: {model: {lr: 0.02}}}")
    assert gd_lightning.main(["--config", str(config), "fit", "--print_config"]) == 0
    assert yaml.safe_load(capfd.readouterr().out)["model"]["lr"] == 0.01


def test_files_of_a_run_have_the_columns_and_keys_that_others_rely_on(command_line: CommandLine) -> None:
    run = command_line.fit("--data.batch_size", "16", "--model.lr", "0.01")
    with (run / "history.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert list(rows[0])[:7] == ["update", "epoch", "samples", "seconds", "train_loss", "batch_loss", "lr"]
    assert [int(row["update"]) for row in rows] == list(range(141))
    assert {"w", "b", "distance_to_least_squares"} <= set(rows[0])
    summary = json.loads((run / "summary.json").read_text())
    keys = "variant batch_size train_samples updates epochs samples seconds train_loss_first train_loss_last outcome"
    assert set(keys.split()) | {"reason", "parameters", "least_squares", "truth", "engine"} <= set(summary)
    assert summary["variant"] == "mini-batch"
    assert summary["outcome"] == "completed"
    assert summary["truth"] == {"w": -5, "b": 0}
    assert summary["engine"] == "autograd"


def test_variants_start_alike_and_end_at_the_same_samples_in_tensorboard(command_line: CommandLine) -> None:
    series = {}
    for name in ("batch", "mini_batch", "stochastic"):
        run = command_line.fit("--config", CONFIGS / f"{name}.yaml")
        events = EventAccumulator(str(run), size_guidance={"scalars": 0})
        events.Reload()
        assert all(events.Scalars(tag) for tag in events.Tags()["scalars"])
        series[name] = events.Scalars("samples/train_loss")
    assert len({points[0].value for points in series.values()}) == 1
    assert {points[0].step for points in series.values()} == {0}
    assert {points[-1].step for points in series.values()} == {2000}
    assert {name: len(points) for name, points in series.items()} == {"batch": 21, "mini_batch": 141, "stochastic": 501}


def test_a_second_run_gets_a_directory_of_its_own(command_line: CommandLine) -> None:
    first, second = command_line.fit(), command_line.fit()
    assert second.name == f"{first.name}-2"


def test_the_config_of_a_run_makes_the_run_again(command_line: CommandLine) -> None:
    options = ["--data.batch_size", "7", "--model.hidden_sizes", "[3]", "--optimizer", "Adam", "--optimizer.lr", "0.01"]
    first = command_line.fit(*options, "--seed_everything", "4")
    second = command_line.fit("--config", first / "config.yaml")
    losses = [json.loads((run / "summary.json").read_text())["train_loss_last"] for run in (first, second)]
    assert losses[0] == losses[1]


def test_configs_are_layers_and_the_command_line_is_the_top_one(command_line: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("model: {lr: 0.01}\ndata: {batch_size: 10}\n")
    (tmp_path / "b.yaml").write_text("model: {lr: 0.02}\n")
    layers: list[str | Path] = ["--config", tmp_path / "a.yaml", "--config", tmp_path / "b.yaml"]
    assert command_line.fit(*layers).name == "SteepLine-mini-batch-b10-lr0.02-seed0"
    assert command_line.fit(*layers, "--model.lr", "0.03").name == "SteepLine-mini-batch-b10-lr0.03-seed0"


def test_another_problem_comes_with_its_own_defaults(command_line: CommandLine) -> None:
    """Not with the seed and the noise of the default problem, which jsonargparse would carry over."""
    run = command_line.fit("--data.problem", "NoisyLine")
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["data"]["problem"]["init_args"] == {"seed": 42, "noise": 0.1}
    run = command_line.fit("--data.problem", "NoisyLine", "--data.problem.seed", "3")
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["data"]["problem"]["init_args"] == {"seed": 3, "noise": 0.1}


def test_environment_variables_are_options(command_line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_FIT__MODEL__LR", "0.05")
    assert command_line.fit().name == "SteepLine-batch-b100-lr0.05-seed0"


def test_a_subcommand_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PL_SUBCOMMAND", "fit")
    monkeypatch.setenv("PL_FIT__TRAINER__MAX_STEPS", "3")
    assert gd_lightning.main([]) == 0
    assert "max_steps 3 reached" in capfd.readouterr().out


@pytest.mark.parametrize(
    "options",
    [
        [],
        pytest.param(["--optimizer", "Adam"], marks=pytest.mark.slow),
        pytest.param(["--optimizer", "Adam", "--model.lr", "0.3"], marks=pytest.mark.slow),
        ["--optimizer", "Adam", "--model.lr", "0.1"],  # the model's own default
        pytest.param(["--trainer.max_steps", "30"], marks=pytest.mark.slow),
        pytest.param(["--data.problem", "NoisyLine", "--data.batch_size", "8"], marks=pytest.mark.slow),
        [
            "--data.problem",
            "Sine",
            "--model.hidden_sizes",
            "[4]",
            "--lr_scheduler",
            "StepLR",
            "--lr_scheduler.step_size=3",
        ],
    ],
)
def test_a_printed_config_makes_the_same_run(command_line: CommandLine, tmp_path: Path, options: list[str]) -> None:
    run = command_line.fit(*options)
    assert command_line("fit", *options, "--print_config") == 0
    (tmp_path / "printed.yaml").write_text(command_line.out)
    again = command_line.fit("--config", tmp_path / "printed.yaml")
    losses = [json.loads((path / "summary.json").read_text())["train_loss_last"] for path in (run, again)]
    assert losses[0] == losses[1]


def test_a_bar_of_ones_own_replaces_ours(command_line: CommandLine) -> None:
    command_line.fit("--trainer.callbacks+=TQDMProgressBar")
    assert "Epoch 19" in command_line.out + command_line.err


def test_version_and_printed_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert gd_lightning.main(["--version"]) == 0
    assert capsys.readouterr().out == f"gd_lightning {gd_lightning.__version__}\n"
    assert gd_lightning.main(["fit", "--print_config"]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["trainer"]["max_epochs"] == 20
    assert config["data"]["problem"]["class_path"].endswith("SteepLine")


def test_one_number_means_the_learning_rate(command_line: CommandLine) -> None:
    for options, lr in (
        (["--model.lr", "0.3"], 0.3),
        (["--optimizer.lr", "0.4"], 0.4),
        ([], 0.001),  # Adam's own default
        (["--optimizer.lr", "0.2", "--model.lr", "0.2"], 0.2),
    ):
        run = command_line.fit("--optimizer", "Adam", *options)
        assert run.name.startswith(f"SteepLine-batch-b100-lr{lr}-")
        history = gd_lightning.History.from_csv(run / "history.csv")
        assert set(history["lr"]) == {lr}


def test_a_number_of_updates_is_not_cut_short_by_the_default_of_epochs(command_line: CommandLine) -> None:
    for options, updates in (
        (["--trainer.max_steps", "30"], 30),
        (["--trainer.max_steps", "30", "--trainer.max_epochs", "7"], 7),
        (["--trainer.max_steps", "5", "--data.problem", "Parabola"], 5),
    ):
        summary = json.loads((command_line.fit(*options) / "summary.json").read_text())
        assert summary["updates"] == updates


def test_a_run_is_judged_and_used_by_its_directory(command_line: CommandLine) -> None:
    run = command_line.fit("--data.val_size", "20", "--data.test_size", "10", "--data.problem.seed", "5")
    summary = json.loads((run / "summary.json").read_text())
    for given in (str(run), "last", str(run / "checkpoints" / "last.ckpt")):
        assert command_line("validate", "--ckpt_path", given) == 0
        assert "20 held-out samples" in command_line.out
        assert f"{summary['measures']['val_loss']:.6g}"[:7] in command_line.out
    assert command_line("test", "--ckpt_path", run) == 0
    assert "10 held-out samples" in command_line.out
    for name in ("validate.json", "validate-2.json", "validate-3.json"):
        written = json.loads((run / name).read_text())
        assert written["val_loss"] == pytest.approx(summary["measures"]["val_loss"], rel=1e-6)
        assert (written["checkpoint"], written["samples"], written["held_out"]) == ("last.ckpt", 20, True)
    assert json.loads((run / "test.json").read_text())["samples"] == 10
    for name in ("predictions.csv", "predictions-2.csv"):  # what is there is not overwritten
        assert command_line("predict", "--ckpt_path", run) == 0
        with (run / name).open() as lines:
            rows = list(csv.DictReader(lines))
        parameters = summary["parameters"]
        assert len(rows) == 100
        for row in rows:
            expected = parameters["w"] * float(row["x"]) + parameters["b"]
            assert float(row["predicted_y"]) == pytest.approx(expected, abs=1e-4)


def test_without_held_out_samples_a_run_is_judged_on_its_training_and_says_so(command_line: CommandLine) -> None:
    run = command_line.fit()
    for stage in ("validate", "test"):
        assert command_line(stage, "--ckpt_path", run) == 0
        assert "100 training samples, because none were held out" in command_line.out
        assert "0.221525" in command_line.out


def test_metrics_that_cannot_be_written_are_printed_nevertheless(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = command_line.fit()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("gd_lightning.cli.subcommands.evaluation.write_json", full)
    assert command_line("test", "--ckpt_path", run) == 0
    assert "0.221525" in command_line.out
    assert "cannot write the metrics" in command_line.err
    assert not (run / "test.json").exists()


def test_a_checkpoint_that_stands_alone_knows_its_model_and_data(command_line: CommandLine, tmp_path: Path) -> None:
    run = command_line.fit("--data.problem", "Parabola", "--model.hidden_sizes", "[4]", "--data.test_size", "0.3")
    assert command_line("test", "--ckpt_path", run) == 0
    expected = command_line.out.splitlines()[1:]
    alone = tmp_path / "mine.ckpt"
    (run / "checkpoints" / "last.ckpt").rename(alone)
    assert command_line("test", "--ckpt_path", alone) == 0
    assert command_line.out.splitlines()[1:] == expected


def test_predictions_on_a_table_of_new_inputs(command_line: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text("hours,score\n1,12\n2,14\n3,16\n4,18\n")
    (tmp_path / "new.csv").write_text("name,hours\nAda,10\nBob,20\n")
    table: list[str | Path] = ["--data.problem", "Table", "--data.problem.path", tmp_path / "old.csv"]
    run = command_line.fit(*table, "--data.standardize", "true", "--model.lr", "0.5", "--trainer.max_epochs", "3")
    assert json.loads((run / "summary.json").read_text())["parameters"] == pytest.approx({"w": 2, "b": 10}, rel=1e-5)
    assert command_line("predict", "--ckpt_path", run, "--data.predict_inputs", tmp_path / "new.csv") == 0
    assert (run / "predictions.csv").read_text().splitlines()[0] == "name,hours,predicted_score"
    with (run / "predictions.csv").open() as lines:
        assert [float(row["predicted_score"]) for row in csv.DictReader(lines)] == pytest.approx([30, 50], rel=1e-5)


def test_a_run_is_continued_by_its_directory(command_line: CommandLine) -> None:
    options = ["--data.batch_size", "16", "--model.momentum", "0.5", "--model.lr", "0.01"]
    whole = command_line.fit(*options, "--trainer.max_epochs", "6")
    part = command_line.fit(*options, "--trainer.max_epochs", "3")
    assert command_line("fit", "--ckpt_path", part, "--trainer.max_epochs", "6") == 0
    assert sorted(command_line.runs) == sorted([whole, part])  # it goes on where it is
    parameters = [json.loads((run / "summary.json").read_text())["parameters"] for run in (whole, part)]
    assert parameters[0] == parameters[1]  # to the bit, shuffled order included
    assert command_line("fit", "--ckpt_path", part, "--model.lr", "0.5") == 2
    assert "model.lr 0.5" in command_line.err
    assert "made with 0.01" in command_line.err


def test_a_checkpoint_that_stands_alone_is_continued_with_its_optimizer(
    command_line: CommandLine, tmp_path: Path
) -> None:
    options = [
        "--optimizer",
        "Adam",
        "--optimizer.lr",
        "0.05",
        "--lr_scheduler",
        "StepLR",
        "--lr_scheduler.step_size=2",
    ]
    whole = command_line.fit(*options, "--trainer.max_epochs", "6")
    part = command_line.fit(*options, "--trainer.max_epochs", "3")
    (part / "checkpoints" / "last.ckpt").rename(tmp_path / "alone.ckpt")
    rest = command_line.fit("--ckpt_path", tmp_path / "alone.ckpt", "--trainer.max_epochs", "6")
    parameters = [json.loads((run / "summary.json").read_text())["parameters"] for run in (whole, rest)]
    assert parameters[0] == parameters[1]


def test_a_network_of_ones_own_by_its_class_path(command_line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["--model.network", "tests.module.test_regression.Quadratic", "--data.problem", "Parabola"]
    run = command_line.fit(*options, "--trainer.max_epochs", "300")
    assert json.loads((run / "summary.json").read_text())["train_loss_last"] < 0.005
    assert command_line("test", "--ckpt_path", run) == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_overlay(command_line: CommandLine) -> None:
    run = command_line.fit("--config", CONFIGS / "batch.yaml", "--config", CONFIGS / "gpu.yaml", "--model.lr", "0.1")
    summary = json.loads((run / "summary.json").read_text())
    assert summary["parameters"] == pytest.approx({"w": -5.0031657, "b": -0.21667072}, rel=1e-4)


@pytest.mark.parametrize("config", sorted(path.name for path in CONFIGS.glob("*.yaml")))
def test_every_config_only_says_what_differs_from_the_defaults_and_explains_itself(config: str) -> None:
    text = (CONFIGS / config).read_text()
    assert text.startswith("# ")
    values = yaml.safe_load(text)
    assert set(values) <= {"seed_everything", "on_divergence", "data", "model", "trainer"}
    assert len(text.splitlines()) <= 20


def test_the_three_variants_differ_in_one_line() -> None:
    texts = [(CONFIGS / f"{name}.yaml").read_text().splitlines() for name in ("batch", "mini_batch", "stochastic")]
    different = [lines for lines in zip(*texts, strict=True) if len(set(lines)) > 1]
    assert len(different) == 1
    assert all("batch_size" in line for line in different[0])


def test_the_three_variants_converge(command_line: CommandLine) -> None:
    for name, epochs in (("batch", 120), ("mini_batch", 40), ("stochastic", 10)):
        run = command_line.fit("--config", CONFIGS / f"{name}.yaml", "--trainer.max_epochs", str(epochs))
        summary = json.loads((run / "summary.json").read_text())
        assert summary["outcome"] == "completed"
        assert summary["train_loss_last"] < 3 * summary["least_squares_loss"]


@pytest.mark.parametrize("config", ["data:\nmodel:\nrecorder:\ncheckpoint:\ntrainer:\n", "fit:\n  data:\n"])
def test_sections_without_options_are_left_out(command_line: CommandLine, tmp_path: Path, config: str) -> None:
    path = tmp_path / "commented.yaml"
    path.write_text(config)
    before = ["--config", str(path)] if config.startswith("fit") else []
    after = [] if before else ["--config", str(path)]
    assert gd_lightning.main([*before, "fit", *after, "--print_config"]) == 0


@pytest.mark.parametrize(("problem", "times"), [([], 1), (["--data.problem", "Parabola"], 2)])
def test_options_are_parsed_once_unless_another_problem_brings_its_own(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, problem: list[str], times: int
) -> None:
    """To parse takes a third of a short command."""
    parse, parsed = Parser.parse_args, list[Any]()

    def noted(self: Parser, *args: Any, **kwargs: Any) -> Any:
        parsed.extend(given for given in args if isinstance(given, list) and "--trainer.max_epochs" in given)
        return parse(self, *args, **kwargs)

    monkeypatch.setattr(Parser, "parse_args", noted)
    assert command_line("fit", *problem, "--trainer.max_epochs", "1") == 0
    assert len(parsed) == times
