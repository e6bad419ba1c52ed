"""``validate`` and ``test``: the metrics of a run on held-out samples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import Trainer

from gd_lightning.cli.checkpoint_argument import EarlierRun
from gd_lightning.cli.framework_messages import weights_alone
from gd_lightning.cli.subcommands.described_data import say_what_was_read
from gd_lightning.cli.terminal import warn
from gd_lightning.data import RegressionDataModule
from gd_lightning.escaping import in_one_line
from gd_lightning.module import RegressionModule, is_finite
from gd_lightning.tracking.atomic_writes import write_json
from gd_lightning.tracking.run_directory import new_file
from gd_lightning.tracking.summary import aligned, number
from gd_lightning.versions import versions


def judge(
    trainer: Trainer,
    model: RegressionModule,
    data: RegressionDataModule,
    run: EarlierRun,
    stage: Literal["validate", "test"],
) -> None:
    """Evaluate a run, print its metrics with the number of samples, and write them into a new file of the run.

    Args:
        trainer: The Trainer.
        model: The module, into which the weights of the run are loaded.
        data: The data.
        run: The run.
        stage: The subcommand, which chooses the held-out samples.
    """
    measure = trainer.validate if stage == "validate" else trainer.test
    with weights_alone():
        (results,) = measure(model, datamodule=data, ckpt_path=str(run.checkpoint), weights_only=True, verbose=False)
    if not trainer.is_global_zero:
        return
    say_what_was_read(data)
    held_out = data.held_out(stage)
    samples = f"{held_out} held-out samples"
    path = getattr(data.problem, "path", None)
    is_other = run.has_other_table(path)
    if is_other:
        samples = f"the {len(data.train)} samples of {data.problem.label}"
    elif not held_out:
        samples = f"its {len(data.train)} training samples, because none were held out for {stage}"
    print(f"{in_one_line(run.name)}, on {samples}:")
    print(aligned([[name, number(value)] for name, value in results.items()]))
    loss = results.get("val_loss" if stage == "validate" else "test_loss", 0.0)
    if not math.isfinite(loss) and is_finite(model):
        warn(f"the loss is {loss}, because a prediction, or the square of an error, is too large for the precision")
    if run.directory is not None:
        assert run.checkpoint is not None
        about = {"checkpoint": run.checkpoint.name, "samples": held_out or len(data.train), "held_out": bool(held_out)}
        table = {"table": path} if is_other else {}
        _write(run.directory, stage, {**about, **table, **results})


def _write(directory: Path, stage: str, values: Mapping[str, Any]) -> None:
    """Write values and versions into a new file; warn if that is impossible, since they have been printed."""
    try:
        with new_file(directory, stage, ".json") as file:
            write_json(file, {"versions": versions(), **values})
    except OSError as error:
        warn(f"cannot write the metrics into {directory}: {(error.strerror or str(error)).lower()}")
