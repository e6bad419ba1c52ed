"""TensorBoard, CSV, MLflow and W&B have the same of every run, alone and together, and keep every run."""

from __future__ import annotations

import csv
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from lightning.pytorch.loggers import Logger, MLFlowLogger, WandbLogger

from gd_lightning import History, HistoryRecorder, LastCheckpoint, RegressionDataModule, RegressionModule, compare
from gd_lightning.errors import InputError
from gd_lightning.problems import SteepLine, Table
from gd_lightning.records.history import BY_UPDATE
from tests.conftest import CommandLine, MakeTrainer, StartOthers

wandb: Any = pytest.importorskip("wandb", reason="the loggers of other programs are extras of the tests")
pytest.importorskip("mlflow", reason="the loggers of other programs are extras of the tests")

from tests.callbacks.logged import KINDS, Logged  # noqa: E402  # it imports both
from tests.selection import every  # noqa: E402

pytestmark = [
    # Lightning's logger passes W&B an option that W&B no longer has.
    pytest.mark.filterwarnings("ignore:.*anonymous.*"),
]
ALONE = every(4, [[name] for name in KINDS])
TOGETHER = [[*KINDS], pytest.param([*reversed(KINDS)], marks=pytest.mark.slow)]


@pytest.fixture(autouse=True)
def _without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep what the programs would send, and their files in the home directory, in the test's directory."""
    for name, value in {
        "MLFLOW_ALLOW_FILE_STORE": "true",  # its other store brings a database
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "WANDB_ERROR_REPORTING": "false",
        **{f"WANDB_{name}_DIR": str(tmp_path / "home") for name in ("CACHE", "CONFIG", "DATA")},
    }.items():
        monkeypatch.setenv(name, value)

    connect = socket.socket.connect

    def connect_here(self: socket.socket, address: Any) -> None:
        assert isinstance(address, str) or address[0] in ("127.0.0.1", "localhost", "::1"), address
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_here)
    yield
    wandb.finish()


def _fit(
    make_trainer: MakeTrainer,
    loggers: list[Logger],
    epochs: int = 3,
    order: Literal["shuffled", "sequential"] = "shuffled",
    **options: Any,
) -> HistoryRecorder:
    recorder = HistoryRecorder()
    trainer = make_trainer(
        logger=loggers, callbacks=[recorder, LastCheckpoint()], max_epochs=epochs, enable_checkpointing=True
    )
    data = RegressionDataModule(SteepLine(), batch_size=50, val_size=20, order=order)
    trainer.fit(RegressionModule(lr=0.1), data, weights_only=True, **options)
    wandb.finish()
    return recorder


def _check(logged: Logged, history: History, settings: dict[str, str]) -> None:
    """Compare with the history, whose every row the loggers of a short run have, and with the settings."""
    others = ("update", "samples", "epoch", "seconds", "grad_w", "grad_b", BY_UPDATE)
    columns = [name for name in history.columns if name not in others]
    assert {"train_loss", "val_loss", "batch_loss", "lr", "w", "b", "val_mse"} <= set(columns)
    assert set(columns) <= set(logged.series) <= {*columns, "samples", "epoch", "seconds"}
    for name in columns:
        expected = dict(zip(*history.curve(name), strict=True))
        assert logged.series[name] == pytest.approx(expected, rel=1e-6), name
    assert logged.settings.items() >= settings.items()
    assert logged.results["final/train_loss"] == pytest.approx(history.last("train_loss"), rel=1e-6)
    assert logged.results["final/updates"] == history.last("update")
    assert logged.settings["outcome"] == str(history.outcome)


SETTINGS = {"lr": "0.1", "problem": "SteepLine", "batch_size": "50", "variant": "mini-batch", "data_seed": "0"}


@pytest.mark.parametrize("names", [*ALONE, *TOGETHER], ids=",".join)
def test_two_runs_in_a_row(make_trainer: MakeTrainer, tmp_path: Path, names: list[str]) -> None:
    recorders = [_fit(make_trainer, [KINDS[name].make(tmp_path / name) for name in names]) for _ in range(2)]
    for name in names:
        logged = KINDS[name].read(tmp_path / name)
        assert len(logged) == 2
        for each, recorder in zip(logged, recorders, strict=True):
            _check(each, recorder.history, SETTINGS)
    directories = [recorder.directory for recorder in recorders]
    assert len({*directories}) == 2
    for directory in directories:
        assert directory is not None
        assert directory.is_relative_to(tmp_path / names[0])
        assert {"history.csv", "summary.json", "checkpoints"} <= {file.name for file in directory.iterdir()}


