"""Curvature of networks: against full Hessians, explicit Jacobians, and runs on both sides of the limit."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from gd_lightning import LinearProblem, Parabola
from gd_lightning.errors import InputError, ShapeError, StartError
from gd_lightning.losses import Loss, mean_loss, summed_loss
from gd_lightning.models import LinearRegressor, MLPRegressor
from gd_lightning.theory import (
    LinearLoss,
    LocalCurvature,
    LocalOutcome,
    LocalVerdict,
    NetworkLoss,
    largest_stable_lr,
)
from gd_lightning.update_rule import UpdateRule
from gd_lightning.variants import Variant
from tests.theory.training import gradients_of


def _data(outputs: int = 1, n: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 2, generator=generator), torch.randn(n, outputs, generator=generator)


def _loss(network: nn.Module, x: Tensor, y: Tensor, loss: Loss = "mse", size: int = 5) -> NetworkLoss:
    return NetworkLoss(network, partial(summed_loss, loss=loss), lambda: zip(x.split(size), y.split(size), strict=True))


def _function(
    network: nn.Module, x: Tensor, y: Tensor, loss: Loss = "mse"
) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """Return the mean loss as a function of all parameters, and these, by another way than the code under test."""
    network = copy.deepcopy(network).double().eval()
    names, shapes = zip(*((name, p.shape) for name, p in network.named_parameters()), strict=True)

    def of(flat: Tensor) -> Tensor:
        parts = flat.split([shape.numel() for shape in shapes])
        values = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        return mean_loss(torch.func.functional_call(network, values, (x.double(),)), y.double(), loss)

    return of, nn.utils.parameters_to_vector(network.parameters()).detach()


def _hessian(network: nn.Module, x: Tensor, y: Tensor, loss: Loss = "mse") -> Tensor:
    found = torch.autograd.functional.hessian(*_function(network, x, y, loss))
    assert isinstance(found, Tensor)
    return found


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("loss", ["mse", "huber", "mae"])
def test_the_sharpness_is_the_largest_eigenvalue_of_the_hessian(activation: str, outputs: int, loss: Loss) -> None:
    x, y = _data(outputs)
    network = MLPRegressor(2, outputs, [4], activation)  # type: ignore[arg-type]  # a parameter is a str
    hessian = _hessian(network, x, y, loss)
    eigenvalues = torch.linalg.eigvalsh(hessian)
    assert eigenvalues[0] < -1e-3  # it is indefinite
    found = _loss(network, x, y, loss)
    assert found.sharpness() == pytest.approx(eigenvalues[-1].item(), rel=1e-7)
    vector = torch.randn(len(hessian), dtype=torch.float64)
    torch.testing.assert_close(found.hessian_product(vector), hessian @ vector, rtol=1e-10, atol=1e-12)
    value, gradient = found.gradient()
    function, at = _function(network, x, y, loss)
    assert value == pytest.approx(function(at).item(), rel=1e-12)
    torch.testing.assert_close(gradient, torch.func.grad(function)(at), rtol=1e-10, atol=1e-12)


def test_what_is_linear_in_all_parameters_or_depends_on_none() -> None:
    class Identity(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Parameter(torch.ones(2))

        def forward(self, x: Tensor) -> Tensor:
            return x[:, :1]

    x, y = _data()
    linear = NetworkLoss(
        LinearRegressor(2, 1), lambda prediction, target: (prediction * target).sum(), lambda: [(x, y)]
    )
    assert linear.sharpness() == 0
    curvatures, squares = linear.of_samples(x, y)
    assert curvatures.max() == 0
    assert squares.min() > 0
    start = LocalCurvature.of(_loss(Identity(), x, y), [(x, y)])
    assert (start.sharpness, start.gradient_norm, start.noise_scale) == (0, 0, 0)


def test_where_the_loss_curves_downward_more_than_upward() -> None:
    """The largest eigenvalue is asked for, and not the largest in size."""

    class Saddle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.at = nn.Parameter(torch.zeros(2))

        def forward(self, x: Tensor) -> Tensor:
            return (self.at[0] ** 2 - 5 * self.at[1] ** 2).expand(len(x), 1) + 1

    x, y = torch.zeros(3, 1), torch.zeros(3, 1)
    assert _loss(Saddle(), x, y).sharpness() == pytest.approx(4)  # of (1 + a^2 - 5 b^2)^2


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("outputs", [1, 3])
def test_of_a_linear_regressor(outputs: int, bias: bool) -> None:
    x, y = LinearProblem(n_samples=30, n_features=3, n_targets=outputs, noise=0.7).sample()
    network = LinearRegressor(3, outputs, bias)
    closed, found = LinearLoss.of(x, y, bias), _loss(network, x, y)
    assert found.sharpness() == pytest.approx(closed.lambda_max, rel=1e-7)
    curvatures, squares = found.of_samples(x, y)
    assert curvatures.max().item() == pytest.approx(
        2 / outputs * closed.rows.square().sum(dim=1).max().item(), rel=1e-10
    )
    gradients = gradients_of(closed, network.affine())
    variance, squared = gradients.var(dim=0, correction=0).sum().item(), gradients.mean(dim=0).square().sum().item()
    start = LocalCurvature.of(found, zip(x.split(7), y.split(7), strict=True))
    assert start.variance == pytest.approx(variance, rel=1e-10)
    assert start.gradient_norm**2 == pytest.approx(squared, rel=1e-10)
    assert start.noise_scale == pytest.approx(variance / squared, rel=1e-10)
    assert start.loss == pytest.approx(mean_loss(network(x.float()).double(), y).item(), rel=1e-5)
    assert len(squares) == 30


class _Branching(nn.Module):
    """A network whose way depends on a value, which cannot be done for several samples at once."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2))

    def forward(self, x: Tensor) -> Tensor:
        prediction: Tensor = self.layers(x)
        return prediction if float(prediction.detach().sum()) < math.inf else -prediction


