"""``predict``: the predictions of a run as CSV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from gd_lightning.cli.checkpoint_argument import EarlierRun
from gd_lightning.cli.framework_messages import weights_alone
from gd_lightning.data import RegressionDataModule
from gd_lightning.escaping import csv_text, in_one_line
from gd_lightning.module import RegressionModule, predicted_in_float64, refuse_overflow
from gd_lightning.problems.arrays import default_names
from gd_lightning.tracking.atomic_writes import write_text
from gd_lightning.tracking.run_directory import new_file


def predict(trainer: Trainer, model: RegressionModule, data: RegressionDataModule, run: EarlierRun) -> None:
    """Predict, write the predictions into a new CSV file, and print its path.

    Args:
        trainer: The Trainer.
        model: The module, into which the weights of the run are loaded.
        data: The data with the inputs to predict at.
        run: The run.

    Raises:
        InputError: A prediction is beyond the precision.
    """
    with weights_alone():
        batches = trainer.predict(
            model, datamodule=data, ckpt_path=str(run.checkpoint), weights_only=True, return_predictions=True
        )
    assert batches is not None
    if not trainer.is_global_zero:
        return
    predictions = torch.cat([batch for batch in batches if isinstance(batch, Tensor)])
    refuse_overflow(
        predictions, model, lambda row: predicted_in_float64(model, data.prediction_inputs()[row : row + 1])
    )
    text = predictions_csv(data, predictions)
    with new_file(run.directory or Path(), "predictions", ".csv") as file:
        write_text(file, text)
    print(in_one_line(f"{len(predictions)} predictions of {run.name} in {file}"))


def predictions_csv(data: RegressionDataModule, predictions: Tensor) -> str:
    """Return the rows of a table as they were given, with the predictions in further columns, as CSV.

    A row that is left out because of a missing value has empty predictions. For data that are not a table, the columns
    are the features, the predictions and, if they are known, the targets.
    """
    targets = list(data.problem.target_names or default_names("y", predictions.shape[1]))
    names = [f"predicted_{name}" for name in targets]
    rows = data.problem.rows_as_given(data.predict_inputs)
    if rows is not None:
        return csv_text(_with_predictions(rows, names, predictions.double().tolist()))
    x, y = data.prediction_inputs(), data.prediction_targets()
    header = [*(data.problem.feature_names or default_names("x", x.shape[1])), *names]
    columns = [x, predictions.to(x)]
    if y is not None:
        header, columns = [*header, *targets], [*columns, y]
    return csv_text([header, *torch.cat(columns, dim=1).tolist()])


def _with_predictions(
    rows: Iterator[tuple[Sequence[object], bool]], names: Sequence[str], predictions: Sequence[Sequence[float]]
) -> Iterator[Sequence[object]]:
    """Yield the header and each row with its predictions; existing columns keep their names."""
    header, _ = next(rows)
    yield [*header, *(_new(name, header) for name in names)]
    values = iter(predictions)
    for cells, is_used in rows:
        yield [*cells, *(next(values) if is_used else [None] * len(names))]


def _new(name: str, header: Sequence[object]) -> str:
    """Return the name, with a number appended if a column already has it."""
    others = (f"{name}_{i}" for i in count(2))
    return name if name not in header else next(other for other in others if other not in header)
