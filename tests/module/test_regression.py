from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import SGDRegressor
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from gd_lightning import (
    ExamScores,
    LinearProblem,
    NoisyLine,
    Parabola,
    Problem,
    RegressionDataModule,
    RegressionModule,
    SteepLine,
)
from gd_lightning.data.order import epoch_orders
from gd_lightning.errors import InputError, ShapeError
from gd_lightning.losses import Loss, mean_loss
from tests.conftest import MakeTrainer


def _trained(
    make_trainer: MakeTrainer, problem: Problem, epochs: int = 3, precision: Any = "64-true", **options: Any
) -> tuple[RegressionModule, RegressionDataModule]:
    of_data = {
        name: options.pop(name) for name in ("batch_size", "order", "drop_last", "standardize") if name in options
    }
    data, module = RegressionDataModule(problem, **of_data), RegressionModule(**options)
    make_trainer(max_epochs=epochs, precision=precision).fit(module, data)
    return module, data


@pytest.mark.parametrize("batch_size", [1, 7, "full"])
@pytest.mark.parametrize("order", ["sequential", "shuffled", "with_replacement"])
@pytest.mark.parametrize("hidden_sizes", [[], [5]])
@pytest.mark.parametrize("drop_last", [False, True])
def test_a_run_equals_a_plain_loop_of_autograd(
    make_trainer: MakeTrainer, batch_size: Any, order: Any, hidden_sizes: list[int], drop_last: bool
) -> None:
    problem = LinearProblem(n_samples=23, n_features=2, n_targets=2)
    options = {"batch_size": batch_size, "order": order, "drop_last": drop_last}
    module, data = _trained(make_trainer, problem, lr=0.05, hidden_sizes=hidden_sizes, **options)

    torch.manual_seed(torch.initial_seed())
    layers = [nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 2)] if hidden_sizes else [nn.Linear(2, 2)]
    network = nn.Sequential(*layers).double()
    x, y = data.train.x, data.train.y
    b = len(x) if batch_size == "full" else batch_size
    for epoch in range(3):
        rows = epoch_orders(order, len(x), data.seed, epoch)
        for i in range(0, len(x) - (b - 1 if drop_last else 0), b):
            network.zero_grad()
            nn.functional.mse_loss(network(x[rows[i : i + b]]), y[rows[i : i + b]]).backward()
            with torch.no_grad():
                for parameter in network.parameters():
                    assert parameter.grad is not None
                    parameter.sub_(0.05 * parameter.grad)
    for ours, plain in zip(module.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("penalty", [{}, {"weight_decay": 0.1}])
def test_stochastic_descent_equals_scikit_learn(make_trainer: MakeTrainer, penalty: dict[str, Any]) -> None:
    """SGDRegressor's squared error has a factor 1/2, so that its eta0 is 2 lr; it leaves the intercept unpenalised."""
    problem, lr = LinearProblem(n_samples=40, n_features=3, bias="weight_decay" not in penalty), 0.02
    module, data = _trained(
        make_trainer,
        problem,
        lr=lr,
        batch_size=1,
        order="sequential",
        initialization="zero",
        bias=problem.bias,
        **penalty,
    )
    reference = SGDRegressor(
        penalty="l2" if penalty else None,
        alpha=penalty.get("weight_decay", 0.0) / 2,
        learning_rate="constant",
        eta0=2 * lr,
        shuffle=False,
        max_iter=3,
        tol=None,
        fit_intercept=problem.bias,
    ).fit(data.train.x.numpy(), data.train.y.numpy()[:, 0])
    affine = module.affine()
    assert affine is not None
    np.testing.assert_allclose(affine.weight.numpy()[0], reference.coef_, rtol=1e-3 if penalty else 1e-10)


@pytest.mark.parametrize("batch_size", [1, 5, "full"])
def test_the_l1_penalty_has_the_same_strength_at_every_batch_size(make_trainer: MakeTrainer, batch_size: Any) -> None:
    """At the optimum of the data alone, the only force on the weights is the penalty: lr * l1 * sign(w) an update."""
    problem, lr, l1 = LinearProblem(n_samples=20, n_features=2, noise=0.0), 0.01, 0.1
    truth = problem.true_parameters
    assert truth.bias is not None
    start = {"weight": truth.weight.tolist(), "bias": truth.bias.tolist()}
    data, module = (
        RegressionDataModule(problem, batch_size=batch_size),
        RegressionModule(lr=lr, l1=l1, initialization=start),
    )
    make_trainer(max_steps=1, precision="64-true").fit(module, data)
    affine = module.affine()
    assert affine is not None
    assert affine.bias is not None
    torch.testing.assert_close(affine.weight, truth.weight - lr * l1 * truth.weight.sign())
    torch.testing.assert_close(affine.bias, truth.bias)


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_a_gradient_equals_finite_differences(make_trainer: MakeTrainer, loss: Loss) -> None:
    start, lr = {"weight": 0.3, "bias": -0.2}, 0.1
    data = RegressionDataModule(NoisyLine())
    module = RegressionModule(lr=lr, loss=loss, huber_delta=0.5, initialization=start)
    make_trainer(max_epochs=1, precision="64-true").fit(module, data)
    x, y = data.train.x, data.train.y

    def value(w: float, b: float) -> float:
        return mean_loss(w * x + b, y, loss, 0.5).item()

    affine, h = module.affine(), 1e-6
    assert affine is not None
    named = affine.named()
    slope_w = (value(0.3 + h, -0.2) - value(0.3 - h, -0.2)) / (2 * h)
    slope_b = (value(0.3, -0.2 + h) - value(0.3, -0.2 - h)) / (2 * h)
    assert named["w"] == pytest.approx(0.3 - lr * slope_w, abs=1e-8)
    assert named["b"] == pytest.approx(-0.2 - lr * slope_b, abs=1e-8)


@pytest.mark.parametrize(
    "options",
    [
        {"momentum": 0.9},
        {"momentum": 0.9, "nesterov": True},
        {"weight_decay": 0.1},
        {"optimizer": {"class_path": "torch.optim.Adam", "init_args": {"betas": (0.8, 0.99)}}},
        {"optimizer": functools.partial(torch.optim.Adam, betas=(np.float64(0.8), 0.99))},
        {"lr_scheduler": {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 2}}},
    ],
)
def test_optimisers_are_torchs_own(make_trainer: MakeTrainer, options: dict[str, Any]) -> None:
    module, data = _trained(make_trainer, NoisyLine(), epochs=5, lr=0.05, **options)
    start = NoisyLine().start
    assert start.bias is not None
    weight, bias = (nn.Parameter(value.clone()) for value in (start.weight, start.bias))
    made_by_class = options.get("optimizer")
    sgd = {name: value for name, value in options.items() if name not in ("optimizer", "lr_scheduler")}
    optimizer: torch.optim.Optimizer = torch.optim.SGD([weight, bias], lr=0.05, **sgd)
    if made_by_class:
        optimizer = torch.optim.Adam([weight, bias], lr=0.05, betas=(0.8, 0.99))
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2 if "lr_scheduler" in options else 1000)
    for _ in range(5):
        optimizer.zero_grad()
        nn.functional.mse_loss(data.train.x @ weight.T + bias, data.train.y).backward()
        optimizer.step()
        scheduler.step()
    affine = module.affine()
    assert affine is not None
    torch.testing.assert_close(affine.weight, weight.detach(), rtol=1e-12, atol=0)


