"""``plan`` where the loss is not quadratic: what is said of the start, that it is local, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import gd_lightning
from gd_lightning import RegressionDataModule, RegressionModule
from gd_lightning.data.samples import Samples
from gd_lightning.experiments import make_plan as plan
from gd_lightning.experiments.lr_trial import Trial
from gd_lightning.experiments.plans import local_plan as local_plan
from gd_lightning.losses import mean_loss
from gd_lightning.theory import LinearLoss
from tests.conftest import CONFIGS, CommandLine

Capture = pytest.CaptureFixture[str]
FOUR = ["--data.problem", "FourPoints"]  # where the data do not matter: runs that are made one by one take long


@pytest.fixture
def shorter_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try single samples for a fifth of the updates: enough for the parabola."""
    monkeypatch.setattr(Trial, "most_updates", 300)


@pytest.fixture
def short_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try for few updates, where what is found does not matter."""
    monkeypatch.setattr(Trial, "most_updates", 40)
    monkeypatch.setattr(Trial, "fewest_updates", 10)


def _said(capfd: Capture, *options: str) -> str:
    assert gd_lightning.main(["plan", *options]) == 0
    return capfd.readouterr().out


def _plan(capfd: Capture, *options: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_said(capfd, *options, "--json"))
    return found


@pytest.mark.usefixtures("shorter_trials")
@pytest.mark.parametrize(("config", "batch_size"), [("batch", 100), ("mini_batch", 16), ("stochastic", 1)])
def test_the_parabola(capfd: Capture, config: str, batch_size: int) -> None:
    found = _plan(capfd, "--config", str(CONFIGS / f"parabola_{config}.yaml"))
    assert found["local"] is True
    assert found["sharpness"] == pytest.approx(5.180051, rel=1e-5)
    (configured,) = (row for row in found["rows"] if row["configured"])
    assert configured["batch_size"] == batch_size
    sharpness, beta = found["sharpness"], found["largest_sample_curvature"]
    curvature = 2 * batch_size / (beta + (batch_size - 1) * sharpness) if batch_size < 100 else 2 / sharpness
    assert configured["curvature_limit_lr"] == pytest.approx(curvature, rel=1e-9)
    assert found["rows"][0]["local_limit_lr"] == pytest.approx(2 / sharpness, rel=1e-9)  # the trial bears it out
    limit = configured["local_limit_lr"]
    assert configured["diverging_lr"] / 3 < limit < 0.45 * configured["diverging_lr"]
    assert configured["half_of_limit_lr"] == pytest.approx(limit / 2, rel=1e-9)
    assert configured["verdict"] == "stable here"
    tried = found["trial"][0]
    assert (tried["batch_size"], tried["samples"], tried["updates"]) == (100, 100, 150)
    assert found["samples_of_sharpness"] == found["samples_of_noise"] == 100
    assert found["critical_batch_size"] == pytest.approx(beta / sharpness + 1)


@pytest.mark.usefixtures("short_trials")
def test_the_sharpness_of_the_parabola_is_that_of_its_network() -> None:
    torch.manual_seed(1)
    data = RegressionDataModule(gd_lightning.Parabola())
    module = RegressionModule(hidden_sizes=[10], lr=0.2)
    found = plan(module, data, 100)
    assert isinstance(found, local_plan.LocalPlan)
    assert module.network is not None
    network = RegressionModule(hidden_sizes=[10]).build_network(1, 1).double()
    network.load_state_dict(module.network.state_dict())
    parameters = nn.utils.parameters_to_vector(network.parameters()).detach()
    names, shapes = zip(*((name, p.shape) for name, p in network.named_parameters()), strict=True)

    def loss(flat: torch.Tensor) -> torch.Tensor:
        parts = flat.split([shape.numel() for shape in shapes])
        values = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        prediction = torch.func.functional_call(network, values, (data.train.x.double(),))
        return mean_loss(prediction, data.train.y.double())

    hessian = torch.autograd.functional.hessian(loss, parameters)
    assert found.curvature.sharpness == pytest.approx(torch.linalg.eigvalsh(hessian)[-1].item(), rel=1e-7)


@pytest.mark.usefixtures("shorter_trials")
def test_the_table_says_that_it_is_local(capfd: Capture) -> None:
    out = _said(capfd, "--config", str(CONFIGS / "parabola_stochastic.yaml"))
    assert "local statements, at the start" in out
    assert "local limit of lr" in out
    assert "Above it a run may diverge, or settle where the loss is flatter." in out
    assert "diverges" not in out
    assert out.splitlines()[-1] == (
        "lr 0.2 is below 0.3861, the local limit for batch_size 1 at the start: train, and watch the loss, because the "
        "limit moves."
    )
    assert max(len(line) for line in out.splitlines()) < 160


@pytest.mark.usefixtures("shorter_trials")
@pytest.mark.parametrize(
    ("lr", "verdict", "advice"),
    [
        (
            0.5,
            "unstable here",
            "lr 0.5 is above 0.3861, the local limit for all samples at the start: the run may diverge",
        ),
        (
            9.0,
            "unstable here",
            "lr 9 is above 0.3861, the local limit for batch_size 1 at the start, and is too large: ",
        ),
    ],
)
def test_verdict_and_advice_above_the_limit(capfd: Capture, lr: float, verdict: str, advice: str) -> None:
    found = _plan(capfd, "--config", str(CONFIGS / "parabola_stochastic.yaml"), "--model.lr", str(lr))
    assert found["rows"][-1]["verdict"] == verdict
    assert advice in found["advice"]


def _table(path: Path, n: int = 200, outlier: float = 1.0) -> list[str]:
    """Write eight features and targets of 140000 + 50000 N, and return the options that use them."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 8, generator=generator)
    y = 140_000 + 50_000 * torch.randn(n, 1, generator=generator)
    x[7] *= outlier
    rows = [",".join(f"{value:.6g}" for value in row) for row in torch.cat([x, y], dim=1).tolist()]
    path.write_text("\n".join(["a,b,c,d,e,f,g,h,y", *rows]))
    return ["--data.problem", "Table", "--data.problem.path", str(path), "--data.standardize", "true"]