@pytest.mark.parametrize("loss", ["mse", "huber", "mae"])
@pytest.mark.parametrize("make", [lambda: MLPRegressor(2, 2, [3], "tanh"), _Branching])
def test_curvature_and_gradient_of_single_samples(make: Callable[[], nn.Module], loss: Loss) -> None:
    """Against the full Hessian and the gradient of each sample's loss."""
    x, y = _data(2)
    network = make()
    curvatures, squares = _loss(network, x, y, loss).of_samples(x, y)
    for i, (curvature, square) in enumerate(zip(curvatures, squares, strict=True)):
        sample = x[i : i + 1], y[i : i + 1]
        largest = torch.linalg.eigvalsh(_hessian(network, *sample, loss))[-1].item()
        assert curvature.item() == pytest.approx(largest, rel=1e-8, abs=1e-12)
        function, at = _function(network, *sample, loss)
        assert square.item() == pytest.approx(torch.func.grad(function)(at).square().sum().item(), rel=1e-9)


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("scale", [1.0, 1e3, 1e5])
@pytest.mark.parametrize(("activation", "hidden"), [("relu", [5]), ("tanh", [4, 3])])
def test_a_mean_is_not_sharper_than_its_sharpest_sample(
    activation: str, hidden: list[int], scale: float, outputs: int
) -> None:
    """Whatever the targets: the part of the residuals grows with them, and beta is that of the full Hessians."""
    x, y = _data(outputs, n=15)
    y = scale * (y + 2)
    network = MLPRegressor(2, outputs, hidden, activation)  # type: ignore[arg-type]  # a parameter is a str
    found = LocalCurvature.of(_loss(network, x, y), zip(x.split(7), y.split(7), strict=True))
    largest = max(
        torch.linalg.eigvalsh(_hessian(network, x[i : i + 1], y[i : i + 1]))[-1].item() for i in range(len(x))
    )
    assert found.sample_curvature == pytest.approx(largest, rel=1e-7)
    assert found.sharpness <= found.sample_curvature


