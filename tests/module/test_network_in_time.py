"""The network is there when callbacks, loggers, checkpoints, hubs and Lightning's own command line ask for it."""

from __future__ import annotations

import copy
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    DeviceStatsMonitor,
    EMAWeightAveraging,
    LearningRateMonitor,
    ModelPruning,
    ModelSummary,
    StochasticWeightAveraging,
    WeightAveraging,
)
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from gd_lightning import (
    ExamScores,
    HistoryRecorder,
    LinearProblem,
    NoisyLine,
    RegressionDataModule,
    RegressionModule,
    SteepLine,
)
from gd_lightning.errors import InputError
from tests.conftest import MakeTrainer
from tests.other_projects import ModuleWithoutForward, NormedNetwork

Callbacks = Callable[[], list[Callback]]
LR = 0.05
NO_SIZES: dict[str, Any] = {}
ONE: dict[str, Any] = {"in_features": 1, "out_features": 1}
THREE: dict[str, Any] = {"in_features": 3, "out_features": 1}


class WithBackbone(RegressionModule):
    @property
    def backbone(self) -> nn.Module:
        network = self.network
        assert isinstance(network, nn.Sequential)
        return network[0]


class Plain(ModuleWithoutForward):
    """Lightning's own loop: a network, the mean squared error and torch's SGD."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network, LR)

    @property
    def backbone(self) -> nn.Module:
        assert isinstance(self.network, nn.Sequential)
        return self.network[0]


def _data() -> RegressionDataModule:
    return RegressionDataModule(LinearProblem(n_samples=50, n_features=3), batch_size=16)


def _vector(module: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(module.parameters()).detach()


def _trained_by_both(make_trainer: MakeTrainer, callbacks: Callbacks, **options: Any) -> tuple[Tensor, Tensor]:
    """Return the weights that a RegressionModule ends with, and those of Lightning's own loop."""
    torch.manual_seed(0)
    module = WithBackbone(lr=LR, **options)
    make_trainer(max_epochs=6, precision="64-true", callbacks=callbacks()).fit(module, _data())
    torch.manual_seed(0)
    network = RegressionModule(**THREE, **{name: value for name, value in options.items() if name != "engine"}).network
    assert isinstance(network, nn.Module)
    plain = Plain(network).double()
    make_trainer(max_epochs=6, precision="64-true", callbacks=callbacks()).fit(plain, _data())
    return _vector(module), _vector(plain)


def _swa() -> list[Callback]:
    return [StochasticWeightAveraging(swa_lrs=0.02, swa_epoch_start=2)]


AVERAGING: dict[str, Callbacks] = {
    "stochastic": _swa,
    "every update": lambda: [WeightAveraging()],
    "exponential": lambda: [EMAWeightAveraging(decay=0.9)],
    "exponential, by epochs": lambda: [
        EMAWeightAveraging(decay=0.5, update_every_n_steps=0, update_starting_at_epoch=1)
    ],
}
CHANGING: dict[str, Callbacks] = {
    **AVERAGING,
    "pruning": lambda: [ModelPruning("l1_unstructured", amount=0.5, apply_pruning=lambda epoch: epoch == 2)],
}


# Lightning warns that no layers are split among devices; none are.
@pytest.mark.filterwarnings("ignore:You're using the WeightAveraging callback with a model")
@pytest.mark.parametrize("engine", ["autograd", "auto"])
@pytest.mark.parametrize("hidden_sizes", [[], [4]])
@pytest.mark.parametrize("name", CHANGING)
def test_callbacks_that_take_the_network_at_their_set_up_do_what_they_do_in_lightnings_own_loop(
    make_trainer: MakeTrainer, name: str, hidden_sizes: list[int], engine: str
) -> None:
    ours, plain = _trained_by_both(make_trainer, CHANGING[name], hidden_sizes=hidden_sizes, engine=engine)
    torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-14)
    without, _ = _trained_by_both(make_trainer, lambda: [], hidden_sizes=hidden_sizes)
    assert not torch.allclose(ours, without, rtol=1e-6)  # they do something


def test_batch_norms_are_measured_anew_as_in_lightnings_own_loop(make_trainer: MakeTrainer) -> None:
    ours, plain = _trained_by_both(make_trainer, _swa, network=NormedNetwork)
    torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-14)


def test_a_backbone_is_frozen_and_thawed(make_trainer: MakeTrainer) -> None:
    def callbacks() -> list[Callback]:
        return [BackboneFinetuning(unfreeze_backbone_at_epoch=3, verbose=False)]

    ours, plain = _trained_by_both(make_trainer, callbacks, hidden_sizes=[4])
    torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-14)


