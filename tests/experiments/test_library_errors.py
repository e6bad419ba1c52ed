"""What libraries report of what was given is one line in Python, too, with its cause; one's own exceptions stay."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.callbacks import BackboneFinetuning, EarlyStopping, LambdaCallback, LearningRateMonitor
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR, StepLR

from gd_lightning import InputError, compare, fit, plan, sweep
from gd_lightning.models import MLPRegressor
from gd_lightning.sklearn import GradientDescentRegressor

X = np.random.default_rng(0).normal(size=(20, 1))
Y = X @ [2.0]
ONE_LINE = r"^[^\n]*\bcannot [^\n]*(, because|: )[^\n]*; [^\n]*$"

CALLS: dict[str, Callable[..., Any]] = {
    "fit": partial(fit, (X, Y), batch_size=5, epochs=2),
    "compare": partial(compare, (X, Y), batch_sizes=[5], seeds=1, epochs=2),
    "sweep": partial(sweep, (X, Y), lrs=[0.1, 0.2], batch_sizes=[5], seeds=1, epochs=2),
    "plan": partial(plan, (X, Y), batch_size=5, epochs=2),
    "scikit-learn": lambda **options: GradientDescentRegressor(batch_size=5, epochs=2, **options).fit(X, Y),
}


class Own(nn.Module):
    """A network of one's own, which does something with what a layer of a library gives."""

    def __init__(self, width: int = 1, then: Callable[[Tensor], Any] = lambda y: y) -> None:
        super().__init__()
        self.layer, self.then = nn.Linear(width, 1), then

    def forward(self, x: Tensor) -> Any:
        return self.then(self.layer(x))


class Block(Own):
    """One whose first argument has another name."""

    def forward(this, x: Tensor) -> Any:  # noqa: N805
        return this.then(this.layer(x))


class Calculating(Own):
    """One that raises an exception itself, of torch or of its own."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.error = error

    def forward(self, x: Tensor) -> Tensor:
        if self.error is not None:
            raise self.error
        return x @ torch.ones(3, 1) + self.layer.bias


class WithoutForward(LightningModule):
    """A module of Lightning that is no network."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)


NETWORKS: dict[str, Callable[[], Any]] = {
    "another width": lambda: nn.Linear(3, 1),
    "another width of a layer": lambda: nn.Sequential(nn.Linear(1, 4), nn.ReLU(), nn.Linear(5, 1)),
    "another width in a network of one's own": lambda: Own(3),
    "another width in a block of one's own": lambda: nn.Sequential(nn.Linear(1, 2), Block(3)),
    "another width in a network of this package": lambda: MLPRegressor(3, 1, [4]),
    "numbers of classes": lambda: nn.Embedding(3, 1),
    "pictures": lambda: nn.Conv1d(1, 1, 3),
    "sequences": lambda: nn.TransformerEncoderLayer(4, 2),
    "layers, but no network": lambda: nn.ModuleList([nn.Linear(1, 1)]),
    "a LightningModule without forward": WithoutForward,
    "no tensor": lambda: nn.RNN(1, 1),
    "another shape": lambda: nn.Linear(1, 2),
    "sparse predictions": lambda: Own(then=lambda y: y.to_sparse()),
    "predictions without values": lambda: Own(then=lambda y: y.to("meta")),
    "an array": lambda: Own(then=lambda y: y.detach().numpy()),
    "complex numbers": lambda: Own(then=lambda y: y + 1j),
    "a trace": lambda: torch.jit.trace(nn.Linear(1, 1), torch.zeros(2, 1)),
    "a compiled module": lambda: torch.jit.script(nn.Linear(1, 1)),
}
IN_TRAINING: dict[str, Callable[[], Any]] = {  # what a plan does not see, since it measures no gradient of its own
    "whole numbers": lambda: Own(then=lambda y: y.long()),
    "no gradient": lambda: Own(then=lambda y: y.detach()),
    "two samples": lambda: nn.Sequential(nn.Linear(1, 2), nn.BatchNorm1d(2), nn.Linear(2, 1)),
}
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sparse gradients": {"optimizer": "SparseAdam"},
    "a GPU": {"optimizer": partial(torch.optim.Adam, capturable=True)},
    "a gradient of the update": {"optimizer": partial(torch.optim.SGD, differentiable=True)},
    "fewer epochs": {"lr_scheduler": partial(OneCycleLR, max_lr=0.1, total_steps=1)},
    "no period": {"lr_scheduler": partial(StepLR, step_size=0)},
    "a factor in words": {"lr_scheduler": {"class_path": "StepLR", "init_args": {"step_size": 1, "gamma": "x"}}},
}


