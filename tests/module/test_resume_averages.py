"""Averages of weights are continued from any checkpoint of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EMAWeightAveraging, StochasticWeightAveraging, WeightAveraging

from tests.conftest import MakeTrainer
from tests.module.test_resume import AtTheEndOfEpochs, EveryUpdates, Run, _assert_every_checkpoint_continues

AVERAGING: dict[str, Callable[[], Callback]] = {
    "stochastic": lambda: StochasticWeightAveraging(swa_lrs=0.001, swa_epoch_start=2),
    "every update": WeightAveraging,
    "exponential": lambda: EMAWeightAveraging(decay=0.9),
}
# Lightning warns that no layers are split among devices; none are.
pytestmark = pytest.mark.filterwarnings("ignore:You're using the WeightAveraging callback with a model")


@pytest.mark.parametrize("name", AVERAGING)
@pytest.mark.parametrize("where", ["updates", "epochs"])
def test_from_every_checkpoint(make_trainer: MakeTrainer, tmp_path: Path, name: str, where: str) -> None:
    def callbacks(path: Path) -> list[Callback]:
        return [AVERAGING[name](), AtTheEndOfEpochs(path) if where == "epochs" else EveryUpdates(path, 7)]

    _assert_every_checkpoint_continues(Run(make_trainer, callbacks=callbacks), tmp_path, 3 if where == "epochs" else 2)