def test_hard_samples_count_for_the_curvature_alone() -> None:
    x, y = _data()
    loss = _loss(MLPRegressor(2, 1, [4], "tanh"), x, y)
    without = LocalCurvature.of(loss, [(x, y)])
    hard = LocalCurvature.of(loss, [(x, y)], hard=[(x[:1], y[:1] - 1000)])
    assert hard.sample_curvature > 10 * without.sample_curvature
    assert hard.noise_scale == without.noise_scale


def test_the_noise_is_that_of_the_samples_gradients() -> None:
    x, y = _data()
    network = MLPRegressor(2, 1, [4], "tanh")
    rows = []
    for i in range(len(x)):
        function, at = _function(network, x[i : i + 1], y[i : i + 1])
        rows.append(torch.func.grad(function)(at))
    gradients = torch.stack(rows)
    scale = gradients.var(dim=0, correction=0).sum() / gradients.mean(dim=0).square().sum()
    start = LocalCurvature.of(_loss(network, x, y), [(x, y)])
    assert start.noise_scale == pytest.approx(scale.item(), rel=1e-9)


def test_pieces_change_nothing() -> None:
    x, y = _data(2)
    network = MLPRegressor(2, 2, [5], "tanh")
    whole, parts = (_loss(network, x, y, size=size) for size in (12, 5))
    assert whole.sharpness() == pytest.approx(parts.sharpness(), rel=1e-12)
    ones = LocalCurvature.of(parts, zip(x.split(1), y.split(1), strict=True))
    at_once = LocalCurvature.of(whole, [(x, y)])
    for name in ("loss", "gradient_norm", "sharpness", "sample_curvature", "variance"):
        assert getattr(ones, name) == pytest.approx(getattr(at_once, name), rel=1e-10), name


def test_nothing_of_the_network_changes() -> None:
    x, y = _data()

    class Noise(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 1e-3 * torch.randn(())  # drawn from torch's generator, also in evaluation

    network = nn.Sequential(MLPRegressor(2, 1, [4], "tanh", dropout=0.5), Noise())
    next(iter(network.parameters())).requires_grad_(False)
    mean_loss(network(x), y).backward()
    before = copy.deepcopy(network.state_dict())
    gradients = [None if p.grad is None else p.grad.clone() for p in network.parameters()]
    state = torch.get_rng_state()
    with torch.no_grad():  # whatever the caller has switched off
        LocalCurvature.of(_loss(network, x, y), [(x, y)])
    assert torch.equal(torch.get_rng_state(), state)
    assert network.training
    for name, value in network.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, before[name])
    for parameter, gradient in zip(network.parameters(), gradients, strict=True):
        if parameter.grad is None or gradient is None:
            assert parameter.grad is gradient
        else:
            assert torch.equal(parameter.grad, gradient)


def test_dropout_and_frozen_parameters_are_left_out() -> None:
    x, y = _data()
    dropping = MLPRegressor(2, 1, [4], "tanh", dropout=0.5)
    plain = MLPRegressor(2, 1, [4], "tanh")
    for other, own in zip(dropping.parameters(), plain.parameters(), strict=True):
        other.data.copy_(own.data)
    assert _loss(dropping, x, y).sharpness() == _loss(plain, x, y).sharpness()
    plain[0].requires_grad_(False)
    eigenvalues = torch.linalg.eigvalsh(_hessian(plain, x, y)[-5:, -5:])  # of the last layer alone
    assert _loss(plain, x, y).sharpness() == pytest.approx(eigenvalues[-1].item(), rel=1e-7)
    for parameter in plain.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(InputError, match="without parameters that are trained"):
        _loss(plain, x, y)


