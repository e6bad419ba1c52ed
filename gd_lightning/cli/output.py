"""What a subcommand ends with: tables on the terminal, predictions as CSV."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from gd_lightning.callbacks import HistoryRecorder, LastCheckpoint
from gd_lightning.callbacks.trainer_info import title_of
from gd_lightning.cli.options.parser import PROGRAM
from gd_lightning.data import RegressionDataModule
from gd_lightning.records.history import Outcome
from gd_lightning.texts import csv_text, in_one_line
from gd_lightning.tracking.run_directory import LAST_CHECKPOINT
from gd_lightning.tracking.summary import aligned, epoch_table, number, run_report

_MOST_COLUMNS = 6  # parameters in the table of epochs


def print_run(recorder: HistoryRecorder, trainer: Trainer) -> None:
    """Print the epochs of a run, what it came to, and where its files are."""
    summary = recorder.summary
    assert summary is not None
    parameters = list(summary.parameters or {})
    columns = parameters if len(parameters) <= _MOST_COLUMNS else []
    print(epoch_table(recorder.history, ["train_loss", "val_loss", *columns]))
    print()
    print(run_report(summary, title_of(trainer)))
    directory = recorder.directory
    if directory is not None:
        print(f"\nfiles        {shown(directory)}")
    kept = next((each.update for each in trainer.checkpoint_callbacks if isinstance(each, LastCheckpoint)), None)
    if recorder.history.outcome is Outcome.DIVERGED and kept not in (None, summary.updates):
        print(f"checkpoint   the weights after update {kept}, the last that were saved before it diverged")
    boards = [Path(each.log_dir) for each in trainer.loggers if isinstance(each, TensorBoardLogger)]
    if boards:
        print(f"to see them  tensorboard --logdir {shown(boards[0].parent)}")
    is_unfinished = recorder.history.outcome is Outcome.INTERRUPTED
    if is_unfinished and directory is not None and (directory / LAST_CHECKPOINT).is_file():
        print(f"to go on     {PROGRAM} fit --ckpt_path {shown(directory)}")


def print_judgement(
    run: str, stage: Literal["validate", "test"], data: RegressionDataModule, results: Mapping[str, float]
) -> None:
    """Print the metrics of a run, and of which samples they are."""
    held_out = data.held_out(stage)
    samples = f"{held_out} held-out samples"
    if not held_out:
        samples = f"its {len(data.train)} training samples, because none were held out for {stage}"
    print(f"{in_one_line(run)}, on {samples}:")
    print(aligned([[name, number(value)] for name, value in results.items()]))


def predictions_csv(data: RegressionDataModule, predictions: Tensor) -> str:
    """Return features and predictions as CSV, with the targets where they are known."""
    x, y = data.prediction_inputs(), data.prediction_targets()
    targets = list(data.problem.target_names or _numbered("y", predictions.shape[1]))
    header = [*(data.problem.feature_names or _numbered("x", x.shape[1])), *(f"predicted_{name}" for name in targets)]
    columns = [x, predictions.to(x)]
    if y is not None:
        header, columns = [*header, *targets], [*columns, y]
    return csv_text([header, *torch.cat(columns, dim=1).tolist()])


def _numbered(letter: str, count: int) -> list[str]:
    return [letter] if count == 1 else [f"{letter}{i}" for i in range(count)]


def from_here(path: Path) -> Path:
    """Return a path as a person would type it from where they stand."""
    path = path.resolve()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def shown(path: Path) -> str:
    """Return a path as :func:`from_here` does, in one line for a terminal."""
    return in_one_line(str(from_here(path)))
