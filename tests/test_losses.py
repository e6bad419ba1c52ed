"""The losses: each form of each of them against the others, and what it takes to add one."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from gd_lightning import LinearProblem, RegressionDataModule, RegressionModule, compare, sweep
from gd_lightning.errors import InputError, ShapeError
from gd_lightning.losses import LOSSES, Loss, LossForms, forms_of, mean_loss, summed_loss
from tests.conftest import ROOT, MakeTrainer

# A loss that the package does not have, written as its file would have it; log(cosh e) is near abs(e) - log 2 far away.
LOG_COSH = """
def _log_cosh(error, delta):
    size = abs(error)
    return size + math.log1p(math.exp(-(size + size))) - type(error)(math.log(2.0)), math.tanh(error)


LOSSES["log_cosh"] = LossForms(
    elementwise=lambda prediction, target, delta: (
        F.softplus(2 * (prediction - target)) - (prediction - target) - math.log(2.0)
    ),
    slope=lambda error, delta: error.tanh(),
    value_and_slope=_log_cosh,
)
"""
DELTAS = [0.3, 1.0, 2.5]


@pytest.fixture
def log_cosh(monkeypatch: pytest.MonkeyPatch) -> LossForms:
    added = dict(LOSSES)
    exec(LOG_COSH, {"LOSSES": added, "LossForms": LossForms, "F": torch.nn.functional, "math": math})
    monkeypatch.setitem(LOSSES, "log_cosh", added["log_cosh"])
    return added["log_cosh"]


def _errors() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    drawn = 2 * torch.randn(40, generator=generator, dtype=torch.float64)
    return torch.cat([drawn, torch.tensor([0.0, -0.0, *DELTAS, *(-delta for delta in DELTAS), 700.0, -700.0])])


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("loss", [*LOSSES, "log_cosh"])
def test_all_forms_of_a_loss_agree(loss: str, delta: float, log_cosh: LossForms) -> None:
    forms, errors = forms_of(loss), _errors()
    zero = torch.zeros_like(errors)
    prediction = errors.clone().requires_grad_()
    elements = forms.elementwise(prediction, zero, delta)
    (slopes,) = torch.autograd.grad(elements.sum(), prediction)
    torch.testing.assert_close(forms.slope(errors, delta), slopes)
    pairs = [forms.value_and_slope(np.float64(error), np.float64(delta)) for error in errors.tolist()]
    losses_and_slopes = torch.stack([elements.detach(), slopes], dim=1)
    torch.testing.assert_close(torch.tensor(pairs, dtype=torch.float64), losses_and_slopes)
    step = 1e-6  # of a central difference
    above, below = (forms.elementwise(errors + sign * step, zero, delta) for sign in (1, -1))
    smooth = [abs(abs(error) - kink) > 1e-3 for error in errors.tolist() for kink in [0.0 if loss == "mae" else delta]]
    difference = (above - below) / (2 * step)
    torch.testing.assert_close(difference[smooth], slopes[smooth], rtol=1e-5, atol=1e-6)


def test_every_name_has_its_forms_and_another_one_is_refused() -> None:
    assert list(LOSSES) == list(get_args(Loss))
    with pytest.raises(InputError, match="hinge"):
        forms_of("hinge")
    with pytest.raises(InputError, match="hinge"):
        RegressionModule(loss="hinge")  # type: ignore[arg-type]


def test_compiled_code_asks_the_form_in_the_place_of_a_loss(log_cosh: LossForms) -> None:
    pytest.importorskip("numba")
    from gd_lightning.engine import kernels
    from gd_lightning.engine.compiling import compiler

    choose = kernels.choose_loss([forms.value_and_slope for forms in LOSSES.values()])

    @compiler()  # what is chosen is called from compiled code alone
    def chosen(error: float, place: int, delta: float) -> Any:
        return choose(error, place, delta)

    for place, forms in enumerate(LOSSES.values()):
        for error in (-2.0, 0.3, 4.0):
            expected = forms.value_and_slope(np.float64(error), np.float64(0.7))
            assert chosen(error, place, 0.7) == pytest.approx(expected, rel=1e-14)


def test_a_loss_is_added_by_its_forms_alone(log_cosh: LossForms, make_trainer: MakeTrainer) -> None:
    """Training, comparison and sweep descend it, and end at the minimum that a loop in NumPy finds."""
    problem, epochs, lr = LinearProblem(n_samples=20, n_features=2, noise=1.0), 200, 1.0
    data = RegressionDataModule(problem, batch_size="full")
    module = RegressionModule(lr=lr, loss="log_cosh", engine="autograd")  # type: ignore[arg-type]
    make_trainer(max_epochs=epochs).fit(module, data)
    x, y = (part.double().numpy() for part in problem.sample())
    design, theta = np.column_stack([x, np.ones(len(x))]), np.zeros((3, 1))
    for _ in range(epochs):
        theta -= lr * design.T @ np.tanh(design @ theta - y) / len(x)
    found = torch.cat([parameter.detach().flatten() for parameter in module.parameters()])
    torch.testing.assert_close(found.double(), torch.from_numpy(theta[:, 0]), rtol=1e-4, atol=1e-5)
    expected = float(np.log(np.cosh(design @ theta - y)).mean())
    options: dict[str, Any] = {"model": {"loss": "log_cosh", "engine": "autograd"}, "max_epochs": epochs, "seeds": 1}
    compared = compare(problem, batch_sizes=["full"], lrs=[lr], **options)
    (histories,) = compared.histories.values()
    assert histories[0].last("train_loss") == pytest.approx(expected, rel=1e-4)
    swept = sweep(problem, batch_sizes="full", lrs=[lr / 2, lr], **options)
    assert swept.last.ravel().tolist() == pytest.approx([expected, expected], rel=1e-4)


@pytest.mark.slow
def test_a_loss_that_is_added_to_its_file_is_trained_by_every_command_and_engine(tmp_path: Path) -> None:
    package = tmp_path / "gd_lightning"
    shutil.copytree(ROOT / "gd_lightning", package, ignore=shutil.ignore_patterns("__pycache__"))
    text = (package / "losses.py").read_text().replace('"huber"]', '"huber", "log_cosh"]', 1)
    text = text.replace("from collections.abc", "import math\nfrom collections.abc", 1)
    (package / "losses.py").write_text(text + LOG_COSH)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "compiled")}
    options = ["--model.loss", "log_cosh", "--data.batch_size", "5"]

    def run(*arguments: str) -> None:
        command = [sys.executable, "-m", "gd_lightning", *arguments, *options]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    ends = []
    for engine in ("fused", "autograd"):
        for network in ([], ["--model.hidden_sizes", "[4]"]):
            run("fit", "--model.engine", engine, *network)
            newest = max((tmp_path / "lightning_logs").iterdir(), key=lambda path: path.stat().st_mtime)
            ends.append(float((newest / "history.csv").read_text().split()[-1].split(",")[2]))
    assert ends[:2] == pytest.approx(ends[2:], rel=1e-3)
    run("fit", "--trainer.precision", "64-true")
    run("fit", "--ckpt_path", "last", "--trainer.max_epochs", "25")
    for command in ("plan", "compare", "sweep"):
        run(command)


def test_no_other_file_lists_the_losses() -> None:
    """A list that is complete today is wrong as soon as a loss is added."""
    of_all = re.compile(r"\bmse\b[^.;\n]*\bmae\b[^.;\n]* or (the )?\bhuber\b")
    found = [path for path in (ROOT / "gd_lightning").rglob("*.py") if of_all.search(path.read_text("utf-8"))]
    assert [path.name for path in found if path.name != "losses.py"] == []


def _numpy(loss: Loss, error: np.ndarray[tuple[int, ...], np.dtype[np.float64]], delta: float) -> float:
    absolute = np.abs(error)
    if loss == "mse":
        return float((error**2).mean())
    if loss == "mae":
        return float(absolute.mean())
    return float(np.where(absolute < delta, error**2 / 2, delta * (absolute - delta / 2)).mean())


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("delta", [0.3, 1.0, 2.5])
def test_mean_loss_equals_its_definition_in_numpy(loss: Loss, delta: float) -> None:
    prediction, target = torch.randn(13, 3, dtype=torch.float64), torch.randn(13, 3, dtype=torch.float64)
    expected = _numpy(loss, (prediction - target).numpy(), delta)
    assert mean_loss(prediction, target, loss, delta).item() == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("loss", LOSSES)
def test_sums_of_parts_add_up_and_an_empty_part_has_a_gradient(loss: Loss) -> None:
    prediction = torch.randn(7, 2, dtype=torch.float64, requires_grad=True)
    target = torch.randn(7, 2, dtype=torch.float64)
    parts = [summed_loss(prediction[rows], target[rows], loss) for rows in (slice(0, 3), slice(3, 3), slice(3, 7))]
    total = torch.stack(parts).sum()
    assert total.item() == pytest.approx(summed_loss(prediction, target, loss).item(), rel=1e-14)
    total.backward()
    assert prediction.grad is not None
    assert torch.isfinite(prediction.grad).all()


def test_squared_error_has_no_half() -> None:
    w = torch.tensor([[3.0]], requires_grad=True)
    mean_loss(w, torch.tensor([[1.0]])).backward()
    assert w.grad is not None
    assert w.grad.item() == 4.0  # d (w - 1)^2 / dw = 2 (w - 1)


@pytest.mark.parametrize("shapes", [((5, 1), (5,)), ((5,), (5, 1)), ((5,), (5,)), ((5, 1), (4, 1)), ((5, 1), (5, 2))])
def test_shapes_that_torch_would_broadcast_are_refused_with_both(
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
) -> None:
    with pytest.raises(ShapeError) as caught:
        mean_loss(torch.zeros(shapes[0]), torch.zeros(shapes[1]))
    assert str(shapes[0]) in str(caught.value)
    assert str(shapes[1]) in str(caught.value)