class SizesAfterSetUp(LightningDataModule):
    """Another project's data, whose sizes are known when they are set up."""

    def setup(self, stage: str) -> None:
        self.in_features, self.out_features = 3, 1

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        samples = _data().train
        return DataLoader(TensorDataset(samples.x, samples.y), batch_size=16)

    def val_dataloader(self) -> list[Any]:
        return []


def test_a_network_that_comes_too_late_for_a_callback_is_refused_and_the_advice_helps(
    make_trainer: MakeTrainer,
) -> None:
    make_trainer(max_epochs=1, limit_val_batches=0).fit(RegressionModule(), SizesAfterSetUp())
    with pytest.raises(InputError, match=r"StochasticWeightAveraging.*in_features and out_features"):
        make_trainer(max_epochs=4, limit_val_batches=0, callbacks=_swa()).fit(RegressionModule(), SizesAfterSetUp())
    weights = []
    for callbacks in (_swa(), []):
        module = RegressionModule(lr=LR, in_features=3, out_features=1)
        make_trainer(max_epochs=4, limit_val_batches=0, callbacks=callbacks).fit(module, SizesAfterSetUp())
        weights.append(_vector(module))
    assert not torch.allclose(weights[0], weights[1])


# Where training starts


@pytest.mark.parametrize("precision", ["32-true", "64-true"])
@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize(
    "options",
    [{}, {"hidden_sizes": [5]}, {"initialization": {"weight": 0.1, "bias": 0.3}}, {"initialization": "normal"}],
    ids=str,
)
def test_giving_the_sizes_changes_no_bit_of_a_run(
    make_trainer: MakeTrainer, precision: Any, standardize: bool, options: dict[str, Any]
) -> None:
    """The start is that of the seed as it is last set, of the problem, and in the precision of the run."""
    ends = []
    for sizes in (NO_SIZES, ONE):
        torch.manual_seed(5)
        module = RegressionModule(lr=1e-4, **options, **sizes)
        torch.manual_seed(6)
        data = RegressionDataModule(ExamScores(), standardize=standardize)
        make_trainer(max_epochs=1, precision=precision).fit(module, data)
        ends.append(_vector(module))
    assert torch.equal(*ends)
    assert ends[0].dtype is (torch.float64 if precision == "64-true" else torch.float32)


def test_optimisers_and_copies_made_before_the_data_are_those_of_the_network(make_trainer: MakeTrainer) -> None:
    torch.manual_seed(1)
    module = RegressionModule(lr=LR, in_features=3, out_features=1)
    before = list(module.parameters())
    torch.manual_seed(2)
    make_trainer(max_epochs=1, precision="64-true").fit(module, _data())
    assert [id(parameter) for parameter in before] == [id(parameter) for parameter in module.parameters()]


def _set_by_hand(module: RegressionModule) -> None:
    for parameter in module.parameters():
        parameter.data.fill_(3.0)


def _loaded(module: RegressionModule) -> None:
    module.load_state_dict({"network.weight": torch.full((1, 1), 3.0), "network.bias": torch.full((1,), 3.0)})


@pytest.mark.parametrize("change", [_set_by_hand, _loaded])
@pytest.mark.parametrize("precision", ["32-true", "64-true"])
def test_weights_that_were_set_are_where_training_starts(
    make_trainer: MakeTrainer, change: Callable[[RegressionModule], None], precision: Any
) -> None:
    module, recorder = RegressionModule(lr=0.1, in_features=1, out_features=1), HistoryRecorder()
    change(module)
    torch.manual_seed(9)
    make_trainer(max_epochs=1, precision=precision, callbacks=[recorder]).fit(module, RegressionDataModule(NoisyLine()))
    assert [recorder.history.first(name) for name in ("w", "b")] == [3.0, 3.0]
    standardized = RegressionDataModule(NoisyLine(), standardize=True)
    with pytest.raises(InputError, match="set standardize to none, or make a new module"):
        make_trainer(max_epochs=1).fit(module, standardized)
    make_trainer(max_epochs=1).fit(RegressionModule(in_features=1, out_features=1), standardized)


