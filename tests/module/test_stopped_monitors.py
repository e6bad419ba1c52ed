"""A run that is stopped within an epoch and continued: what watches a metric has seen what it sees in one go.

Lightning validates where it is asked to stop, and calls the hooks of an epoch's end on the part of it that was made.
Both would judge the metric once more, which the run in one go does not do there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from gd_lightning import HistoryRecorder, RegressionDataModule, RegressionModule, SteepLine
from tests.conftest import MakeTrainer
from tests.module.test_resume import AtTheEnd, Network, StopAt
from tests.selection import every

EPOCHS = 6  # of 5 updates

pytestmark = [
    pytest.mark.filterwarnings("ignore:ReduceLROnPlateau conditioned on metric"),  # before the first validation
    pytest.mark.filterwarnings("ignore:Checkpoint directory"),  # which the continued run shares
]


class OnPlateau(RegressionModule):
    """Its learning rate follows a metric."""

    interval, monitor = "epoch", "val_loss"

    def build_network(self, in_features: int, out_features: int) -> nn.Module:
        return Network(in_features, out_features)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.004, momentum=0.9)
        scheduler = ReduceLROnPlateau(optimizer, patience=1, threshold=0.3, factor=0.5)
        of_lightning = {"scheduler": scheduler, "monitor": self.monitor, "interval": self.interval, "strict": False}
        return {"optimizer": optimizer, "lr_scheduler": of_lightning}


class OnPlateauOfUpdates(OnPlateau):
    interval = "step"


class OnPlateauOfTrainLoss(OnPlateau):
    interval, monitor = "step", "train_loss"


class Validations(Callback):
    """Notes behind which updates there was a validation."""

    def __init__(self) -> None:
        self.updates: list[int] = []

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.updates.append(trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        return {"updates": list(self.updates)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.updates = state_dict["updates"]


def _monitors(path: Path, patience: int) -> Iterator[Callback]:
    """Yield callbacks that judge metrics in several ways."""
    yield EarlyStopping("val_loss", patience=patience, min_delta=1e9)  # nothing is an improvement
    yield EarlyStopping("train_loss", patience=4, min_delta=1e9, check_on_train_epoch_end=True)
    for k in (1, 3):
        yield ModelCheckpoint(path / f"{k}", f"{{step}}-{k}", "val_loss", save_top_k=k, mode="max" if k == 3 else "min")
    yield Validations()


def _fit(
    make_trainer: MakeTrainer, path: Path, module: type[OnPlateau], checkpoint: Path | None = None, **options: Any
) -> dict[str, Any]:
    """Train; returns all that the metric has decided."""
    torch.manual_seed(0)
    stop, patience = options.pop("stop", None), options.pop("patience")
    made, recorder = module(), HistoryRecorder("auto")
    monitors = list(_monitors(path.parent / "saved", patience))
    callbacks = [recorder, *monitors, *([StopAt(stop)] if stop else []), AtTheEnd(path)]
    options = {"max_epochs": EPOCHS, "enable_checkpointing": True, **options}
    trainer = make_trainer(**options, callbacks=callbacks)
    data = RegressionDataModule(SteepLine(), batch_size=16, val_size=22)
    trainer.fit(made, data, ckpt_path=checkpoint, weights_only=True)
    states = {callback.state_key: callback.state_dict() for callback in monitors}
    for state in states.values():
        # Places differ between the two; the score of the last checkpoint is saved, and not restored.
        for name in ("dirpath", "best_model_path", "kth_best_model_path", "last_model_path", "current_score"):
            state.pop(name, None)
        state["best_k_models"] = {Path(name).name: score for name, score in state.get("best_k_models", {}).items()}
    return {
        "updates": trainer.global_step,
        "weights": nn.utils.parameters_to_vector(made.parameters()).tolist(),
        "lr": trainer.optimizers[0].param_groups[0]["lr"],
        "callbacks": states,
        "files": {str(each.relative_to(path.parent)) for each in (path.parent / "saved").rglob("*.ckpt")},
    }


STOPS = [
    *[(7, "callback"), (12, "max_steps")],
    *(pytest.param(stop, "callback", marks=pytest.mark.slow) for stop in (1, 3, 10, 14, 17)),
    *(pytest.param(stop, "max_steps", marks=pytest.mark.slow) for stop in (2, 4, 9, 15, 18)),
]
# Each is stopped by its patience in the fourth or fifth epoch.
OPTIONS: list[dict[str, Any]] = [
    {"patience": 3},
    {"patience": 7, "val_check_interval": 2},
    {"patience": 6, "val_check_interval": 3, "check_val_every_n_epoch": None},
    {"patience": 1, "check_val_every_n_epoch": 2},
    {"patience": 4, "limit_train_batches": 4},
]


@pytest.mark.parametrize(("stop", "how"), STOPS)
@pytest.mark.parametrize("options", every(2, OPTIONS), ids=str)
@pytest.mark.parametrize("module", [OnPlateau, OnPlateauOfUpdates, OnPlateauOfTrainLoss])
def test_what_watches_a_metric_is_as_in_one_go(
    make_trainer: MakeTrainer, tmp_path: Path, module: type[OnPlateau], options: dict[str, Any], stop: int, how: str
) -> None:
    whole = _fit(make_trainer, tmp_path / "whole/ends", module, **options)
    ends: dict[str, Any] = {"stop": stop} if how == "callback" else {"max_steps": stop}
    part = _fit(make_trainer, tmp_path / "parts/ends", module, **options, **ends)
    assert part["updates"] == stop
    rest = _fit(make_trainer, tmp_path / "parts/rest", module, tmp_path / "parts/ends/end.ckpt", **options)
    assert rest == whole
