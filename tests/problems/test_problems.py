from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from gd_lightning import problems
from gd_lightning.errors import InputError
from gd_lightning.linear_least_squares import least_squares
from gd_lightning.problems import LinearProblem, NoisyLine, Parabola, Problem, Sine, SteepLine, problem_class

ALL: list[Problem] = [
    problems.SteepLine(),
    problems.NoisyLine(),
    problems.FourPoints(),
    problems.ExamScores(),
    problems.Parabola(),
    problems.Sine(),
    problems.LinearProblem(),
    problems.LinearProblem(n_samples=40, n_features=1, n_targets=3, bias=False, condition_number=1.0, noise=0.0),
    problems.LinearProblem(n_features=2, n_targets=2, condition_number=2.0, outliers=0.0505, outlier_size=4.0),
]


def _name(problem: Problem) -> str:
    return type(problem).__name__


@pytest.mark.parametrize("problem", ALL, ids=_name)
def test_every_problem_makes_the_same_finite_data_twice_without_the_global_generators(problem: Problem) -> None:
    before = torch.get_rng_state(), str(np.random.get_state())
    (x, y), (x_again, y_again) = problem.sample(), problem.sample()
    assert x.ndim == y.ndim == 2
    assert len(x) == len(y)
    assert torch.equal(x, x_again)
    assert torch.equal(y, y_again)
    assert torch.isfinite(torch.cat([x, y], dim=1)).all()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert str(np.random.get_state()) == before[1]


@pytest.mark.parametrize("problem", ALL, ids=_name)
def test_every_problem_is_made_again_from_its_hyperparameters(problem: Problem) -> None:
    path = f"{type(problem).__module__}.{type(problem).__qualname__}"
    again = problem_class(path)(**problem.hyperparameters())
    assert torch.equal(again.sample()[1], problem.sample()[1])


@pytest.mark.parametrize("problem", [p for p in ALL if p.irreducible_loss is not None], ids=_name)
def test_the_true_function_leaves_the_irreducible_loss(problem: Problem) -> None:
    """Over many seeds, the mean squared error of the true function is the variance of the noise."""
    losses = []
    for seed in range(200 if hasattr(problem, "seed") else 1):
        drawn = type(problem)(**{**problem.hyperparameters(), **({"seed": seed} if hasattr(problem, "seed") else {})})
        x, y = drawn.sample()
        truth = drawn.function(x)
        assert truth is not None
        losses.append((truth - y).double().square().mean().item())
    error = 4 * np.std(losses) / len(losses) ** 0.5 + 1e-12
    assert problem.irreducible_loss == pytest.approx(np.mean(losses), abs=error)


@pytest.mark.parametrize("problem", [p for p in ALL if p.true_parameters is not None], ids=_name)
def test_least_squares_lies_near_the_truth_and_not_above_it(problem: Problem) -> None:
    x, y = problem.sample()
    truth, function = problem.true_parameters, problem.function(x)
    assert truth is not None
    assert function is not None
    fitted, loss = least_squares(x, y, bias=truth.bias is not None)
    assert loss <= (function - y).double().square().mean().item() + 1e-12
    assert torch.allclose(fitted.flat(), truth.flat(), atol=0.2)


def test_steep_line_is_drawn_as_published() -> None:
    torch.manual_seed(42)
    x = torch.arange(-5, 5, 0.1).view(-1, 1)
    y = -5 * x + 0.4 * torch.randn(100, 1)
    assert torch.equal(SteepLine(seed=42).sample()[1], y)


def test_parabola_is_drawn_as_published() -> None:
    torch.manual_seed(7)
    x = torch.linspace(-1, 1, 100).view(-1, 1)
    assert torch.equal(Parabola(seed=7).sample()[1], x**2 + 0.2 * torch.rand(100, 1))