def test_a_module_is_trained_twice_and_goes_on(make_trainer: MakeTrainer) -> None:
    """Two runs of batch descent with two epochs each are one with four."""
    for sizes in (NO_SIZES, ONE):
        twice, once = (RegressionModule(lr=0.01, **sizes) for _ in range(2))
        for _ in range(2):
            make_trainer(max_epochs=2, precision="64-true").fit(twice, RegressionDataModule(SteepLine()))
        make_trainer(max_epochs=4, precision="64-true").fit(once, RegressionDataModule(SteepLine()))
        assert torch.equal(_vector(twice), _vector(once))
        with pytest.raises(InputError, match="in_features 1 on data with 3"):
            make_trainer(max_epochs=1).fit(twice, _data())


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("hidden_sizes", [[], [3]])
def test_a_module_goes_on_in_another_precision(
    make_trainer: MakeTrainer, hidden_sizes: list[int], standardize: bool
) -> None:
    module = RegressionModule(lr=0.1, hidden_sizes=hidden_sizes)
    data = RegressionDataModule(NoisyLine(), standardize=standardize)
    losses: list[float] = []
    precisions: list[Any] = ["64-true", "32-true", "64-true"]
    for precision in precisions:
        recorder = HistoryRecorder()
        make_trainer(max_epochs=3, precision=precision, callbacks=[recorder]).fit(module, data)
        assert _vector(module).dtype is (torch.float64 if precision == "64-true" else torch.float32)
        if losses:
            assert recorder.history.first("train_loss") == pytest.approx(losses[-1], rel=1e-5)
        losses.append(recorder.history.last("train_loss"))
    assert losses == sorted(losses, reverse=True)


class Wide(RegressionModule):
    """Builds from what its constructor sets behind the one of its base."""

    def __init__(self, width: int, **options: Any) -> None:
        super().__init__(**options)
        self.width = width

    def build_network(self, in_features: int, out_features: int) -> nn.Module:
        return nn.Sequential(nn.Linear(in_features, self.width), nn.Linear(self.width, out_features))


def test_a_subclass_may_build_from_what_its_constructor_sets(make_trainer: MakeTrainer) -> None:
    module = Wide(7, in_features=3, out_features=1)
    assert module.network is None
    make_trainer(max_epochs=1, callbacks=_swa()).fit(module, _data())
    again = Wide(7, in_features=3, out_features=1)
    again.load_state_dict(module.state_dict())
    assert torch.equal(_vector(again), _vector(module))