def test_the_start_is_the_same_at_every_batch_size_and_whatever_drew_numbers_before(make_trainer: MakeTrainer) -> None:
    def start(batch_size: Any) -> Tensor:
        torch.manual_seed(7)
        torch.rand(batch_size if batch_size != "full" else 1)
        module, _ = _trained(make_trainer, Parabola(), epochs=1, lr=1e-12, batch_size=batch_size, hidden_sizes=[4])
        return torch.cat([p.detach().flatten() for p in module.parameters()])

    torch.testing.assert_close(start("full"), start(1), rtol=0, atol=1e-8)


def test_standardised_training_is_reported_in_original_units(make_trainer: MakeTrainer) -> None:
    """With standardised features the Hessian is 2 I: one update of batch descent at lr 1/2 solves the problem."""
    module, data = _trained(make_trainer, ExamScores(), epochs=1, lr=0.5, standardize=True)
    affine = module.affine()
    assert affine is not None
    assert affine.named() == pytest.approx({"w": 7.9, "b": 400.0})
    torch.testing.assert_close(module(data.train.x), affine(data.train.x))


def test_given_and_prescribed_starts_are_in_original_units_when_standardised(make_trainer: MakeTrainer) -> None:
    for options in ({}, {"initialization": {"weight": 9, "bias": 350}}):
        module, data = _trained(make_trainer, ExamScores(), epochs=1, lr=1e-12, standardize=True, **options)
        loss = mean_loss(module(data.train.x), data.train.y).item()
        assert loss == pytest.approx(2675, rel=1e-6)  # of the given prediction 440, 530, 620, 710


class Quadratic(nn.Module):
    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.layer = nn.Linear(2 * in_features, out_features)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(torch.cat([x, x * x], dim=1))
        assert isinstance(y, Tensor)
        return y