@pytest.mark.parametrize(
    "names", [[*KINDS], *(pytest.param([name], marks=pytest.mark.slow) for name in reversed(KINDS))], ids=",".join
)
def test_on_the_command_line(command_line: CommandLine, tmp_path: Path, names: list[str]) -> None:
    loggers = json.dumps([KINDS[name].options(tmp_path / name) for name in names])
    fit = ("fit", "--data.batch_size", 50, "--data.val_size", 20, "--trainer.max_epochs")
    directories = []
    for _ in range(2):
        assert command_line(*map(str, fit), "3", "--trainer.logger", loggers) == 0, command_line.err
        (line,) = (line for line in command_line.out.splitlines() if line.startswith("files "))
        directories.append(Path(line.split(maxsplit=1)[1]))
        assert command_line.out.startswith("epoch ")
        assert _without_wandb(command_line.err) == ""
    assert len({*directories}) == 2
    # The last one, wherever its logger has put it.
    assert command_line("fit", "--ckpt_path", "last", "--trainer.max_epochs", "5") == 0, command_line.err
    assert f"files        {directories[1]}\n" in command_line.out
    assert _without_wandb(command_line.err) == ""
    histories = [History.from_csv(directory / "history.csv") for directory in directories]
    assert [history.last("epoch") for history in histories] == [3, 5]
    for name in names:
        first, *others = KINDS[name].read(tmp_path / name)
        assert first.series, name
        assert others[-1].series, name
        _check_last(first, histories[0])
        _check_last(others[-1], histories[1])


@pytest.mark.slow
@pytest.mark.parametrize("names", [[*KINDS], [*reversed(KINDS)]], ids=",".join)
def test_of_two_processes_the_first_one_logs(
    command_line: CommandLine,
    start_others: StartOthers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    names: list[str],
) -> None:
    loggers = json.dumps([KINDS[name].options(tmp_path / name) for name in names])
    options = ["--data.batch_size", "50", "--trainer.max_epochs", "3", "--trainer.logger", loggers]
    options += ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--trainer.default_root_dir", str(tmp_path)]
    start_others("-m", "gd_lightning", "fit", *options, cwd=tmp_path)
    monkeypatch.chdir(tmp_path)
    assert command_line("fit", *options[:-2]) == 0, command_line.err
    (file,) = tmp_path.rglob("history.csv")
    history = History.from_csv(file)
    for name in names:
        (logged,) = KINDS[name].read(tmp_path / name)
        _check_last(logged, history)


def _without_wandb(text: str) -> str:
    """Return what a program has said, without what W&B adds in lines of its own."""
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("wandb: "))


