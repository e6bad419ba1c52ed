"""Networks of one's own that cannot be trained, or not on these batches: refused before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gd_lightning import InputError, LinearProblem, RegressionDataModule, RegressionModule
from gd_lightning.module.first_update import _other_sizes
from gd_lightning.variants import Variant
from tests.conftest import CommandLine, MakeTrainer

D, N = 3, 9


def _data(**options: Any) -> RegressionDataModule:
    return RegressionDataModule(LinearProblem(n_samples=N, n_features=D), **options)


class Own(nn.Module):
    """Does something with what a linear layer gives."""

    def __init__(self, then: Callable[[Tensor], Any] = lambda y: y) -> None:
        super().__init__()
        self.layer, self.then = nn.Linear(D, 1), then
        self.scaled = self.layer.weight * 2  # not made anew in each call

    def forward(self, x: Tensor) -> Any:
        return self.then(self.layer(x))


class Functional(Own):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.batch_norm(self.layer(x), None, None, training=self.training)


class Stale(Own):
    def forward(self, x: Tensor) -> Tensor:
        return x @ self.scaled.T


class Instances(nn.Sequential):
    def __init__(self, places: int) -> None:
        super().__init__(
            nn.Linear(D, 4 * places),
            nn.Unflatten(1, (4, places)),
            nn.InstanceNorm1d(4),
            nn.Flatten(),
            nn.Linear(4 * places, 1),
        )


def _with(norm: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(D, 4), norm, nn.Linear(4, 1))


NEED_TWO: dict[str, Callable[[], nn.Module]] = {
    "BatchNorm1d": lambda: _with(nn.BatchNorm1d(4)),
    "BatchNorm1d without running statistics": lambda: _with(nn.BatchNorm1d(4, track_running_stats=False)),
    "in a block": lambda: nn.Sequential(_with(nn.BatchNorm1d(4)), nn.Linear(1, 1)),
    "as a function": Functional,
}
NEED_ONE: dict[str, Callable[[], nn.Module]] = {
    "GroupNorm": lambda: _with(nn.GroupNorm(2, 4)),
    "LayerNorm": lambda: _with(nn.LayerNorm(4)),
    "InstanceNorm1d": lambda: Instances(2),
    "Dropout": lambda: _with(nn.Dropout(0.5)),
}


@pytest.mark.parametrize("batch_size", [1, 2, 4, 8])
@pytest.mark.parametrize("name", NEED_TWO)
def test_a_network_that_needs_two_samples_is_refused_where_a_batch_has_one(
    make_trainer: MakeTrainer, name: str, batch_size: int
) -> None:
    """Of 9 samples, each of these sizes leaves one; what the message says then works."""
    module = RegressionModule(lr=0.01, network=NEED_TWO[name]())
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with pytest.raises(InputError, match=r"on a batch of a single sample, .* use data\.batch_size (\d+)") as refused:
        make_trainer(max_epochs=1).fit(module, _data(batch_size=batch_size))
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    said = str(refused.value)
    assert ("drop_last" in said) == (batch_size > 1)
    followed = [{"batch_size": int(said.split("batch_size ")[1].split(",")[0])}]
    followed += [{"batch_size": batch_size, "drop_last": True}] * (batch_size > 1)
    for options in followed:
        trainer = make_trainer(max_epochs=1)
        trainer.fit(RegressionModule(lr=0.01, network=NEED_TWO[name]()), _data(**options))
        assert trainer.global_step > 0


@pytest.mark.parametrize("name", NEED_ONE)
def test_a_network_that_takes_one_sample_is_trained_on_one(make_trainer: MakeTrainer, name: str) -> None:
    trainer = make_trainer(max_epochs=1)
    trainer.fit(RegressionModule(lr=0.01, network=NEED_ONE[name]()), _data(batch_size=1))
    assert trainer.global_step == N


@pytest.mark.parametrize("n", range(2, 40))
def test_the_size_that_is_named_leaves_no_batch_of_one(n: int) -> None:
    for size in range(1, n):
        variant = Variant(size, n)
        if 1 in [sizes for _, sizes in variant.batch_sizes]:
            named = int(_other_sizes(variant).split()[1].rstrip(","))
            assert all(sizes > 1 for _, sizes in Variant.of(named, n).batch_sizes)


NO_GRADIENT: dict[str, Callable[[Tensor], Any]] = {
    "detached": lambda y: y.detach(),
    "whole numbers": lambda y: y.long(),
    "signs": lambda y: y > 0,
    "a copy": lambda y: torch.tensor(y.tolist()),
}
NO_PREDICTION: dict[str, Callable[[Tensor], Any]] = {
    "(B,)": lambda y: y[:, 0],
    "(B, K + 1)": lambda y: torch.cat([y, y], 1),
    "(1, K)": lambda y: y.mean(0, keepdim=True),
    "a number": lambda y: y.sum(),
    "a pair": lambda y: (y, y),
    "a dictionary": lambda y: {"prediction": y},
    "nothing": lambda y: None,
    "an array": lambda y: y.detach().numpy(),
    "complex": lambda y: y + 1j,
}
TRAINED: dict[str, Callable[[Tensor], Any]] = {
    "float64": lambda y: y.double(),
    "float16": lambda y: y.half(),
    "nan": lambda y: y * torch.nan,
}


@pytest.mark.parametrize("name", [*NO_GRADIENT, *NO_PREDICTION])
def test_what_is_no_prediction_is_refused(make_trainer: MakeTrainer, name: str) -> None:
    then = {**NO_GRADIENT, **NO_PREDICTION}[name]
    said = "have no gradient" if name in NO_GRADIENT else "cannot (use|be compared)"
    with pytest.raises(InputError, match=said):
        make_trainer(max_epochs=1).fit(RegressionModule(network=Own(then)), _data(batch_size=4))


@pytest.mark.parametrize("name", TRAINED)
def test_what_is_a_prediction_is_trained(make_trainer: MakeTrainer, name: str) -> None:
    """In another precision than the targets, it is where this torch has a gradient of their squared error."""
    trainer, module = make_trainer(max_epochs=1), RegressionModule(lr=0.01, network=Own(TRAINED[name]))
    weight = torch.ones(4, 1, requires_grad=True)
    try:
        nn.functional.mse_loss(TRAINED[name](weight), torch.zeros(4, 1), reduction="sum").backward()
    except RuntimeError:
        with pytest.raises(InputError, match="cannot compute its gradient"):
            trainer.fit(module, _data(batch_size=4))
        return
    trainer.fit(module, _data(batch_size=4))
    assert trainer.global_step == 3


def test_a_graph_that_is_not_made_anew_is_refused_before_the_first_update(make_trainer: MakeTrainer) -> None:
    """Lightning's own loop makes an update, and fails in the second one."""
    trainer = make_trainer(max_epochs=1)
    with pytest.raises(InputError, match="cannot compute its gradient in every update"):
        trainer.fit(RegressionModule(network=Stale()), _data(batch_size=4))
    assert trainer.global_step == 0