class QuadraticModule(RegressionModule):
    def build_network(self, in_features: int, out_features: int) -> nn.Module:
        return Quadratic(in_features, out_features)


@pytest.mark.parametrize("wrapped", [Quadratic, "instance", "subclass"])
def test_any_network_can_be_trained_and_saved(make_trainer: MakeTrainer, tmp_path: Path, wrapped: Any) -> None:
    if wrapped == "subclass":
        module: RegressionModule = QuadraticModule(lr=0.1)
    else:
        module = RegressionModule(lr=0.1, network=Quadratic(1, 1) if wrapped == "instance" else wrapped)
    data, trainer = RegressionDataModule(Parabola()), make_trainer(max_epochs=300)
    trainer.fit(module, data)
    assert mean_loss(module(data.train.x), data.train.y).item() < 0.005
    trainer.save_checkpoint(tmp_path / "run.ckpt", weights_only=False)
    again: dict[str, Any] = {} if wrapped == "subclass" else {"network": Quadratic(1, 1)}
    loaded = type(module).load_from_checkpoint(tmp_path / "run.ckpt", weights_only=True, **again)
    assert torch.equal(loaded(data.train.x), module(data.train.x))
    if again:
        with pytest.raises(InputError, match="a network of your own, Quadratic; give network="):
            RegressionModule.load_from_checkpoint(tmp_path / "run.ckpt", weights_only=True)


