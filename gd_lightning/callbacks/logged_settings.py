"""The settings of a run that loggers write: TensorBoard's hyperparameters, MLflow's parameters, W&B's config."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer

from gd_lightning.callbacks.trainer_info import learning_rate, problem_of
from gd_lightning.random_numbers import start_seed
from gd_lightning.variants import Variant


def settings_of_run(trainer: Trainer, pl_module: LightningModule, variant: Variant | None) -> dict[str, Any]:
    """Return the settings of a run."""
    problem = problem_of(trainer)
    settings = dict(getattr(getattr(trainer, "datamodule", None), "hparams", {}))
    settings["data_seed"] = settings.pop("seed", None)
    settings["problem"] = None if problem is None else type(problem).__name__
    if problem is not None:
        settings |= {f"problem.{name}": value for name, value in problem.hyperparameters().items()}
    settings |= pl_module.hparams
    if variant is not None:
        settings |= {"variant": variant.name, "batch_size": variant.batch_size}
    # In a continued run, a scheduler may have changed the learning rate.
    lr = trainer.optimizers[0].param_groups[0].get("initial_lr", learning_rate(trainer))
    return {**settings, "lr": float(lr), "seed": start_seed()}
