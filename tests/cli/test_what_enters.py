"""What is not a value is refused in one line by whatever way it enters: an argument, a config or the environment."""

from __future__ import annotations

import csv
import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from gd_lightning.cli.exit_codes import BAD_INPUT, COMPLETED
from gd_lightning.cli.framework_messages import quiet
from tests.conftest import CommandLine

WAYS = ("argument", "config", "variable")
LARGE = ("1" + 400 * "0", "-9" + 308 * "9", "0x1" + 256 * "0", "0b1" + 1024 * "0", "1" + 120 * "_000", "1" + 5000 * "0")


def _by_every_way(rows: Sequence[tuple[str, ...]]) -> list[Any]:
    """Return rows with each of the ways; one of them is tried in the fast tests, and each of them there by some row."""
    return [
        pytest.param(*row, way, marks=[] if i % 3 == number else pytest.mark.slow)
        for i, row in enumerate(rows)
        for number, way in enumerate(WAYS)
    ]


def _given(stage: str, name: str, value: str, way: str, patch: pytest.MonkeyPatch) -> list[str]:
    """Return the arguments of a subcommand that is given an option by some way."""
    if way == "argument":
        return [stage, f"--{name}={value}"]
    if way == "variable":
        patch.setenv(f"PL_{stage}__{name.replace('.', '__')}".upper(), value)
        return [stage]
    lines = [f"{'  ' * depth}{part}:" for depth, part in enumerate(name.split("."))]
    Path("given.yaml").write_text("\n".join(lines) + f" {value}\n", encoding="utf-8")
    return [stage, "--config=given.yaml"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _refused(command_line: CommandLine, arguments: list[str], why: str) -> None:
    before = set(Path().iterdir())
    assert command_line(*arguments) == BAD_INPUT, (arguments, command_line.err)
    (line,) = command_line.err.splitlines()
    assert why in line
    assert set(Path().iterdir()) == before


@pytest.mark.parametrize(
    ("stage", "name", "number", "way"),
    _by_every_way(
        [
            ("fit", "model.momentum", LARGE[0]),
            ("plan", "data.val_size", LARGE[1]),
            ("fit", "trainer.max_epochs", LARGE[2]),
            ("sweep", "l1s", f"[0, {LARGE[3]}]"),
            ("compare", "vary", f"{{model.lr: [0.1, {LARGE[4]}]}}"),
            ("fit", "data.problem", f"{{class_path: SteepLine, init_args: {{noise: {LARGE[0]}}}}}"),
            ("test", "model.huber_delta", LARGE[5]),
        ]
    ),
)
def test_a_whole_number_beyond_float64(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, stage: str, name: str, number: str, way: str
) -> None:
    _refused(command_line, _given(stage, name, number, way, monkeypatch), "float64")


@pytest.mark.parametrize("number", [str(2**62), "0." + 400 * "3", "1." + 400 * "0", "1" + 400 * "0" + "e-400"])
def test_many_digits_of_a_number_within_float64(command_line: CommandLine, number: str) -> None:
    assert command_line("plan", "--map=false", "--json", f"--divergence_factor={number}") == COMPLETED, command_line.err


@pytest.mark.parametrize(
    ("stage", "name", "text", "way"),
    _by_every_way(
        [
            ("fit", "recorder.title", "\udcff"),
            ("fit", "data.problem", "{class_path: Table, init_args: {path: a\udc80.csv}}"),
            ("compare", "vary", "model.activation=\udc8f"),
            ("sweep", "directory", "a\udcaf"),
            ("predict", "ckpt_path", "run\udcff"),
            ("plan", "trainer.default_root_dir", "\udc83"),
        ]
    ),
)
def test_a_text_that_is_no_utf_8(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, stage: str, name: str, text: str, way: str
) -> None:
    text, why = (json.dumps(text), "Unicode") if way == "config" else (text, "is not text in UTF-8")
    _refused(command_line, _given(stage, name, text, way, monkeypatch), why)


@pytest.mark.parametrize(
    ("name", "path", "arguments", "way"),
    _by_every_way(
        [
            ("model.initialization", "torch.nn.Linear", "3"),
            ("model.network", "torch.nn.Linear", "[1, 2]"),
            ("data.problem", "SteepLine", "text"),
            ("optimizer", "SGD", "null"),
            ("lr_scheduler", "StepLR", "[{step_size: 1}]"),
            ("trainer.callbacks", "EarlyStopping", "true"),
            ("trainer.logger", "CSVLogger", "2.5"),
            ("model.network", "torch.nn.Linear", "''"),
            ("model.network", "torch.nn.Linear", "{3: 4}"),
            ("model.initialization", "nope.Nope", "{'': 4}"),
        ]
    ),
)
def test_arguments_of_a_class_that_are_no_mapping(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, name: str, path: str, arguments: str, way: str
) -> None:
    given = f"{{class_path: {path}, init_args: {arguments}}}"
    why = f"cannot use {json.dumps(yaml.safe_load(arguments))} as the arguments of {path}"
    _refused(command_line, _given("fit", name, given, way, monkeypatch), why)
    if name == "trainer.callbacks":
        _refused(command_line, _given("fit", name, f"[{given}]", way, monkeypatch), why)


def test_arguments_of_a_class_that_is_nowhere(command_line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    given = "{class_path: nope.Nope, init_args: {a: 1}}"
    for way in WAYS:  # jsonargparse imports it in one of them
        _refused(command_line, _given("fit", "model.initialization", given, way, monkeypatch), "nope")


@pytest.mark.parametrize(
    ("name", "way"),
    _by_every_way([("lrs",), ("batch_sizes",), ("momentums",), ("weight_decays",), ("l1s",)]),
)
def test_a_sweep_over_nothing(command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, name: str, way: str) -> None:
    _refused(command_line, _given("sweep", name, "[]", way, monkeypatch), f"as {name}, because it has no value")


@pytest.mark.parametrize(
    ("name", "value", "way"),
    _by_every_way(
        [
            *(("lrs", "[]"), ("batch_sizes", "[]"), ("runs", "[]"), ("vary", "[]"), ("vary", "{model.lr: []}")),
            *(("vary", "{}"), ("vary", "{3: [1]}"), ("vary", "{model.lr: [0.1], data.seed: []}")),
        ]
    ),
)
def test_a_comparison_of_nothing(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, name: str, value: str, way: str
) -> None:
    _refused(command_line, _given("compare", name, value, way, monkeypatch), "cannot")


@pytest.mark.parametrize(
    ("problem", "argument"),
    [
        *(("Sine", "periods"), ("Parabola", "noise"), ("SteepLine", "seed"), ("NoisyLine", "noise")),
        *(("LinearProblem", "n_features"), ("tests.cli.test_one_line.Named", "targets")),
    ],
)
def test_an_argument_of_a_problem_of_another_type(command_line: CommandLine, problem: str, argument: str) -> None:
    given = [f"--data.problem={problem}", f"--data.problem.{argument}=log("]
    _refused(command_line, ["plan", *given], f"cannot use log( as data.problem.{argument}; give")


@pytest.mark.parametrize("interval", ["00:00:00:01", pytest.param("{seconds: 1}", marks=pytest.mark.slow)])
def test_validation_by_the_clock(command_line: CommandLine, interval: str) -> None:
    Path("clock.yaml").write_text(f"data: {{val_size: 10}}\ntrainer: {{val_check_interval: {interval}}}\n")
    run = command_line.fit("--config=clock.yaml", "--trainer.max_epochs=2")
    assert command_line("fit", "--ckpt_path", run, "--trainer.max_epochs=3") == COMPLETED, command_line.err
    with (run / "history.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1", "2", "3"]
    compared = ["--trainer.max_epochs=1", "--seeds=1", "--batch_sizes=full"]
    assert command_line("compare", "--config=clock.yaml", *compared) == COMPLETED, command_line.err


@pytest.mark.parametrize(("stage", "interval"), [("fit", "00:00:00:00"), ("compare", "{seconds: -1}"), ("fit", "{}")])
def test_validation_at_no_interval(command_line: CommandLine, stage: str, interval: str) -> None:
    Path("clock.yaml").write_text(f"trainer: {{val_check_interval: {interval}}}\n")
    _refused(command_line, [stage, "--config=clock.yaml", "--trainer.max_epochs=1"], "trainer.val_check_interval")


def test_a_thread_of_a_library_that_fails_is_told_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    def fail(error: BaseException) -> None:
        raise error

    with quiet():
        for error in (RuntimeError("no\nstyle"), OSError("a full disk"), SystemExit(1)):
            thread = threading.Thread(target=fail, args=(error,), name="bar")
            thread.start()
            thread.join()
    assert capfd.readouterr().err == "gd_lightning: warning: the thread bar ended, because of RuntimeError: no\n"


@pytest.mark.parametrize("given", [None, "0"])
def test_stages_of_the_profiler_are_said_where_a_person_asks_for_them(
    monkeypatch: pytest.MonkeyPatch, given: str | None
) -> None:
    """torch's profiler writes to standard error by itself; the walk found two lines of it before a refusal."""
    monkeypatch.setenv("KINETO_LOG_LEVEL", given or "")
    if given is None:
        del os.environ["KINETO_LOG_LEVEL"]
    with quiet():
        assert int(os.environ["KINETO_LOG_LEVEL"]) == (6 if given is None else 0)
