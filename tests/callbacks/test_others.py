from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.image
import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor, nn

from gd_lightning import (
    FourPoints,
    HistoryRecorder,
    LastCheckpoint,
    NoisyLine,
    Parabola,
    Pictures,
    PrintUpdates,
    Problem,
    RegressionDataModule,
    RegressionModule,
    SteepLine,
)
from gd_lightning.errors import InputError
from gd_lightning.tracking.checkpoint_file import write_checkpoint
from tests.conftest import MakeTrainer
from tests.other_projects import ModuleWithoutForward


def test_the_last_checkpoint_is_the_end_and_holds_plain_values(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    module, data = RegressionModule(lr=0.1), RegressionDataModule(SteepLine())
    make_trainer(callbacks=[LastCheckpoint()], max_epochs=3, logs=True, enable_checkpointing=True).fit(module, data)
    (path,) = (tmp_path / "run" / "checkpoints").iterdir()
    checkpoint = torch.load(path, weights_only=True)
    assert checkpoint["global_step"] == 3
    assert torch.equal(checkpoint["state_dict"]["network.weight"], module.state_dict()["network.weight"])
    assert "_instantiator" not in checkpoint["hyper_parameters"]
    with pytest.raises(InputError, match="interval"):
        LastCheckpoint(interval=0)


@pytest.mark.parametrize(
    ("batch_size", "updates"),
    [("full", [0, 1, 2, 3]), (50, [0, 1, 2, 3, 4, 5, 6])],  # at the start, behind updates and epochs, and at the end
)
def test_a_run_is_saved_at_intervals(
    make_trainer: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: Any, updates: list[int]
) -> None:
    saved: list[int] = []

    def write(content: dict[str, Any], path: Path) -> None:
        saved.append(content["global_step"])
        write_checkpoint(content, path)

    monkeypatch.setattr("gd_lightning.module.checkpoints.write_checkpoint", write)
    trainer = make_trainer(
        callbacks=[LastCheckpoint(interval=1e-9)], max_epochs=3, logs=True, enable_checkpointing=True
    )
    trainer.fit(RegressionModule(lr=0.01), RegressionDataModule(SteepLine(), batch_size=batch_size))
    assert saved == updates


def test_options_that_could_not_be_loaded_again_are_refused_before_training(make_trainer: MakeTrainer) -> None:
    class Stateful(Callback):
        def state_dict(self) -> dict[str, Any]:
            return {"path": Path()}

    trainer = make_trainer(callbacks=[LastCheckpoint(), Stateful()], max_epochs=3, logs=True, enable_checkpointing=True)
    with pytest.raises(InputError, match="plain values and tensors"):
        trainer.fit(RegressionModule(lr=0.1), RegressionDataModule(SteepLine()))
    assert trainer.global_step == 0


def test_the_first_update_is_shown_as_published(make_trainer: MakeTrainer, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = make_trainer(callbacks=[PrintUpdates()], max_epochs=3, precision="64-true")
    trainer.fit(RegressionModule(lr=0.1), RegressionDataModule(NoisyLine()))
    shown = capsys.readouterr().out
    for figure in ("2.742157", "-3.0448114", "-1.8337537", "0.80119529", "0.04511107"):
        assert figure in shown
    assert shown.count("update ") == 1
    with pytest.raises(InputError, match="0 updates"):
        PrintUpdates(updates=0)


def test_of_an_update_that_asks_again_the_beginning_is_shown(
    make_trainer: MakeTrainer, capsys: pytest.CaptureFixture[str]
) -> None:
    """LBFGS does; loss and gradient of its first question follow from the start."""
    lbfgs = {"class_path": "torch.optim.LBFGS", "init_args": {"lr": 0.1, "max_iter": 4}}
    module = RegressionModule(initialization={"weight": 2.0, "bias": 0.5}, optimizer=lbfgs)
    make_trainer(callbacks=[PrintUpdates(updates=2)], max_epochs=3).fit(module, RegressionDataModule(FourPoints()))
    first, second = capsys.readouterr().out.split("update 1,")[1].split("update 2,")
    x, y = (part.double() for part in FourPoints().sample())
    residual = 2 * x + 0.5 - y
    named = ("batch loss", "weight: gradient", "bias: gradient")
    shown = [float(first.split(name)[1].split()[0].rstrip(",")) for name in named]
    expected = [residual.square().mean(), 2 * (residual * x).mean(), 2 * residual.mean()]
    assert shown == pytest.approx([value.item() for value in expected], rel=1e-6)
    assert ", 2 -> " in first
    assert f", {first.split(', 2 -> ')[1].splitlines()[0]} -> " in second


def test_showing_steps_changes_nothing_and_shows_the_loss_without_penalty(
    make_trainer: MakeTrainer, capsys: pytest.CaptureFixture[str]
) -> None:
    states = []
    for callbacks in ([], [PrintUpdates(updates=3)]):
        torch.manual_seed(0)
        module = RegressionModule(lr=0.1, hidden_sizes=[10], dropout=0.3)
        make_trainer(max_epochs=3, callbacks=callbacks).fit(module, RegressionDataModule(Parabola(), batch_size=16))
        states.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
    assert torch.equal(*states)
    trainer = make_trainer(callbacks=[PrintUpdates()], max_epochs=1)
    trainer.fit(RegressionModule(lr=0.1, l1=10), RegressionDataModule(SteepLine()))
    assert "batch loss   599.12" in capsys.readouterr().out


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize(("problem", "hidden_sizes", "panels"), [(SteepLine(), [], 3), (Parabola(), [3], 3)])
def test_pictures_are_drawn(
    make_trainer: MakeTrainer, tmp_path: Path, problem: Problem, hidden_sizes: list[int], panels: int
) -> None:
    trainer = make_trainer(callbacks=[HistoryRecorder(), Pictures()], max_epochs=3, logs=True)
    trainer.fit(RegressionModule(lr=0.1, hidden_sizes=hidden_sizes), RegressionDataModule(problem))
    image = matplotlib.image.imread(tmp_path / "run" / "curves.png")
    height, width, _ = image.shape
    rows = -(-panels // 2)
    assert width / height == pytest.approx(2 * 4.8 / (rows * 3.8), rel=0.01)
    for i in range(panels):  # something is drawn in each
        top, left = i // 2 * height // rows, i % 2 * width // 2
        assert image[top : top + height // rows, left : left + width // 2].std() > 0.05


@pytest.mark.usefixtures("pictures")
def test_a_diverged_run_is_drawn_too(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    for lr in (0.2, 1e3):
        trainer = make_trainer(callbacks=[HistoryRecorder(), Pictures()], max_epochs=60, logs=True)
        trainer.fit(RegressionModule(lr=lr), RegressionDataModule(SteepLine()))
        assert (tmp_path / "run" / "curves.png").stat().st_size > 1000


def test_a_module_without_forward_is_refused_before_it_trains(make_trainer: MakeTrainer) -> None:
    class Predicting(ModuleWithoutForward):
        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.network(x)
            return result

    alone, data = ModuleWithoutForward(nn.Linear(1, 1)), RegressionDataModule(SteepLine())
    with pytest.raises(InputError, match=r"loss of ModuleWithoutForward, because it has no forward.*; define forward"):
        make_trainer(max_epochs=1, callbacks=[HistoryRecorder()]).fit(alone, data)
    trainer = make_trainer(max_epochs=1, callbacks=[HistoryRecorder()])
    trainer.fit(Predicting(nn.Linear(1, 1)), data)
    assert trainer.global_step == 1
