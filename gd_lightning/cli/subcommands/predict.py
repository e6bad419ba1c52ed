"""``predict``: the predictions of a run as CSV."""

from __future__ import annotations

from pathlib import Path

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from gd_lightning.cli.checkpoint_argument import EarlierRun
from gd_lightning.data import RegressionDataModule
from gd_lightning.escaping import csv_text, in_one_line
from gd_lightning.module import RegressionModule
from gd_lightning.tracking.run_directory import claim_file, write_text


def predict(trainer: Trainer, model: RegressionModule, data: RegressionDataModule, run: EarlierRun) -> None:
    """Predict, write the predictions into a CSV file that did not exist before, and say which one.

    Args:
        trainer: The Trainer.
        model: The module, whose weights are those of the run.
        data: What it predicts from.
        run: The run.
    """
    batches = trainer.predict(
        model, datamodule=data, ckpt_path=str(run.checkpoint), weights_only=True, return_predictions=True
    )
    assert batches is not None
    if not trainer.is_global_zero:
        return
    predictions = torch.cat([batch for batch in batches if isinstance(batch, Tensor)])
    text = predictions_csv(data, predictions)
    file = claim_file(run.directory or Path(), "predictions", ".csv")
    try:
        write_text(file, text)
    except BaseException:
        file.unlink()
        raise
    print(in_one_line(f"{len(predictions)} predictions of {run.name} in {file}"))


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
