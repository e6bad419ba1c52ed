"""What a callback changes while a run is made holds from the next update on, whatever carries out the updates."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import LambdaCallback, ModelPruning
from lightning.pytorch.utilities.types import LRSchedulerConfig
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import parametrizations, prune
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle

from gd_lightning import (
    BatchLoader,
    HistoryRecorder,
    InputError,
    LinearProblem,
    RegressionDataModule,
    RegressionModule,
    Samples,
    Sine,
    SteepLine,
    Variant,
)
from gd_lightning.module.chunked_training import Chunks
from tests.conftest import MakeTrainer
from tests.module.plain_loop import Case, same_weights
from tests.selection import every

pytest.importorskip("numba", reason="the fused engine is compiled by numba")
# Of torch's, about hooks where the input needs no gradient, and schedulers that are stepped before the optimiser.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

Change = Callable[[Trainer, Any], object]


def _last_layer(module: Any) -> nn.Linear:
    layer = [part for part in module.network.modules() if isinstance(part, nn.Linear)][-1]
    assert isinstance(layer, nn.Linear)
    return layer


def _freeze(trainer: Trainer, module: Any) -> None:
    _last_layer(module).bias.requires_grad_(False)


def _freeze_for_an_epoch(trainer: Trainer, module: Any) -> None:
    _last_layer(module).bias.requires_grad_(trainer.current_epoch != 2)


def _prune(trainer: Trainer, module: Any) -> None:
    prune.l1_unstructured(_last_layer(module), "weight", amount=0.5)


def _set_group(**settings: Any) -> Change:
    return lambda trainer, module: trainer.optimizers[0].param_groups[0].update(settings)


def _another_optimizer(optimizer: type[torch.optim.Optimizer], **settings: Any) -> Change:
    def change(trainer: Trainer, module: Any) -> None:
        trainer.optimizers = [optimizer(module.network.parameters(), **settings)]

    return change


def _split_groups(trainer: Trainer, module: Any) -> None:
    optimizer, bias = trainer.optimizers[0], _last_layer(module).bias
    group = optimizer.param_groups[0]
    group["params"] = [parameter for parameter in group["params"] if parameter is not bias]
    optimizer.add_param_group({"params": [bias], "lr": 0.001})


def _replace_network(trainer: Trainer, module: Any) -> None:
    module.network = nn.Sequential(nn.Linear(3, 1, dtype=torch.float64))
    for parameter in module.network.parameters():
        nn.init.constant_(parameter, 0.5)


def _replace_activation(trainer: Trainer, module: Any) -> None:
    for name, part in list(module.network.named_children()):
        if isinstance(part, nn.Tanh):
            module.network[int(name)] = nn.LeakyReLU(0.3)


def _replace_forward(part: str) -> Change:
    def change(trainer: Trainer, module: Any) -> None:
        owner = module if part == "module" else module.network
        before = owner.forward
        owner.forward = lambda x: 1.5 * before(x)

    return change


def _clamp_gradient(parameter: Tensor) -> None:
    assert parameter.grad is not None
    parameter.grad.clamp_(-0.1, 0.1)


def _hook_all_modules(trainer: Trainer, module: Any) -> None:
    HANDLES.append(
        register_module_forward_hook(lambda part, x, out: 0.5 * out if isinstance(part, nn.Linear) else None)
    )


def _hook_all_optimizers(trainer: Trainer, module: Any) -> None:
    def act(optimizer: Any, *_: Any) -> None:
        optimizer.param_groups[0]["params"][0].data.clamp_(-0.6, 0.6)

    HANDLES.append(register_optimizer_step_post_hook(act))


HANDLES: list[RemovableHandle] = []
"""Of hooks that would outlive their run."""


def _remove_hooks(*_: Any) -> None:
    while HANDLES:
        HANDLES.pop().remove()


def _replace_step(trainer: Trainer, module: Any) -> None:
    optimizer: Any = trainer.optimizers[0]
    step = optimizer.step

    def twice(closure: Any = None) -> Any:
        loss = step(closure)
        step()
        return loss

    optimizer.step = twice


def _schedule(trainer: Trainer, module: Any) -> None:
    scheduler = torch.optim.lr_scheduler.ExponentialLR(trainer.optimizers[0], 0.8)
    trainer.lr_scheduler_configs.append(LRSchedulerConfig(scheduler, interval="step"))


def _forget_momentum(trainer: Trainer, module: Any) -> None:
    trainer.optimizers[0].state.clear()


CHANGES: dict[str, Change] = {
    "freeze": _freeze,
    "prune": _prune,
    "prune all": lambda trainer, module: prune.global_unstructured(
        [(part, "weight") for part in module.network.modules() if isinstance(part, nn.Linear)],
        prune.L1Unstructured,
        amount=0.4,
    ),
    "weight norm": lambda trainer, module: parametrizations.weight_norm(_last_layer(module)),
    "forward hook": lambda trainer, module: module.network.register_forward_hook(lambda m, x, out: 1.5 * out),
    "forward pre-hook of a part": lambda trainer, module: _last_layer(module).register_forward_pre_hook(
        lambda m, x: (0.5 * x[0],)
    ),
    "forward hook of the module": lambda trainer, module: module.register_forward_hook(lambda m, x, out: 1.5 * out),
    "backward hook": lambda trainer, module: module.network.register_full_backward_pre_hook(
        lambda m, grads: (3 * grads[0],)
    ),
    "hook of a tensor": lambda trainer, module: _last_layer(module).weight.register_hook(lambda grad: 2 * grad),
    "hook behind gradients": lambda trainer, module: _last_layer(module).weight.register_post_accumulate_grad_hook(
        _clamp_gradient
    ),
    "hook of the optimiser": lambda trainer, module: trainer.optimizers[0].register_step_post_hook(
        lambda optimizer, *_: optimizer.param_groups[0]["params"][0].data.clamp_(-0.7, 0.7)
    ),
    "hook of all modules": _hook_all_modules,
    "hook of all optimisers": _hook_all_optimizers,
    "step of the optimiser": _replace_step,
    "learning rate": _set_group(lr=0.01),
    "weight decay": _set_group(weight_decay=0.3),
    "no momentum": _set_group(momentum=0.0),
    "nesterov": _set_group(nesterov=True),
    "dampening": _set_group(dampening=0.5),
    "maximize": _set_group(maximize=True, lr=1e-3),
    "momentum forgotten": _forget_momentum,
    "another SGD": _another_optimizer(torch.optim.SGD, lr=0.02, momentum=0.3),
    "Adam": _another_optimizer(torch.optim.Adam, lr=0.02),
    "groups": _split_groups,
    "scheduler": _schedule,
    "clipping": lambda trainer, module: setattr(trainer, "gradient_clip_val", 0.05),
    "network": _replace_network,
    "activation": _replace_activation,
    "forward of the module": _replace_forward("module"),
    "forward of the network": _replace_forward("network"),
    "weights": lambda trainer, module: nn.init.constant_(_last_layer(module).weight, 0.25),
    "memory of weights": lambda trainer, module: setattr(
        _last_layer(module).weight, "data", _last_layer(module).weight.data + 0.25
    ),
    "watcher": lambda trainer, module: trainer.callbacks.append(Shrink()),  # type: ignore[attr-defined]
}


class Shrink(Callback):
    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        for parameter in pl_module.parameters():
            if parameter.grad is not None:
                parameter.grad *= 0.5


def _at(hook: str, call: int, change: Change) -> Callable[[], list[Callback]]:
    """Make a callback that changes something when a hook is called for the so-manieth time."""

    def callbacks() -> list[Callback]:
        calls = iter(range(1000))

        def act(trainer: Trainer, module: Any, *_: Any) -> None:
            if next(calls) == call:
                change(trainer, module)

        return [LambdaCallback(**{hook: act}, on_fit_end=_remove_hooks)]

    return callbacks


def _assert_as_plain(case: Case, make_trainer: MakeTrainer, engines: tuple[str, ...] = ("autograd", "auto")) -> None:
    runs = [case.by(engine, make_trainer) for engine in engines]
    plain = case.plainly(make_trainer)
    for run in runs:
        same_weights(run, plain)


@pytest.mark.parametrize("hidden_sizes", [pytest.param([], marks=pytest.mark.slow), [5]], ids=["linear", "network"])
@pytest.mark.parametrize("name", every(2, CHANGES))
def test_what_changes_between_epochs_is_followed(make_trainer: MakeTrainer, name: str, hidden_sizes: list[int]) -> None:
    if name == "activation" and not hidden_sizes:
        hidden_sizes = [4, 4]
    case = Case(_at("on_train_epoch_start", 3, CHANGES[name]), hidden_sizes)
    _assert_as_plain(case, make_trainer)


@pytest.mark.parametrize(
    "hook",
    [
        "on_train_batch_start",
        "on_train_batch_end",
        "on_validation_end",
        "on_validation_batch_end",
        "on_before_zero_grad",
        "on_before_optimizer_step",
        "on_train_epoch_end",
        "on_train_start",
    ],
)
@pytest.mark.parametrize(
    "name",
    [
        "freeze",
        "clipping",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("prune", "forward hook", "Adam", "groups", "scheduler")
        ),
    ],
)
def test_what_changes_within_an_epoch_is_followed(make_trainer: MakeTrainer, name: str, hook: str) -> None:
    call = 0 if hook == "on_train_start" else 7
    case = Case(_at(hook, call, CHANGES[name]), [4], {"val_check_interval": 2}, val_size=10)
    _assert_as_plain(case, make_trainer)


def test_a_copy_that_is_made_within_a_run_takes_nothing_of_the_run_along(make_trainer: MakeTrainer) -> None:
    copies = []
    case = Case(lambda: [LambdaCallback(on_train_epoch_end=lambda _, module: copies.append(copy.deepcopy(module)))])
    module = case.by("auto", make_trainer)
    assert module.decision.engine == "fused"
    assert not any(isinstance(value, (Trainer, Chunks)) for value in vars(copies[-1]).values())
    assert torch.equal(copies[-1](torch.ones(2, 3).double()), module(torch.ones(2, 3).double()))
    torch.save(copies[-1].state_dict(), io.BytesIO())


# What is said of it


def _freeze_in(epoch: int) -> Callback:
    def act(trainer: Trainer, module: Any) -> None:
        if trainer.current_epoch == epoch:
            _freeze(trainer, module)

    return LambdaCallback(on_train_epoch_start=act)


@pytest.mark.parametrize("standardize", [False, True])
def test_a_frozen_bias_is_followed_in_the_history_and_named_in_the_summary(
    make_trainer: MakeTrainer, standardize: bool
) -> None:
    """The loss of the fused engine is that of autograd, and the summary says which one ended the run."""
    losses, engines = [], []
    for engine in ("autograd", "fused"):
        recorder = HistoryRecorder()
        module = RegressionModule(lr=0.05, momentum=0.5, engine=engine)
        data = RegressionDataModule(LinearProblem(n_samples=20, n_features=2), standardize=standardize)
        trainer = make_trainer(callbacks=[_freeze_in(20), recorder], max_epochs=40, precision="64-true")
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            trainer.fit(module, data)
        assert any("engine fused cannot continue" in str(one.message) for one in said) == (engine == "fused")
        losses.append(recorder.history.series("train_loss")[1])
        assert len(losses[-1]) == 41
        assert recorder.summary is not None
        engines.append((recorder.summary.engine, recorder.summary.engine_reason))
        bias = recorder.history["b"] if "b" in recorder.history.columns else recorder.history["bias"]
        assert standardize or np.ptp(bias[21:]) == 0 < np.ptp(bias[:20])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-10)
    assert engines == [("autograd", "it was requested"), ("autograd", "a parameter is frozen, from update 21 on")]


def test_what_is_thawed_is_compiled_again(make_trainer: MakeTrainer) -> None:
    def act(trainer: Trainer, module: Any) -> None:
        _last_layer(module).bias.requires_grad_(not 2 <= trainer.current_epoch < 4)

    case = Case(lambda: [LambdaCallback(on_train_epoch_start=act)], [4])
    module = case.by("auto", make_trainer)
    assert (module.decision.engine, module.decision.reason) == ("fused", "")
    same_weights(module, case.plainly(make_trainer))


def test_what_cannot_be_compiled_before_a_run_begins_is_refused(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(callbacks=[LambdaCallback(on_fit_start=_freeze)], max_epochs=2)
    with pytest.raises(InputError, match="cannot use engine fused, because a parameter is frozen; use engine auto"):
        trainer.fit(RegressionModule(engine="fused"), RegressionDataModule(SteepLine()))


def test_a_pruned_network_is_as_with_autograd(make_trainer: MakeTrainer) -> None:
    losses = []
    for engine in ("autograd", "fused"):
        recorder, data = HistoryRecorder(), RegressionDataModule(Sine(), batch_size=20, order="sequential")
        pruning = ModelPruning("l1_unstructured", amount=0.5, apply_pruning=lambda epoch: epoch == 20)
        trainer = make_trainer(callbacks=[recorder, pruning], max_epochs=30, precision="64-true")
        module = RegressionModule(lr=0.05, hidden_sizes=[8], activation="tanh", engine=engine)
        trainer.fit(module, data)
        losses.append(recorder.history.series("train_loss")[1])
        assert sum((parameter == 0).sum().item() for parameter in module.parameters()) >= 12
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-9)


@pytest.mark.parametrize("change", ["prune", "weight norm"])
@pytest.mark.parametrize("engine", ["autograd", "auto"])
def test_the_history_of_a_pruned_line_has_its_weights_as_they_act(
    make_trainer: MakeTrainer, engine: str, change: str
) -> None:
    """What the history says predicts what the network predicts; weights are not taken for biases."""
    seen, recorder = [], HistoryRecorder()

    def predict(trainer: Trainer, module: Any) -> None:
        with torch.no_grad():
            seen.append(module(torch.eye(4, 3, dtype=torch.float64)).flatten().tolist())

    def callbacks() -> list[Callback]:
        changing = _at("on_train_epoch_start", 2, CHANGES[change])()
        return [recorder, *changing, LambdaCallback(on_train_epoch_end=predict)]

    case = Case(callbacks)
    case.by(engine, make_trainer)
    history, ends = recorder.history, recorder.history.measured("train_loss")[1:]
    for row, (w1, w2, w3, b) in zip(history.rows_at(ends), seen, strict=True):
        names = [name for name in history.columns if name[0] in "wb" and name != "batch_loss"]
        found = [row[name] for name in names]
        np.testing.assert_allclose(found, [w1 - b, w2 - b, w3 - b, b], rtol=1e-9, atol=1e-12)


def test_the_train_loss_is_measured_through_what_a_callback_has_just_put_there(make_trainer: MakeTrainer) -> None:
    """Compiled code would measure the network without it."""

    def put(trainer: Trainer, module: Any) -> None:
        if trainer.current_epoch == 3:
            module.network.register_forward_hook(lambda network, inputs, output: 0.0 * output)

    recorder = HistoryRecorder()
    trainer = make_trainer(callbacks=[LambdaCallback(on_train_epoch_end=put), recorder], max_epochs=5)
    data = RegressionDataModule(SteepLine())
    trainer.fit(RegressionModule(lr=1e-4, engine="fused"), data)
    _, y = data.train.take(slice(None))
    assert recorder.history.series("train_loss")[1][-2:] == pytest.approx([y.square().mean().item()] * 2, rel=1e-5)


class OtherData(RegressionDataModule):
    """Gives other samples in each epoch."""

    def train_dataloader(self) -> Any:
        x, y = super().train_dataloader().samples.take(slice(None))
        epoch = 0 if self.trainer is None else self.trainer.current_epoch
        return BatchLoader(Samples(x, y + epoch), Variant.of(8, len(x)))


@pytest.mark.parametrize("engine", ["autograd", "fused"])
def test_data_that_are_loaded_anew_are_the_new_ones(make_trainer: MakeTrainer, engine: Any) -> None:
    """Ended by batch descent in closed form: the last epoch's targets are what is fitted."""
    data = OtherData(LinearProblem(n_samples=44, n_features=3, noise=0.0), batch_size=8)
    module = RegressionModule(lr=0.1, engine=engine)
    trainer = make_trainer(max_epochs=40, reload_dataloaders_every_n_epochs=20, precision="64-true")
    trainer.fit(module, data)
    x, y = data.parts_in(torch.float64)[0].take(slice(None))
    with torch.no_grad():
        shift = (module(x) - y).mean().item()
    assert shift == pytest.approx(20, abs=0.05)  # the data of epoch 20, and not those of epoch 0
