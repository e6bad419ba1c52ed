"""The sharpness while a network trains: against closed forms and autograd, and at the edge of stability."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gd_lightning import (
    Arrays,
    History,
    HistoryRecorder,
    InputError,
    RegressionDataModule,
    RegressionModule,
    SharpnessMonitor,
    SteepLine,
)
from gd_lightning.plots.sharpness import draw_sharpness
from gd_lightning.theory import LinearLoss
from tests.conftest import CommandLine, MakeTrainer


def chebyshev() -> Arrays:
    """Return 20 points of the polynomial of degree 4, the toy problem of Cohen et al., appendix."""
    x = torch.linspace(-1, 1, 20)[:, None]
    return Arrays(x, 8 * x**4 - 8 * x**2 + 1)


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ({"lr": 0.05}, 2 / 0.05),
        ({"lr": 0.02, "momentum": 0.5}, 3 / 0.02),
        ({"lr": 0.02, "momentum": 0.5, "nesterov": True, "weight_decay": 0.3}, 1.5 / 0.02),
    ],
)
def test_on_a_line_it_is_the_known_eigenvalue_and_the_known_limit(
    make_trainer: MakeTrainer, options: dict[str, Any], limit: float
) -> None:
    recorder, said = HistoryRecorder(), list[str]()
    monitor = SharpnessMonitor(every_n_epochs=2, announce=said.append)
    trainer = make_trainer(max_epochs=5, precision="64-true", callbacks=[recorder, monitor])
    trainer.fit(RegressionModule(**options), RegressionDataModule(SteepLine(), batch_size=25))
    x, y = (each.double() for each in SteepLine().sample())
    curvature = LinearLoss.of(x, y).lambda_max + options.get("weight_decay", 0.0)
    updates, found = recorder.history.series("sharpness")
    assert updates.tolist() == [0, 8, 16]
    np.testing.assert_allclose(found, curvature, rtol=1e-6)
    np.testing.assert_allclose(recorder.history.series("sharpness_limit")[1], limit, rtol=1e-12)
    # Noise and alignment at update 0, by the gradients of single samples.
    design = np.hstack([x.numpy(), np.ones((100, 1))])
    w, b = recorder.history["w"][0], recorder.history["b"][0]
    gradients = 2 * (design @ [w, b] - y.numpy()[:, 0])[:, None] * design
    mean = gradients.mean(axis=0)
    noise = (np.square(gradients).sum(axis=1).mean() - mean @ mean) / (mean @ mean)
    assert recorder.history.series("gradient_noise_scale")[1][0] == pytest.approx(noise, rel=1e-6)
    steepest = np.linalg.eigh(design.T @ design)[1][:, -1]
    aligned = abs(mean @ steepest) / math.sqrt(mean @ mean)
    assert recorder.history.series("gradient_alignment")[1][0] == pytest.approx(aligned, rel=1e-5)
    assert len(said) == 1
    assert f"The sharpness is {curvature:.3g}, and the learning rate is stable up to {limit:.3g}" in said[0]


def test_measuring_changes_nothing_and_a_network_of_ones_own_is_measured(make_trainer: MakeTrainer) -> None:
    weights = []
    for callbacks in ([], [SharpnessMonitor(announce=lambda _: None)]):
        torch.manual_seed(0)
        recorder = HistoryRecorder()
        module = RegressionModule(hidden_sizes=[6], dropout=0.2, lr=0.05)
        trainer = make_trainer(max_epochs=3, callbacks=[recorder, *callbacks])
        trainer.fit(module, RegressionDataModule(chebyshev(), batch_size=5))
        weights.append(torch.cat([each.detach().flatten() for each in module.parameters()]))
    assert torch.equal(*weights)
    assert len(recorder.history.series("sharpness")[1]) == 4


def _at_the_edge(make_trainer: MakeTrainer, lr: float, epochs: int, width: int) -> tuple[Any, str]:
    torch.manual_seed(0)
    recorder, said = HistoryRecorder(), list[str]()
    monitor = SharpnessMonitor(every_n_epochs=20, announce=said.append)
    trainer = make_trainer(max_epochs=epochs, precision="64-true", callbacks=[recorder, monitor])
    module = RegressionModule(hidden_sizes=[width, width], activation="tanh", lr=lr)
    trainer.fit(module, RegressionDataModule(chebyshev(), standardize="none"))  # as published
    return recorder.history, said[0]


@pytest.mark.slow
@pytest.mark.parametrize("lr", [0.2, 0.1, 0.05])
def test_the_sharpness_of_an_mlp_rises_to_the_edge_of_stability_and_stays_there(
    make_trainer: MakeTrainer, lr: float
) -> None:
    """As published: from below it rises to 2 / lr, hovers there, and the train loss falls all the same."""
    history, said = _at_the_edge(make_trainer, lr, 4000, 50)
    updates, sharpness = history.series("sharpness")
    share = sharpness * lr / 2
    late = share[updates >= 2000]
    assert 0.9 < np.median(late) < 1.15
    assert (late > 0.75).all()
    assert (late < 1.5).all()
    losses = history["train_loss"]
    assert losses[-1] < 0.1 * losses[0]
    assert (np.diff(losses[-1000:]) > 0).any()  # it swings, and falls in the long run
    assert "at the edge of stability: a smaller lr does not oscillate" in said


def test_the_picture_of_a_run_has_the_sharpness(
    command_line: CommandLine, pictures: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In each format that is asked for."""
    drawn_into = list[Axes]()
    monkeypatch.setattr("gd_lightning.callbacks.pictures.draw_sharpness", lambda axes, _: drawn_into.append(axes))
    options = ["--data.problem", "Sine", "--model.hidden_sizes", "[3]", "--trainer.max_epochs", "3"]
    measured = command_line.fit(*options, "--trainer.callbacks", "SharpnessMonitor", "--formats", "svg,pdf")
    (axes,) = drawn_into
    assert len(axes.figure.canvas.figure.axes) == 4  # Matplotlib 3.9 knows no other way to the whole figure
    assert not (measured / "curves.png").exists()
    assert (measured / "curves.pdf").read_bytes().startswith(b"%PDF")
    assert "batch gradient descent: loss" in (measured / "curves.svg").read_text()
    assert command_line("fit", *options, "--formats", "gif") == 2
    assert "cannot write a picture in the format 'gif'" in command_line.err
    history = History.from_csv(measured / "history.csv")
    assert len(history.series("sharpness")[1]) == 4
    axes = Figure().subplots()
    draw_sharpness(axes, history)
    drawn, limit = axes.lines
    np.testing.assert_allclose(np.asarray(drawn.get_ydata(), dtype=float), history.series("sharpness")[1])
    np.testing.assert_allclose(np.asarray(limit.get_ydata(), dtype=float), 2 / 0.1)