# Weights that come and go


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("options", [{}, {"hidden_sizes": [4]}, {"network": NormedNetwork}], ids=str)
def test_weights_go_into_a_fresh_module(make_trainer: MakeTrainer, options: dict[str, Any], standardize: bool) -> None:
    module = RegressionModule(lr=LR, **options)
    data = RegressionDataModule(LinearProblem(n_samples=50, n_features=3), batch_size=16, standardize=standardize)
    make_trainer(max_epochs=2).fit(module, data)
    module.eval()
    file, x = io.BytesIO(), data.train.x
    torch.save(module.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    again = RegressionModule(lr=LR, in_features=3, out_features=1, **options)
    again.load_state_dict(state)
    assert torch.equal(again.eval()(x), module(x))
    assert torch.equal(copy.deepcopy(module)(x), module(x))
    with pytest.raises(InputError, match="give the model in_features and out_features"):
        RegressionModule(lr=LR, **options).load_state_dict(state)


class FromHub(RegressionModule):
    """Does what a hub's mixin does: keeps the arguments, and makes the class again from them before it loads."""

    kept: dict[str, Any]

    def __new__(cls, **arguments: Any) -> FromHub:
        made = super().__new__(cls)
        vars(made)["kept"] = arguments
        return made

    def save_pretrained(self, directory: Path) -> None:
        torch.save({"config": self.kept, "weights": self.state_dict()}, directory / "model.pt")

    @classmethod
    def from_pretrained(cls, directory: Path) -> FromHub:
        saved = torch.load(directory / "model.pt", weights_only=True)
        made = cls(**saved["config"])
        made.state_dict()  # safetensors asks for the names first
        made.load_state_dict(saved["weights"], strict=True)
        return made


def test_a_hubs_mixin_makes_a_model_again(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    for problem, options in ((NoisyLine(), {"hidden_sizes": [3], "lr": 0.01}), (ExamScores(), {})):
        data = RegressionDataModule(problem, standardize=True)
        module = FromHub(in_features=1, out_features=1, **options)
        make_trainer(max_epochs=2).fit(module, data)
        module.save_pretrained(tmp_path)
        again = FromHub.from_pretrained(tmp_path)
        assert torch.equal(again(data.train.x), module(data.train.x))


def test_parameters_of_a_module_without_network_are_not_silently_none() -> None:
    """An optimiser or a logger would go on with nothing."""
    for use in (
        lambda: torch.optim.Adam(RegressionModule().parameters()),
        lambda: list(RegressionModule().named_parameters()),
        lambda: RegressionModule().freeze(),
    ):
        with pytest.raises(InputError, match="give the model in_features and out_features, or train"):
            use()
    assert len(list(RegressionModule(in_features=2, out_features=1).parameters())) == 2


# Loggers, monitors, the command line of Lightning


def test_what_a_logger_watches_is_what_is_trained(make_trainer: MakeTrainer) -> None:
    """As ``logger.watch(model)`` does: hooks of the parameters and of the network, before the Trainer has begun."""
    module, seen = RegressionModule(lr=LR, in_features=3, out_features=1), {"gradients": 0, "outputs": 0}
    for parameter in module.parameters():
        parameter.register_hook(lambda _: seen.update(gradients=seen["gradients"] + 1))
    network = cast("nn.Module", module.network)
    network.register_forward_hook(lambda *_: seen.update(outputs=seen["outputs"] + 1))
    make_trainer(max_epochs=2).fit(module, _data())
    assert seen == {"gradients": 2 * 4 * 2, "outputs": 2 * 4}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own add_graph reads every attribute, old ones too
def test_tensorboard_draws_the_graph(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    for sizes in (NO_SIZES, THREE):
        logger = TensorBoardLogger(tmp_path, name=f"graph{len(sizes)}", log_graph=True, default_hp_metric=False)
        module = RegressionModule(lr=LR, **sizes)
        module.example_input_array = torch.zeros(2, 3)
        make_trainer(max_epochs=1, logger=logger).fit(module, _data())
        assert any(b"LinearRegressor" in path.read_bytes() for path in Path(logger.log_dir).glob("events*"))


def test_monitors_and_summaries_change_nothing(make_trainer: MakeTrainer) -> None:
    def callbacks() -> list[Callback]:
        return [LearningRateMonitor("step"), DeviceStatsMonitor(cpu_stats=False), ModelSummary(-1)]

    ends = []
    for added in (callbacks(), []):
        module = RegressionModule(lr=LR)
        trainer = make_trainer(max_epochs=3, logs=True, callbacks=added, enable_model_summary=bool(added))
        trainer.fit(module, _data())
        ends.append(_vector(module))
    assert torch.equal(*ends)


QUIET = [
    *("--trainer.logger=false", "--trainer.enable_checkpointing=false", "--trainer.enable_progress_bar=false"),
    *("--trainer.enable_model_summary=false", "--trainer.accelerator=cpu", "--trainer.max_epochs=3"),
    *("--data.problem=gd_lightning.SteepLine", "--data.batch_size=16", "--seed_everything=1"),
]


def test_lightnings_own_command_line_makes_the_optimiser(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def run(*options: str) -> LightningCLI:
        return LightningCLI(
            RegressionModule,
            RegressionDataModule,
            args=["fit", *QUIET, *options],
            save_config_callback=None,
            seed_everything_default=0,
        )

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    adam = ["--optimizer=Adam", "--optimizer.lr=0.3"]
    with pytest.warns(UserWarning, match="configure_optimizers"):
        cli = run(*adam, "--model.in_features=1", "--model.out_features=1")
    torch.manual_seed(1)
    module = RegressionModule(lr=0.3, optimizer={"class_path": "torch.optim.Adam"})
    make_trainer(max_epochs=3).fit(module, RegressionDataModule(SteepLine(), batch_size=16))
    assert torch.equal(_vector(cli.model), _vector(module))
    with pytest.warns(UserWarning, match="configure_optimizers"), pytest.raises(InputError, match="give the model in_"):
        run(*adam)


class TakesACopy(Callback):
    """An average of one's own: a copy of the module, made at the set-up."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.copy = copy.deepcopy(pl_module)


def test_copies_of_ones_own_are_complete(make_trainer: MakeTrainer) -> None:
    for precision in ("32-true", "64-true"):
        callback = TakesACopy()
        make_trainer(max_epochs=1, precision=precision, callbacks=[callback]).fit(RegressionModule(), _data())
        assert {parameter.dtype for parameter in callback.copy.parameters()} == {
            torch.float64 if precision == "64-true" else torch.float32
        }
    with pytest.raises(InputError, match=r"TakesACopy.*in_features and out_features"):
        make_trainer(max_epochs=1, limit_val_batches=0, callbacks=[TakesACopy()]).fit(
            RegressionModule(), SizesAfterSetUp()
        )


class Callable1:
    def __call__(self, in_features: int) -> nn.Module:
        return nn.Linear(in_features, 1)


class ByNames(nn.Linear):
    def __init__(self, *, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)


@pytest.mark.parametrize(
    ("network", "name"),
    [
        (lambda: nn.Linear(1, 1), "<lambda>"),
        (lambda i: nn.Linear(i, 1), "<lambda>"),
        (lambda i, o, width: nn.Linear(i, o), "<lambda>"),
        (nn.ReLU, "ReLU"),
        (nn.Bilinear, "Bilinear"),
        (ByNames, "ByNames"),
        (Callable1(), "Callable1"),
    ],
)
def test_what_does_not_take_two_numbers_makes_no_network(network: Any, name: str) -> None:
    with pytest.raises(InputError, match=f"cannot make a network by {name}, because it does not take the numbers of"):
        RegressionModule(network=network, in_features=1, out_features=1).configure_model()