def _refusal(call: str, **options: Any) -> InputError:
    with pytest.raises(InputError, match=ONE_LINE) as raised:
        CALLS[call](**options)
    return raised.value


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:.*enable_nested_tensor:UserWarning")
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_that_does_not_fit(name: str) -> None:
    for call in CALLS:
        error = _refusal(call, network=NETWORKS[name]())
        assert ("reports" in str(error)) == (error.__cause__ is not None), call


@pytest.mark.parametrize("name", IN_TRAINING)
def test_a_network_that_cannot_be_trained(name: str) -> None:
    batch_sizes = {"fit": "batch_size", "scikit-learn": "batch_size", "compare": "batch_sizes", "sweep": "batch_sizes"}
    for call, option in batch_sizes.items():
        if call == "scikit-learn":
            with pytest.raises(InputError, match=ONE_LINE):
                GradientDescentRegressor(batch_size=1, epochs=2, network=IN_TRAINING[name]()).fit(X, Y)
        else:
            _refusal(call, network=IN_TRAINING[name](), **{option: 1})


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_or_scheduler_that_cannot_train(name: str) -> None:
    for call in CALLS:
        if call != "plan":  # which is of plain SGD, and refuses others
            assert _refusal(call, **OPTIMIZERS[name]).__cause__ is not None, call


CALLBACKS: dict[str, Callable[[], Callback]] = {
    "an unknown metric": lambda: EarlyStopping(monitor="nope"),
    "no backbone": BackboneFinetuning,
    "no logger": LearningRateMonitor,
}


@pytest.mark.parametrize("name", CALLBACKS)
def test_a_callback_of_a_library(name: str) -> None:
    for call in ("fit", "compare"):
        assert _refusal(call, callbacks=[CALLBACKS[name]()]).__cause__ is not None, call
    assert _refusal("compare", callbacks=lambda: [CALLBACKS[name]()]).__cause__ is not None


class MineError(Exception):
    """An exception of one's own."""


class Raises(Callback):
    """Fails in a hook: by itself, in a function of torch, or in the network that is trained."""

    def __init__(self, how: str) -> None:
        self.how = how

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if self.how == "itself":
            raise MineError
        if self.how == "in torch":
            torch.zeros(2) @ torch.zeros(3)
        pl_module.network(torch.zeros(2, 7))


class Stops(EarlyStopping):
    """One of a library, with a hook of one's own."""

    def on_train_epoch_end(self, *_: Any) -> None:
        raise MineError


def _raise(*_: object) -> None:
    raise MineError


OWN: dict[str, tuple[type[Exception], Callable[[], dict[str, Any]]]] = {
    "a hook": (MineError, lambda: {"callbacks": Raises("itself")}),
    "a hook that calls torch": (RuntimeError, lambda: {"callbacks": Raises("in torch")}),
    "a hook that calls the network": (
        RuntimeError,
        lambda: {"callbacks": Raises("in the network"), "network": nn.Sequential(nn.Linear(1, 1))},
    ),
    "a hook of a callback of a library": (MineError, lambda: {"callbacks": Stops("train_loss")}),
    "a function that a callback calls": (MineError, lambda: {"callbacks": LambdaCallback(on_fit_start=_raise)}),
    "a network": (MineError, lambda: {"network": Calculating(MineError())}),
    "a network within another": (MineError, lambda: {"network": nn.Sequential(Calculating(MineError()))}),
    "a network that calls torch": (RuntimeError, lambda: {"network": Calculating()}),
    "what makes a network": (MineError, lambda: {"network": lambda *_: _raise()}),
    "too little memory": (MemoryError, lambda: {"network": Calculating(MemoryError())}),
}


@pytest.mark.parametrize("name", OWN)
def test_an_exception_of_ones_own_stays_as_it_is(name: str) -> None:
    kind, options = OWN[name]
    for call in ("fit", "compare", "sweep", "scikit-learn"):
        if "callbacks" not in options() or call in ("fit", "compare"):
            with pytest.raises(kind) as raised:
                CALLS[call](**options())
            assert not isinstance(raised.value, InputError)


def test_what_is_advised_is_trained() -> None:
    fit((X, Y), epochs=1, network=nn.Linear(1, 1), callbacks=EarlyStopping("train_loss"), optimizer="Adam")