@pytest.mark.usefixtures("shorter_trials")
@pytest.mark.parametrize(
    ("model", "n"),
    [
        pytest.param(["--model.hidden_sizes", "[64,64]"], 800, marks=pytest.mark.slow),
        (["--model.hidden_sizes", "[8]", "--data.batch_size", "20"], 100),
        (["--model.hidden_sizes", "[8]", "--model.activation", "tanh", "--model.momentum", "0.5"], 100),
        (["--model.hidden_sizes", "[8]", "--model.loss", "huber", "--data.batch_size", "20"], 100),
        pytest.param(["--model.hidden_sizes", "[8]", "--model.dropout", "0.2"], 100, marks=pytest.mark.slow),
    ],
)
def test_what_the_advice_names_is_stable_with_large_targets(
    command_line: CommandLine, tmp_path: Path, model: list[str], n: int
) -> None:
    """Whatever the curvature of the start: a run at the learning rate of the advice learns, for a hundred epochs."""
    options = [*_table(tmp_path / "table.csv", n), *model]
    assert command_line("plan", *options, "--model.lr", "1000", "--json") == 0
    found = json.loads(command_line.out)
    assert found["rows"][0]["verdict"] == "unstable here"
    lr = re.search(r"use lr (\S+)", found["advice"])
    assert lr is not None
    run = command_line.fit(*options, "--model.lr", lr[1], "--trainer.max_epochs", "100")
    assert json.loads((run / "summary.json").read_text())["train_loss_last"] < found["train_loss"]


@pytest.mark.parametrize(
    ("options", "factor"),
    [
        ([], 2.0),
        (["--model.momentum", "0.5"], 3.0),
        (["--model.momentum", "0.5", "--model.nesterov", "true"], 1.5),
    ],
)
def test_of_a_linear_regressor_the_limit_of_all_samples_is_exact(
    capfd: Capture, options: list[str], factor: float
) -> None:
    loss = LinearLoss.of(*gd_lightning.SteepLine().sample())
    found = _plan(capfd, "--model.weight_decay", "0.25", "--model.l1", "1e-3", *options)
    assert found["sharpness"] == pytest.approx(loss.lambda_max + 0.25, rel=1e-6)
    assert found["rows"][0]["local_limit_lr"] == pytest.approx(factor / (loss.lambda_max + 0.25), rel=1e-6)
    out = _said(capfd, "--model.weight_decay", "0.25", "--model.l1", "1e-3", *options)
    assert "is the same everywhere, so the row of the full batch holds for the whole run" in out
    assert "weight_decay is part of sharpness and beta." in out
    assert ("without momentum" in out) == bool(options)