def test_a_network_with_nothing_to_train_is_refused(make_trainer: MakeTrainer) -> None:
    network = Own().requires_grad_(False)
    with pytest.raises(InputError, match="none of its parameters is to be trained"):
        make_trainer(max_epochs=1).fit(RegressionModule(network=network), _data())


def test_the_update_that_is_tried_leaves_no_trace(make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = []
    for tried in (True, False):
        if not tried:
            monkeypatch.setattr("gd_lightning.module.regression.try_gradient", lambda *_: None)
        torch.manual_seed(3)
        network = nn.Sequential(nn.Linear(D, 4), nn.BatchNorm1d(4), nn.Dropout(0.4), nn.Linear(4, 1))
        module = RegressionModule(lr=0.05, network=network)
        make_trainer(max_epochs=2).fit(module, _data(batch_size=4, drop_last=True))
        ends.append(module.state_dict())
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


class Failing(Own):
    """Fails in a call of one's own; and as the classes that a config can name are made, with the sizes."""

    def __init__(self, in_features: int, out_features: int, call: int = 1) -> None:
        super().__init__()
        self.layer, self.call, self.calls = nn.Linear(in_features, out_features), call, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls >= self.call:
            raise LookupError("nothing of that name\nand more")
        return super().forward(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize("call", [1, 9])
def test_what_a_network_raises_is_one_line_that_says_whose_it_is(
    command_line: CommandLine, make_trainer: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    """In Python it is raised as it is; on the command line its traceback is in a file, beside what was trained."""
    monkeypatch.chdir(tmp_path)
    options = ["--model.network", f"{__name__}.Failing", "--model.network.call", str(call), "--data.batch_size", "10"]
    assert command_line("fit", *options) == 1
    (line,) = command_line.err.splitlines()
    assert "error in forward of test_first_update.py, line " in line
    assert "which is not part of this program (LookupError: nothing of that name)" in line
    (file,) = tmp_path.rglob("traceback.txt")
    assert str(file.name) in line
    assert "raise LookupError" in file.read_text()
    with pytest.raises(LookupError, match="and more") as raised:
        make_trainer(max_epochs=1).fit(RegressionModule(network=Failing(D, 1, call)), _data(batch_size=1))
    assert raised.traceback[-1].name == "forward"


class Counting(nn.Linear):
    """Counts its calls, and notes how many samples each had."""

    def __init__(self) -> None:
        super().__init__(2, 1)
        self.calls, self.sizes, self.seen = 0, list[int](), {0}

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.sizes.append(len(x))
        self.seen.add(len(x))
        return super().forward(x)


def test_what_a_network_notes_of_its_calls_is_that_of_the_run_alone(make_trainer: MakeTrainer) -> None:
    network, own = Counting(), Counting()
    own.load_state_dict(network.state_dict())
    data, sizes = RegressionDataModule(LinearProblem(n_samples=100, n_features=2), batch_size=30), network.sizes
    make_trainer(max_epochs=2).fit(RegressionModule(lr=0.01, network=network, engine="autograd"), data)
    assert network.calls == 8
    assert network.sizes is sizes
    assert network.sizes == [30, 30, 30, 10] * 2
    assert network.seen == {0, 30, 10}