def test_weight_decay_adds_to_the_curvature() -> None:
    """Torch's SGD adds weight_decay * theta, the gradient of weight_decay |theta|^2 / 2."""
    x, y = _data()
    network = MLPRegressor(2, 1, [4], "tanh")
    function, at = _function(network, x, y)
    hessian = torch.autograd.functional.hessian(lambda theta: function(theta) + 0.3 / 2 * theta.square().sum(), at)
    start = LocalCurvature.of(_loss(network, x, y), [(x, y)], UpdateRule(weight_decay=0.3))
    assert start.sharpness == pytest.approx(torch.linalg.eigvalsh(hessian)[-1].item(), rel=1e-7)
    assert start.sample_curvature == pytest.approx(_loss(network, x, y).of_samples(x, y)[0].max().item() + 0.3)


@pytest.mark.parametrize("loss", ["mae", "huber"])
def test_a_loss_without_curvature_has_no_limit(loss: Loss) -> None:
    x, y = _data()
    found = _loss(LinearRegressor(2, 1), x, y + 100, loss)  # all residuals beyond huber_delta
    start = LocalCurvature.of(found, [(x, y + 100)])
    assert start.sharpness == 0
    outcome = start.outcome(Variant.of(4, 12), lr=7.0)
    assert outcome.limit == math.inf
    assert outcome.verdict is LocalVerdict.NO_LIMIT
    assert LocalCurvature.of(found, [(x, y)], UpdateRule(weight_decay=0.5)).limit(
        Variant.of("full", 12)
    ) == pytest.approx(4)


def test_a_start_without_a_gradient() -> None:
    start = LocalCurvature(1.0, 0.0, sharpness=2.0, sample_curvature=2.0, variance=0.0)
    assert start.noise_scale == 0
    assert LocalCurvature(1.0, 0.0, 2.0, 2.0, variance=1.0).noise_scale == math.inf


def test_what_cannot_be_measured() -> None:
    x, y = _data()
    with pytest.raises(ShapeError, match="cannot be compared"):
        _loss(LinearRegressor(2, 2), x, y).gradient()


@pytest.mark.parametrize(
    ("of_x", "of_y", "said"),
    [
        (1, math.inf, "the train loss is inf there"),
        (1, math.nan, "the train loss is nan there"),
        (1e160, 1, "the train loss is inf there"),  # its square is beyond float64
        (1, 1e160, "the train loss is inf there"),
        (1e90, 1, r"the train loss is \S+e\+1\d\d there, and the square of its gradient inf"),  # that of 1e180
    ],
)
@pytest.mark.parametrize("hidden", [[], [3]])
def test_a_start_beyond_float64_is_refused_and_scaled_data_are_not(
    hidden: list[int], of_x: float, of_y: float, said: str
) -> None:
    x, y = (values.double() for values in _data())
    network = MLPRegressor(2, 1, hidden, "relu") if hidden else LinearRegressor(2, 1)
    advice = "; scale the features and the targets, or choose another initialization"
    with pytest.raises(StartError, match=f"cannot plan from this start, because {said}.*{advice}"):
        LocalCurvature.of(_loss(network, of_x * x, of_y * y), [(of_x * x, of_y * y)])
    assert LocalCurvature.of(_loss(network, x, y), [(x, y)]).has_limit