def test_standardised_features_are_those_of_the_network(capfd: Capture) -> None:
    """With one standardised feature the Hessian is 2 I."""
    found = _plan(capfd, "--data.standardize", "true", "--model.l1", "0.1", "--trainer.precision", "64-true")
    assert found["sharpness"] == pytest.approx(2, rel=1e-10)
    assert "l1 has no curvature, and is left out." in found["notes"]


def test_absolute_errors_have_no_limit(capfd: Capture) -> None:
    found = _plan(capfd, "--model.loss", "mae")
    assert found["sharpness"] == 0
    assert {row["local_limit_lr"] for row in found["rows"]} == {None}
    assert found["advice"].startswith("No local limit exists, because the train loss has no positive curvature")
    out = _said(capfd, "--model.loss", "mae", "--data.batch_size", "10")
    assert "none" in out
    assert "no limit here" in out
    assert "Mini-batches" not in out


@pytest.mark.usefixtures("short_trials")
def test_huber_and_dropout_say_what_they_leave_out(capfd: Capture) -> None:
    found = _plan(capfd, "--model.loss", "huber", "--model.hidden_sizes", "[3]", "--model.dropout", "0.5", *FOUR)
    assert [note.split()[0] for note in found["notes"]] == ["huber", "dropout"]


@pytest.mark.usefixtures("short_trials")
def test_many_samples_are_drawn_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def made() -> tuple[str, dict[str, Any]]:
        torch.manual_seed(0)
        data, module = RegressionDataModule(gd_lightning.Sine(n_samples=5000)), RegressionModule(hidden_sizes=[10])
        found = plan(module, data, 100)
        return str(found), json.loads(found.as_json(None))

    with monkeypatch.context() as context:  # to undo all would make the trials long again
        context.setattr(local_plan.LocalPlan, "most_numbers", 31 * 2000)
        context.setattr(local_plan.LocalPlan, "most_jacobians", 300)
        out, drawn = made()
    assert "Estimated from 2,000 of the 5,000 training samples: train loss and sharpness." in out
    assert "Estimated from 300 of the 5,000 training samples: beta and noise scale." in out
    whole = made()[1]
    assert whole["samples_of_sharpness"] == 5000
    for name, part in (("sharpness", 0.05), ("largest_sample_curvature", 0.1), ("gradient_noise_scale", 0.5)):
        assert drawn[name] == pytest.approx(whole[name], rel=part), name


@pytest.mark.parametrize(("n", "most"), [(10, 10), (10, 3), (1000, 999), (7, 1)])
def test_samples_are_drawn_evenly_and_once(n: int, most: int) -> None:
    x = torch.arange(float(n))[:, None]
    rows = local_plan._thinned(Samples(x, x), most).x[:, 0].long().tolist()
    assert len(set(rows)) == len(rows) == most
    assert rows == sorted(rows)
    assert all(i * n // most <= row < (i + 1) * n // most for i, row in enumerate(rows))


@pytest.mark.usefixtures("short_trials")
def test_a_network_of_ones_own(capfd: Capture) -> None:
    assert _plan(capfd, "--model.network", "tests.module.test_regression.Quadratic", *FOUR)["sharpness"] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model.network", "torch.nn.ReLU"], "cannot train ReLU, because it has no parameters"),
        (["--model.momentum", "1"], "cannot plan with momentum 1, because with 1 or more, the error shrinks"),
        (["--optimizer", "Adam", "--model.hidden_sizes", "[3]"], "cannot plan for an optimizer other than SGD"),
        (["--model.hidden_sizes", "[3]", "--data.batch_size", "1000"], "batch_size 1000, because there are only 100"),
        (["--model.hidden_sizes", "[0]"], "hidden_sizes [0] as layer widths"),
        (
            ["--model.network", "torch.nn.BatchNorm1d", "--model.network.num_features", "1"],
            "cannot plan for this network, because BatchNorm1d mixes the samples of a batch; leave it out",
        ),
        (
            ["--model.network", "torch.nn.Linear", "--model.network.in_features=1", "--model.network.out_features=2"],
            "predictions of shape (100, 2) cannot be compared with targets of shape (100, 1)",
        ),
    ],
)
def test_what_cannot_be_planned_is_said_in_one_line(capfd: Capture, options: list[str], message: str) -> None:
    assert gd_lightning.main(["plan", *options]) == 2
    out, err = capfd.readouterr()
    assert message in err
    assert len(err.splitlines()) == 1
    assert out == ""