def test_noisy_line_is_drawn_as_published() -> None:
    np.random.seed(42)
    x = np.random.rand(100, 1)
    y = 1 + 2 * x + 0.1 * np.random.randn(100, 1)
    rows = np.arange(100)
    np.random.shuffle(rows)
    problem = NoisyLine()
    assert np.array_equal(problem.sample()[1].numpy(), y)
    assert problem.split()[0].tolist() == rows[:80].tolist()
    assert problem.split()[1].tolist() == rows[80:].tolist()
    assert problem.start.named() == {"w": -0.13826430117118466, "b": 0.4967141530112327}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("d", [1, 2, 20])
@pytest.mark.parametrize("condition", [1.0, 37.0, 1e4])
def test_the_hessian_has_the_condition_number_asked_for(d: int, bias: bool, condition: float) -> None:
    if d == 1 and not bias and condition != 1:
        with pytest.raises(InputError, match="condition number 1"):
            LinearProblem(n_features=d, bias=bias, condition_number=condition)
        return
    x, _ = LinearProblem(n_samples=60, n_features=d, bias=bias, condition_number=condition).sample()
    design = np.hstack([x.numpy(), np.ones((60, 1))]) if bias else x.numpy()
    eigenvalues = np.linalg.eigvalsh(2 * design.T @ design / 60)
    assert eigenvalues[-1] / eigenvalues[0] == pytest.approx(condition, rel=1e-8)
    assert eigenvalues[-1] == pytest.approx(2.0)


@pytest.mark.parametrize(
    "options",
    [
        {"n_samples": 10, "n_features": 10},
        {"n_features": 0},
        {"n_targets": 0},
        {"condition_number": 0.5},
        {"condition_number": float("nan")},
        {"noise": -1.0},
        {"outliers": 1.1},
        {"outliers": float("nan")},
        {"outlier_size": float("inf")},
        {"outlier_size": -1.0},
    ],
)
def test_a_linear_problem_that_cannot_be_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(InputError):
        LinearProblem(**options)  # type: ignore[arg-type]


def test_outliers_are_as_many_and_as_large_as_asked_for_and_leave_the_others_alone() -> None:
    clean, dirty = LinearProblem(n_samples=200), LinearProblem(n_samples=200, outliers=0.1, outlier_size=7.0)
    (x, y), (x_again, shifted) = clean.sample(), dirty.sample()
    assert torch.equal(x, x_again)
    rows = (shifted != y).any(dim=1).nonzero()[:, 0]
    assert len(rows) == 20
    np.testing.assert_allclose((shifted - y)[rows].abs().numpy(), 7.0)
    assert {-1.0, 1.0} == set((shifted - y)[rows].sign().flatten().tolist())
    truth, truth_again = clean.true_parameters, dirty.true_parameters
    assert torch.equal(truth.flat(), truth_again.flat())


def test_sine_is_the_sine() -> None:
    x, y = Sine(noise=0.0, periods=1.5).sample()
    np.testing.assert_allclose(y.numpy(), np.sin(3 * np.pi * x.numpy()), atol=1e-5)


class Forgetful(Problem):
    def __init__(self, size: int) -> None:
        self._size = size

    def sample(self) -> tuple[Tensor, Tensor]:
        return torch.zeros(self._size, 1), torch.zeros(self._size, 1)


@dataclass
class Unplain(Problem):
    function_: object = print

    def sample(self) -> tuple[Tensor, Tensor]:
        return torch.zeros(1, 1), torch.zeros(1, 1)


def test_a_problem_that_could_not_be_made_again_is_refused() -> None:
    with pytest.raises(InputError, match="'size' is not kept"):
        Forgetful(3).hyperparameters()
    with pytest.raises(InputError, match="not a plain value"):
        Unplain().hyperparameters()


def test_a_problem_is_looked_up_by_name_but_never_imported() -> None:
    assert problem_class("SteepLine") is SteepLine
    for name in ("os.system", "antigravity.Thing", "gd_lightning.problems.problem.Problem"):
        with pytest.raises(InputError, match="import"):
            problem_class(name)