def test_verdicts() -> None:
    start = LocalCurvature(1.0, 1.0, sharpness=0.5, sample_curvature=2.0, variance=1.0)
    of_four = Variant.of(4, 100)
    assert start.limit(of_four) == pytest.approx(8 / 3.5)
    verdicts = [start.outcome(of_four, lr).verdict for lr in (2.2, 2.3, 3.99, 4.0)]
    assert [str(verdict) for verdict in verdicts] == [
        "stable here",
        "may be unstable here",
        "may be unstable here",
        "unstable here",
    ]
    assert start.outcome(of_four, 2.2).half == pytest.approx(4 / 3.5)
    assert start.smallest_stable_batch_size(2.3, of_four) == 5
    assert start.smallest_stable_batch_size(2.2, of_four) == 4
    assert start.smallest_stable_batch_size(4.0, of_four) is None
    assert start.smallest_stable_batch_size(3.99, of_four) == 100
    # Where beta is that of other samples, it may be below the sharpness.
    residual = LocalCurvature(1.0, 1.0, sharpness=0.5, sample_curvature=0.1, variance=1.0)
    assert residual.limit(Variant.of(1, 100)) == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("curvature", "diverging", "at_most", "limit", "verdicts"),
    [
        (0.4, 1.0, math.inf, 0.4, ["stable here", "may be unstable here", "unstable here"]),  # it is borne out
        (
            0.5,
            1.0,
            math.inf,
            0.4,
            ["stable here", "may be unstable here", "unstable here"],
        ),  # too close to what diverged
        (1e-5, 1.0, math.inf, 0.4, ["stable here", "may be unstable here", "unstable here"]),  # far below it
        (math.inf, 1.0, math.inf, 0.4, ["stable here", "may be unstable here", "unstable here"]),
        (0.4, 1.0, 0.1, 0.1, ["may be unstable here", "may be unstable here", "unstable here"]),
        (0.4, math.inf, math.inf, 0.4, ["stable here", "may be unstable here", "may be unstable here"]),
        (math.inf, math.inf, math.inf, math.inf, ["no limit here"] * 3),
    ],
)
def test_what_is_said_where_learning_rates_were_tried(
    curvature: float, diverging: float, at_most: float, limit: float, verdicts: list[str]
) -> None:
    found = [LocalOutcome.tried(Variant.of(1, 9), lr, curvature, diverging, at_most) for lr in (0.3, 0.6, 1.0)]
    assert [str(outcome.verdict) for outcome in found] == verdicts
    assert {outcome.limit for outcome in found} == {limit}
    assert {(outcome.curvature_limit, outcome.diverging) for outcome in found} == {(curvature, diverging)}


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.5, False), (0.5, True)])
@pytest.mark.parametrize(("share", "grows"), [(0.97, False), (1.03, True)])
def test_near_a_minimum_the_limit_is_where_an_error_begins_to_grow(
    share: float, grows: bool, momentum: float, nesterov: bool
) -> None:
    """The parabola with tanh: batch updates of torch's SGD, from a small error in the sharpest direction."""
    x, y = (values.double() for values in Parabola().sample())
    network = MLPRegressor(1, 1, [10], "tanh").double()
    optimizer = torch.optim.LBFGS(network.parameters(), max_iter=500, line_search_fn="strong_wolfe")

    def evaluate() -> Tensor:
        optimizer.zero_grad()
        value = mean_loss(network(x), y)
        value.backward()
        return value

    optimizer.step(evaluate)
    start = LocalCurvature.of(
        _loss(network, x, y, size=100), [(x, y)], UpdateRule(momentum=momentum, nesterov=nesterov)
    )
    limit = start.limit(Variant.of("full", 100))
    assert limit == pytest.approx(largest_stable_lr(start.sharpness, start.rule), rel=1e-12)
    values, directions = torch.linalg.eigh(_hessian(network, x, y))
    assert values[-1].item() == pytest.approx(start.sharpness, rel=1e-7)
    sharpest, minimum = directions[:, -1], nn.utils.parameters_to_vector(network.parameters()).detach()
    ends = []
    for error in (0.0, 1e-6):
        nn.utils.vector_to_parameters(minimum + error * sharpest, network.parameters())
        sgd = torch.optim.SGD(network.parameters(), lr=share * limit, momentum=momentum, nesterov=nesterov)
        for _ in range(40):
            sgd.zero_grad()
            mean_loss(network(x), y).backward()
            sgd.step()
        ends.append(sharpest @ nn.utils.parameters_to_vector(network.parameters()).detach())
    left = abs(float(ends[1] - ends[0])) / 1e-6
    assert (left > 2) if grows else (left < 0.5)
