"""Reading finished runs: our own, those of other Lightning projects, and what is left of damaged ones."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.summary.writer.record_writer import RecordWriter
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.tensorboard import SummaryWriter

from gd_lightning import HistoryRecorder, RegressionDataModule, RegressionModule, SteepLine
from gd_lightning.errors import InputError
from gd_lightning.records.groups import Group
from gd_lightning.records.history import History, Outcome
from gd_lightning.tracking.run_reader import FinishedRun, find_runs, read_run
from gd_lightning.tracking.tensorboard.groups_of_runs import write_aggregate
from tests.conftest import MakeTrainer


class Theirs(LightningModule):
    """Another project's module, which knows nothing of this package and logs its losses as Lightning's guide does."""

    def __init__(self, learning_rate: float = 0.1, batch_size: int = 4, **how_to_log: bool) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=list(how_to_log))
        self.layer, self.how_to_log = nn.Linear(2, 1), how_to_log
        self.seen: list[float] = []

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss = nn.functional.mse_loss(self.layer(batch[0]), batch[1])
        self.log("train_loss", loss, **self.how_to_log)  # type: ignore[arg-type]
        self.seen.append(loss.item())
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("val_loss", nn.functional.mse_loss(self.layer(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.hparams["learning_rate"])


def _train(root: Path, **how_to_log: bool) -> tuple[Theirs, Path]:
    """Train for 2 epochs of 5 updates; returns the module and the directory of the run."""
    module = Theirs(**how_to_log)
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(1))
    data = TensorDataset(x, x.sum(1, keepdim=True))
    logger = TensorBoardLogger(root, name="lightning_logs")
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    trainer = Trainer(
        accelerator="cpu", max_epochs=2, logger=logger, log_every_n_steps=1, enable_checkpointing=False, **quiet
    )
    trainer.fit(module, DataLoader(data, batch_size=4), DataLoader(data, batch_size=20))
    return module, Path(logger.log_dir)


def test_another_projects_epoch_losses_stand_at_the_ends_of_epochs(tmp_path: Path) -> None:
    module, directory = _train(tmp_path, on_step=False, on_epoch=True)
    run = read_run(directory)
    history = run.history
    assert run.name == "lightning_logs/version_0"
    assert run.source == "train_loss of TensorBoard event files, a mean over each epoch while the weights change"
    assert history["update"].tolist() == [5, 10]
    assert history["epoch"].tolist() == [1, 2]
    assert history["samples"].tolist() == [20, 40]
    assert np.all(np.diff([0, *history["seconds"]]) > 0)
    np.testing.assert_allclose(history["train_loss"], np.reshape(module.seen, (2, 5)).mean(axis=1), rtol=1e-6)
    assert len(history.series("val_loss")[0]) == 2
    assert (run.setting("lr"), run.setting("batch_size"), run.setting("momentum")) == (0.1, 4, None)
    assert (run.summary, history.outcome) == (None, None)


def test_another_projects_batch_losses_are_called_what_they_are(tmp_path: Path) -> None:
    module, directory = _train(tmp_path, on_step=True, on_epoch=False)
    run = read_run(directory)
    assert run.source == "train_loss of TensorBoard event files, of single batches"
    assert run.history["update"].tolist() == list(range(1, 11))
    np.testing.assert_allclose(run.history["epoch"], np.arange(1, 11) / 5)
    np.testing.assert_allclose(run.history["train_loss"], module.seen, rtol=1e-6)
    module, directory = _train(tmp_path, on_step=True, on_epoch=True)
    run = read_run(directory)
    assert run.source.startswith("train_loss_epoch of ")
    assert run.history["update"].tolist() == [5, 10]
    assert find_runs([tmp_path]) == [tmp_path / "lightning_logs" / f"version_{i}" for i in range(2)]


def _scalars(directory: Path, **series: list[float]) -> Path:
    """Write series as a plain training loop does; ``__`` in a name stands for a slash."""
    with SummaryWriter(directory) as writer:
        for name, values in series.items():
            for step, value in enumerate(values):
                writer.add_scalar(name.replace("__", "/"), value, step)
    return directory


@pytest.mark.parametrize(
    ("tags", "train", "validation"),
    [
        (["loss", "train__loss", "val__loss", "test__loss"], "train__loss", "val__loss"),
        (["train_loss_step", "train_loss_epoch", "val_loss"], "train_loss_epoch", "val_loss"),
        (["Loss__train", "Loss__valid", "Loss__test", "accuracy"], "Loss__train", "Loss__valid"),
        (["my_loss", "validation_loss"], "my_loss", "validation_loss"),
        (["updates__train_loss", "epochs__train_loss", "updates__batch_loss"], "updates__train_loss", None),
    ],
)
def test_the_loss_is_found_by_its_name(tmp_path: Path, tags: list[str], train: str, validation: str | None) -> None:
    values = {tag: [float(i), i / 2] for i, tag in enumerate(tags)}
    run = read_run(_scalars(tmp_path, **values))
    assert run.history["train_loss"].tolist() == values[train]
    assert run.source == f"{train.replace('__', '/')} of TensorBoard event files"
    if validation is None:
        assert "val_loss" not in run.history
    else:
        assert run.history["val_loss"].tolist() == values[validation]


def test_what_event_files_do_not_tell_is_nan_and_survives_a_table(tmp_path: Path) -> None:
    directory = _scalars(tmp_path / "plain", loss=[3.0, 2.0, 1.0])
    history = read_run(directory).history
    assert history["update"].tolist() == [0, 1, 2]
    assert np.isnan(history["samples"]).all()
    assert np.isnan(history["epoch"]).all()
    (tmp_path / "history.csv").write_text(history.to_csv())
    again = read_run(tmp_path).history
    assert again["train_loss"].tolist() == [3, 2, 1]
    assert again.series("train_loss", "seconds")[0].tolist() == history["seconds"].tolist()
    band = Group("plain", (history, again)).band("train_loss")
    assert (band.mean.tolist(), band.std.tolist()) == ([3, 2, 1], [0, 0, 0])


def test_a_step_logged_twice_counts_once_and_new_style_scalars_are_scalars(tmp_path: Path) -> None:
    with SummaryWriter(tmp_path) as writer:
        for value in (5.0, 4.0):
            writer.add_scalar("loss", value, 7, new_style=True)
    assert read_run(tmp_path).history.series("train_loss")[1].tolist() == [4.0]


def test_a_loss_that_is_no_number_any_more_has_diverged(tmp_path: Path) -> None:
    run = read_run(_scalars(tmp_path, loss=[3.0, 1e30, math.nan]))
    assert run.history.outcome is Outcome.DIVERGED
    assert "nan" in run.history.reason


def test_our_own_runs_are_read_whole(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    recorder = HistoryRecorder()
    trainer = make_trainer(callbacks=[recorder], max_epochs=3, logs=True)
    trainer.fit(RegressionModule(lr=0.01), RegressionDataModule(SteepLine(), batch_size=16))
    directory = tmp_path / "run"
    config = {"model": {"lr": 0.01}, "data": {"problem": {"class_path": "SteepLine", "init_args": {"seed": 1}}}}
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    run = read_run(directory)
    assert (run.name, run.source) == ("run", "history.csv")
    assert run.history.to_csv() == recorder.history.to_csv()
    assert (run.history.outcome, run.history.reason) == (Outcome.COMPLETED, recorder.history.reason)
    assert run.summary is not None
    assert run.summary["batch_size"] == 16
    assert run.settings["model.lr"] == run.setting("lr") == 0.01
    assert run.settings["data.problem.seed"] == 1
    (directory / "history.csv").unlink()  # as of a run that was killed
    killed = read_run(directory)
    assert killed.source == "updates/train_loss of TensorBoard event files"
    updates, losses = recorder.history.curve("train_loss")
    assert killed.history["update"].tolist() == updates.tolist()
    np.testing.assert_allclose(killed.history["train_loss"], losses, rtol=1e-6)


def test_runs_are_found_in_what_holds_them(tmp_path: Path) -> None:
    for name in ("version_10", "version_2"):
        _scalars(tmp_path / "lightning_logs" / name, loss=[1.0])
    _scalars(tmp_path / "lightning_logs" / "version_3", accuracy=[1.0])  # it failed before it logged a loss
    _scalars(tmp_path / "lightning_logs" / "version_2" / "part", loss=[1.0])
    history = History()
    history.append(update=0, epoch=0, samples=0, seconds=0.0, train_loss=1.0)
    write_aggregate(tmp_path, [Group("sgd", (history,))])
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "history.csv").write_text(history.to_csv())
    versions = [tmp_path / "lightning_logs" / "version_2", tmp_path / "lightning_logs" / "version_10"]
    assert find_runs([tmp_path]) == [*versions, tmp_path / "ours"]
    assert find_runs([tmp_path / "ours", tmp_path]) == [tmp_path / "ours", *versions]
    with pytest.raises(InputError, match="it contains no run"):
        find_runs([tmp_path / "aggregate"])
    with pytest.raises(InputError, match="no such directory"):
        find_runs([tmp_path / "nothing"])


class Trap:
    """Leaves a file where it is unpickled, or made by a YAML tag."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("trapped"),)