def test_a_float64_checkpoint_is_loaded_in_full_precision(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    data, module, trainer = (
        RegressionDataModule(NoisyLine()),
        RegressionModule(),
        make_trainer(max_epochs=3, precision="64-true"),
    )
    trainer.fit(module, data)
    trainer.save_checkpoint(tmp_path / "run.ckpt", weights_only=False)
    loaded = RegressionModule.load_from_checkpoint(tmp_path / "run.ckpt", weights_only=True)
    affine, before = loaded.affine(), module.affine()
    assert affine is not None
    assert before is not None
    assert affine.named() == before.named()


@pytest.mark.parametrize("precision", ["32-true", "64-true"])
def test_a_checkpoint_with_statistics_in_float32_is_still_read(
    make_trainer: MakeTrainer, tmp_path: Path, precision: Any
) -> None:
    """As older versions wrote it; the statistics are then those that it holds, and float64 from then on."""
    data, module = RegressionDataModule(ExamScores(), standardize="features"), RegressionModule(lr=0.3)
    trainer = make_trainer(max_epochs=3, precision=precision)
    trainer.fit(module, data)
    trainer.save_checkpoint(tmp_path / "run.ckpt", weights_only=False)
    checkpoint = torch.load(tmp_path / "run.ckpt", weights_only=True)
    for name in ("standardize.mean", "standardize.scale"):
        checkpoint["state_dict"][name] = checkpoint["state_dict"][name].float()
    torch.save(checkpoint, tmp_path / "old.ckpt")
    loaded = RegressionModule.load_from_checkpoint(tmp_path / "old.ckpt", weights_only=True)
    continued = RegressionModule(lr=0.3)
    make_trainer(max_epochs=4, precision=precision).fit(continued, data, ckpt_path=tmp_path / "old.ckpt")
    for each in (loaded, continued):
        assert each.standardize is not None
        assert each.standardize.mean.dtype is torch.float64
        assert each.standardize.scale.item() == np.float32(checkpoint["state_dict"]["standardize.scale"].item())
    prediction = loaded(data.train.x)
    assert prediction.dtype == (torch.float64 if precision == "64-true" else torch.float32)
    torch.testing.assert_close(prediction, module(data.train.x), rtol=1e-5, atol=1e-5)


def _loader(y: Tensor) -> DataLoader[tuple[Tensor, ...]]:
    return DataLoader(TensorDataset(torch.zeros(len(y), 1), y), batch_size=len(y))


def test_targets_of_another_shape_stop_the_run_with_both_shapes(make_trainer: MakeTrainer) -> None:
    module = RegressionModule(in_features=1, out_features=1)
    with pytest.raises(ShapeError, match=r"\(5, 1\).*\(5,\)"):
        make_trainer(max_epochs=1).fit(module, _loader(torch.zeros(5)), _loader(torch.zeros(5)))


def test_a_plain_loader_needs_the_number_of_features(make_trainer: MakeTrainer) -> None:
    with pytest.raises(InputError, match="in_features"):
        make_trainer(max_epochs=1).fit(RegressionModule(), _loader(torch.zeros(5, 1)), _loader(torch.zeros(5, 1)))


def test_accumulation_is_refused(make_trainer: MakeTrainer) -> None:
    with pytest.raises(InputError, match=r"accumulate_grad_batches 3.*data.micro_batch_size"):
        make_trainer(max_epochs=1, accumulate_grad_batches=3).fit(RegressionModule(), RegressionDataModule(SteepLine()))


def test_metrics_equal_scikit_learn(make_trainer: MakeTrainer) -> None:
    from sklearn import metrics

    data, module = RegressionDataModule(NoisyLine(), val_size=30, test_size=20), RegressionModule()
    trainer = make_trainer(max_epochs=20, precision="64-true")
    trainer.fit(module, data)
    for stage, part in (("val", data.parts[1]), ("test", data.parts[2])):
        judge = trainer.validate if stage == "val" else trainer.test
        measured = judge(module, data, verbose=False)[0]
        y, predicted = part.y.numpy(), module(part.x).detach().numpy()
        assert measured[f"{stage}_mse"] == pytest.approx(metrics.mean_squared_error(y, predicted), rel=1e-6)
        assert measured[f"{stage}_mae"] == pytest.approx(metrics.mean_absolute_error(y, predicted), rel=1e-6)
        assert measured[f"{stage}_r2"] == pytest.approx(metrics.r2_score(y, predicted), rel=1e-6)
        assert measured[f"{stage}_loss"] == measured[f"{stage}_mse"]


def test_a_single_validation_sample_has_no_r2(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(max_epochs=1)
    trainer.fit(RegressionModule(lr=0.01), RegressionDataModule(SteepLine(), val_size=1))
    assert trainer.callback_metrics["val_r2"].isnan()


def test_other_data_do_not_change_how_a_trained_model_standardises(make_trainer: MakeTrainer) -> None:
    x = torch.tensor([[1.0]])
    for trained, other in ((False, True), (True, False)):
        module = RegressionModule(lr=0.05)
        make_trainer(max_epochs=3).fit(module, RegressionDataModule(SteepLine(), standardize=trained))
        before = module(x)
        make_trainer().test(module, RegressionDataModule(ExamScores(), standardize=other), verbose=False)
        assert torch.equal(module(x), before)
    with pytest.raises(InputError, match="in_features 1 on data with 10"):
        make_trainer(max_epochs=1).fit(module, RegressionDataModule(LinearProblem()))


@pytest.mark.slow
def test_one_data_module_serves_every_precision(make_trainer: MakeTrainer) -> None:
    data = RegressionDataModule(NoisyLine())
    assert data.variant.name == "batch"  # data made before any Trainer is known
    for precision in ("64-true", "32-true", "64-true"):
        module = RegressionModule(lr=0.7)
        make_trainer(max_epochs=400, precision=precision).fit(module, data)
        affine = module.affine()
        assert affine is not None
        x, y = data.train.x, data.train.y
        optimum = np.linalg.lstsq(np.hstack([x, np.ones_like(x)]), y, rcond=None)[0].ravel()
        digits = 1e-10 if precision == "64-true" else 1e-4
        assert list(affine.named().values()) == pytest.approx(optimum, abs=digits)


@pytest.mark.parametrize(
    "options",
    [
        {"lr": 0.0},
        {"lr": float("nan")},
        {"loss": "MSE"},
        {"activation": "ReLU"},
        {"momentum": -1},
        {"nesterov": True},
        {"l1": -0.1},
        {"weight_decay": float("inf")},
        {"huber_delta": 0},
        {"dropout": 0.5},
        {"momentum": 0.9, "optimizer": {"class_path": "torch.optim.Adam"}},
    ],
)
def test_options_that_train_nothing_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        RegressionModule(**options)


@pytest.mark.parametrize("path", ["os.system", "torch.nn.Linear", "antigravity.Optimizer", ""])
def test_a_spec_can_only_name_an_imported_optimiser(make_trainer: MakeTrainer, path: str) -> None:
    with pytest.raises(InputError, match="as Optimizer"):
        make_trainer(max_epochs=1).fit(
            RegressionModule(optimizer={"class_path": path}), RegressionDataModule(SteepLine())
        )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_result_of_the_cpu(make_trainer: MakeTrainer) -> None:
    def trained(accelerator: str) -> dict[str, float]:
        data, module = RegressionDataModule(SteepLine(), batch_size=16), RegressionModule(lr=0.02)
        make_trainer(max_epochs=20, accelerator=accelerator, precision="64-true").fit(module, data)
        affine = module.affine()
        assert affine is not None
        return affine.named()

    assert trained("gpu") == pytest.approx(trained("cpu"), rel=1e-9)
