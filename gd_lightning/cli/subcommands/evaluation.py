"""``validate`` and ``test``: the metrics of a run on held-out samples."""

from __future__ import annotations

from typing import Literal

from lightning.pytorch import Trainer

from gd_lightning.cli.checkpoint_argument import EarlierRun
from gd_lightning.data import RegressionDataModule
from gd_lightning.escaping import in_one_line
from gd_lightning.module import RegressionModule
from gd_lightning.tracking.summary import aligned, number


def judge(
    trainer: Trainer,
    model: RegressionModule,
    data: RegressionDataModule,
    run: EarlierRun,
    stage: Literal["validate", "test"],
) -> None:
    """Measure a run, and print its metrics and of which samples they are.

    Args:
        trainer: The Trainer.
        model: The module, whose weights are those of the run.
        data: The data.
        run: The run.
        stage: For what samples were held out.
    """
    measure = trainer.validate if stage == "validate" else trainer.test
    (results,) = measure(model, datamodule=data, ckpt_path=str(run.checkpoint), weights_only=True, verbose=False)
    if not trainer.is_global_zero:
        return
    held_out = data.held_out(stage)
    samples = f"{held_out} held-out samples"
    if not held_out:
        samples = f"its {len(data.train)} training samples, because none were held out for {stage}"
    print(f"{in_one_line(run.name)}, on {samples}:")
    print(aligned([[name, number(value)] for name, value in results.items()]))