def test_hyperparameters_that_are_objects_are_read_as_plain_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _scalars(tmp_path, loss=[2.0, 1.0])
    hparams = {"trap": Trap(), "sizes": (3, 4), "outcome": Outcome.STOPPED, "args": {"batch_size": 8, "lr": 0.5}}
    (tmp_path / "hparams.yaml").write_text(yaml.dump(hparams))
    run = read_run(tmp_path)
    assert not Path("trapped").exists()
    assert run.settings["sizes"] == [3, 4]
    assert run.settings["outcome"] == ["stopped"]
    assert (run.setting("batch_size"), run.setting("lr")) == (8, 0.5)
    assert run.history["samples"].tolist() == [0, 8]
    assert FinishedRun("a", run.history, "", settings={"args.lr": 1, "lr": 2}).setting("lr") == 2


def test_truncated_event_files_give_what_is_left_of_them(tmp_path: Path) -> None:
    (path,) = _scalars(tmp_path, loss=[5.0, 4.0, 3.0, 2.0]).glob("*tfevents*")
    path.write_bytes(path.read_bytes()[:-20])
    assert read_run(tmp_path).history["train_loss"].tolist() == [5, 4, 3]


def test_event_files_with_damaged_content_are_found_and_named(tmp_path: Path) -> None:
    directory = _scalars(tmp_path / "run", loss=[5.0])
    (path,) = directory.glob("*tfevents*")
    with path.open("wb") as file:
        RecordWriter(file).write(b"a record that is whole, and no event")
    assert find_runs([tmp_path]) == [directory]
    with pytest.raises(InputError, match=r"cannot read the TensorBoard event files in .*run, because of") as raised:
        read_run(directory)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "neither history.csv nor TensorBoard event files with a loss"),
        ({"events.out.tfevents.1.host": b""}, "neither history.csv nor TensorBoard event files with a loss"),
        ({"events.out.tfevents.1.host": b"not an event file" * 9}, "neither history.csv nor"),
        ({"history.csv": b""}, "history.csv has no train loss"),
        ({"history.csv": b"update,epoch\n1,x\n"}, "because of line 2"),
        ({"history.csv": b"\xff\xfe\x00"}, "cannot read a history from"),
        ({"summary.json": b'{"outcome": "wonderful", "reason": ""}'}, "cannot read how a run ended"),
        ({"summary.json": b"["}, "cannot read how a run ended"),
        ({"config.yaml": b"a: [1"}, "cannot read the settings of a run"),
        ({"config.yaml": b"- 1"}, "cannot read the settings of a run"),
        ({"hparams.yaml": b"a: &a\n  b: *a"}, "cannot read the settings of a run"),
    ],
)
def test_damaged_files_are_named_in_one_line(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    if not {"history.csv", "events.out.tfevents.1.host"} & set(files) and files:
        (tmp_path / "history.csv").write_text("update,epoch,samples,seconds,train_loss\n0,0,0,0,1\n")
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as raised:
        read_run(tmp_path)
    text = str(raised.value)
    assert "\n" not in text
    assert str(tmp_path) in text


def test_a_summary_is_read_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_text("update,epoch,samples,seconds,train_loss\n0,0,0,0,1\n")
    (tmp_path / "summary.json").write_text(json.dumps({"outcome": "diverged", "reason": "lr beyond the limit"}))
    history = read_run(tmp_path).history
    assert (history.outcome, history.reason) == (Outcome.DIVERGED, "lr beyond the limit")