def _measured(
    make_trainer: MakeTrainer, of_monitor: dict[str, int], batch_size: int, engine: str = "auto", **of_trainer: Any
) -> tuple[History, RegressionModule]:
    torch.manual_seed(0)
    recorder = HistoryRecorder(every_n_updates=2)
    callbacks = [recorder, SharpnessMonitor(announce=lambda _: None, **of_monitor)]
    module = RegressionModule(hidden_sizes=[3], activation="tanh", lr=0.1, engine=engine)  # type: ignore[arg-type]
    ckpt = of_trainer.pop("ckpt_path", None)
    trainer = make_trainer(precision="64-true", callbacks=callbacks, **({"max_epochs": 3} | of_trainer))
    trainer.fit(module, RegressionDataModule(chebyshev(), batch_size, standardize="none"), ckpt_path=ckpt)
    if "default_root_dir" in of_trainer:
        trainer.save_checkpoint(f"{trainer.default_root_dir}/end.ckpt")
    return recorder.history, module


def _largest_eigenvalue(module: RegressionModule) -> float:
    """By the whole Hessian of the train loss."""
    data = RegressionDataModule(chebyshev())
    data.setup("fit")
    x, y = (each.double() for each in data.train.take(slice(None)))
    weights = {name: each.detach() for name, each in module.named_parameters()}
    sizes = [each.numel() for each in weights.values()]

    def loss(flat: torch.Tensor) -> torch.Tensor:
        parts = zip(weights.items(), flat.split(sizes), strict=True)
        placed = {name: part.reshape(each.shape) for (name, each), part in parts}
        found: torch.Tensor = (torch.func.functional_call(module, placed, (x,)) - y).square().mean()
        return found

    flat = torch.cat([each.flatten() for each in weights.values()])
    hessian = torch.autograd.functional.hessian(loss, flat)
    return float(torch.linalg.eigvalsh(hessian)[-1])


@pytest.mark.parametrize("engine", ["auto", "autograd"])
def test_it_measures_every_so_many_updates(make_trainer: MakeTrainer, engine: str) -> None:
    """Within epochs of four updates, whatever carries them out; by the weights of runs that end there."""
    history, _ = _measured(make_trainer, {"every_n_updates": 3}, 5, engine)
    updates, sharpness = history.series("sharpness")
    assert updates.tolist() == [0, 3, 6, 9, 12]
    for update in (3, 9):
        _, module = _measured(make_trainer, {"every_n_updates": 99}, 5, engine, max_steps=update)
        assert sharpness[list(updates).index(update)] == pytest.approx(_largest_eigenvalue(module), rel=1e-6)


def test_updates_and_epochs_of_a_full_batch_are_the_same(make_trainer: MakeTrainer) -> None:
    by_updates, _ = _measured(make_trainer, {"every_n_updates": 2}, 20, max_epochs=9)
    by_epochs, _ = _measured(make_trainer, {"every_n_epochs": 2}, 20, max_epochs=9)
    for name in ("sharpness", "sharpness_limit", "gradient_alignment"):
        np.testing.assert_array_equal(by_updates.series(name), by_epochs.series(name))


@pytest.mark.parametrize("update", [6, 7, 9])
def test_a_run_that_is_continued_has_the_same_measurements(
    make_trainer: MakeTrainer, update: int, tmp_path: Path
) -> None:
    """Where it was measured and where not, in a row of an update and not."""
    every = {"every_n_updates": 3}
    whole, _ = _measured(make_trainer, every, 5)
    _measured(make_trainer, every, 5, max_steps=update, default_root_dir=tmp_path)
    continued, _ = _measured(make_trainer, every, 5, ckpt_path=tmp_path / "end.ckpt")
    assert continued.series("sharpness")[0].tolist() == [0, 3, 6, 9, 12]
    for name in ("sharpness", "sharpness_limit", "gradient_noise_scale", "train_loss", "batch_loss"):
        np.testing.assert_array_equal(continued.series(name), whole.series(name))


def test_intervals_that_mean_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="cannot measure every 0 epochs; use a whole number from 1"):
        SharpnessMonitor(every_n_epochs=0)
    with pytest.raises(InputError, match="cannot measure every 0 updates; use a whole number from 1"):
        SharpnessMonitor(every_n_updates=0)
    with pytest.raises(InputError, match="because one of them decides; use every_n_epochs or every_n_updates"):
        SharpnessMonitor(every_n_epochs=1, every_n_updates=5)