def _check_last(logged: Logged, history: History) -> None:
    expected = dict(zip(*history.curve("train_loss"), strict=True))
    assert logged.series["train_loss"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("log_model", [True, "all"])
def test_loggers_that_take_checkpoints_get_the_last(
    make_trainer: MakeTrainer, tmp_path: Path, log_model: Literal[True, "all"]
) -> None:
    mlflow = MLFlowLogger(tracking_uri=f"file:{tmp_path}/mlflow", log_model=log_model)
    board = WandbLogger(save_dir=tmp_path / "wandb", log_model=log_model)
    saved = []
    board.experiment.log_artifact = lambda artifact, aliases: saved.append(artifact)  # it needs a server
    recorder = _fit(make_trainer, [mlflow, board])
    assert recorder.directory is not None
    last = (recorder.directory / "checkpoints" / "last.ckpt").read_bytes()
    (artifact,) = (tmp_path / "mlflow").rglob("artifacts/last/last.ckpt")
    assert artifact.read_bytes() == last
    entry = saved[-1].manifest.entries["model.ckpt"]
    assert Path(entry.local_path).read_bytes() == last


def test_a_run_of_mlflow_is_added_to(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    """What it has is not written twice; another run's settings are refused."""
    first = MLFlowLogger(tracking_uri=f"file:{tmp_path}/mlflow")
    directory = _fit(make_trainer, [first]).directory
    assert directory is not None
    again = MLFlowLogger(tracking_uri=f"file:{tmp_path}/mlflow", run_id=first.run_id)
    recorder = _fit(make_trainer, [again], epochs=5, ckpt_path=directory / "checkpoints" / "last.ckpt")
    assert recorder.directory == directory
    client = again.experiment
    logged = client.get_metric_history(first.run_id, "train_loss")
    assert [(each.step, each.value) for each in logged] == [
        (update, pytest.approx(loss)) for update, loss in zip(*recorder.history.curve("train_loss"), strict=True)
    ]
    another = MLFlowLogger(tracking_uri=f"file:{tmp_path}/mlflow", run_id=first.run_id)
    with pytest.raises(InputError, match="has order shuffled, and this run has sequential; leave run_id out"):
        _fit(make_trainer, [another], order="sequential")
    _fit(make_trainer, [MLFlowLogger(tracking_uri=f"file:{tmp_path}/mlflow")], order="sequential")


COLUMNS = ["a", "a/b", "a_b", "größe", "größf", "привет", "x" * 300, "a\x1b[31m", "..", "_step", "A"]


@pytest.mark.parametrize("name", KINDS)
def test_columns_of_any_name(make_trainer: MakeTrainer, tmp_path: Path, name: str) -> None:
    """Each parameter has a series of its own, whatever a logger can have as a name; no file is elsewhere."""
    values = torch.randn(40, len(COLUMNS) + 1, generator=torch.Generator().manual_seed(0)).tolist()
    with (tmp_path / "table.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([[*COLUMNS, "y"], *values])
    before = {path.name for path in tmp_path.iterdir()}
    problem = Table(str(tmp_path / "table.csv"), targets=["y"])
    recorder = HistoryRecorder()
    trainer = make_trainer(logger=KINDS[name].make(tmp_path / "logs"), callbacks=[recorder], max_epochs=2)
    trainer.fit(RegressionModule(lr=0.01), RegressionDataModule(problem, batch_size=20))
    wandb.finish()
    (logged,) = KINDS[name].read(tmp_path / "logs")
    for i, column in enumerate(COLUMNS):
        weight = [*recorder.history.columns].index(f"w_{column}")
        expected = recorder.history[recorder.history.columns[weight]]
        series = [each for each in logged.series.values() if list(each.values()) == pytest.approx(list(expected))]
        assert len(series) == 1, (i, column, list(logged.series))
    assert {path.name for path in tmp_path.iterdir()} - before <= {"logs", "home"}


REFUSED = {
    "--trainer.logger WandbLogger --trainer.logger.project ../up": "cannot log, because wandb reports: ",
    "--trainer.logger WandbLogger --trainer.logger.id a/b": "cannot log, because wandb reports: ",
    f"--trainer.logger WandbLogger --trainer.logger.id {'x' * 1000}": "cannot log, because wandb reports: ",
    "--trainer.logger MLFlowLogger --trainer.logger.run_id none": "cannot log, because mlflow reports: ",
    "--trainer.logger MLFlowLogger --trainer.logger.tracking_uri nonsense://x": "cannot log, because mlflow reports: ",
    f"--trainer.logger MLFlowLogger --trainer.logger.experiment_name {'x' * 1000}": (
        "cannot log, because mlflow reports: "
    ),
}


@pytest.mark.parametrize("options", REFUSED)
def test_what_their_programs_refuse_is_one_line(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command_line("fit", *options.split()) == 2
    (line,) = _without_wandb(command_line.err).splitlines()
    assert line.startswith(f"gd_lightning: {REFUSED[options]}")
    assert not (tmp_path / "lightning_logs").exists()
    assert command_line("fit", "--trainer.max_epochs", "1") == 0  # without it, as the line says


def test_runs_of_a_comparison_do_not_share_one_of_wandb(tmp_path: Path) -> None:
    options: dict[str, Any] = {"batch_sizes": ["full", 50], "seeds": 1, "model": {"lr": 0.01}}
    with pytest.raises(InputError, match="give a function that makes it"):
        compare(SteepLine(), **options, trainer=_quiet(WandbLogger(save_dir=tmp_path, offline=True)))
    made = compare(SteepLine(), **options, trainer=_quiet(lambda: WandbLogger(save_dir=tmp_path, offline=True)))
    logged = KINDS["W&B"].read(tmp_path)
    assert len(logged) == len(made.rows) == 2
    assert [run.settings["batch_size"] for run in logged] == ["100", "50"]


def _quiet(logger: Any) -> dict[str, Any]:
    return {
        "logger": logger,
        "accelerator": "cpu",
        "max_epochs": 2,
        "log_every_n_steps": 1,
        **dict.fromkeys(("enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False),
    }
