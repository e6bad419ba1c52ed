"""Objects of torch that ``fit`` takes in Python: datasets, schedulers and networks of other kinds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.cli import ReduceLROnPlateau
from torch import Tensor, nn
from torch.optim import lr_scheduler
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset

from gd_lightning import InputError, RegressionModule, as_problem, fit
from tests.conftest import MakeTrainer

X = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
Y = X @ torch.tensor([[1.0], [2.0]]) + 1
DATA = TensorDataset(X, Y)


class Rows(Dataset[tuple[Tensor, Tensor]]):
    """A dataset without tensors that could be taken."""

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        return X[row], Y[row]


@pytest.mark.parametrize(
    ("given", "rows"),
    [
        (Subset(DATA, range(5, 20)), [*range(5, 20)]),
        (Subset(DATA, [3, 1, 1]), [3, 1, 1]),
        (Subset(Subset(DATA, range(10, 30)), [0, 5, 19]), [10, 15, 29]),
        (ConcatDataset([DATA, Subset(DATA, [4])]), [*range(40), 4]),
        (DATA + DATA, [*range(40), *range(40)]),
    ],
    ids=["range", "list", "of a subset", "concatenated", "sum"],
)
def test_parts_of_tensor_datasets_are_the_rows_that_torch_gives(given: Any, rows: list[int]) -> None:
    x, y = as_problem(given).sample()
    assert torch.equal(x, torch.stack([given[i][0] for i in range(len(given))]))
    assert torch.equal(x, X[rows])
    assert torch.equal(y, Y[rows])


@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no:UserWarning")
@pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers:UserWarning")
@pytest.mark.filterwarnings("ignore:The number of training batches:UserWarning")
@pytest.mark.parametrize(
    "given",
    [
        DataLoader(DATA, batch_size=8),
        Rows(),
        Subset(Rows(), range(30)),
        ConcatDataset([DATA, Rows()]),
        TensorDataset(X, Y, Y),
    ],
    ids=lambda each: type(each).__name__,
)
def test_others_are_refused_and_a_loader_of_them_trains_by_a_trainer(given: Any, make_trainer: MakeTrainer) -> None:
    with pytest.raises(InputError, match=r"or a DataLoader to Trainer.fit with a RegressionModule"):
        fit(given)
    if not isinstance(given, TensorDataset):
        loader = given if isinstance(given, DataLoader) else DataLoader(given, batch_size=8)
        module = RegressionModule(lr=0.05, in_features=2, out_features=1)
        make_trainer(max_epochs=3).fit(module, loader)
        assert (module(X) - Y).square().mean() < 0.5 * Y.square().mean()


@pytest.mark.parametrize(
    "given",
    [iter([(X, Y)]), (pair for pair in [(X, Y)]), zip(X, Y, strict=True), [X, Y]],
    ids=["iterator", "generator", "zip", "list"],
)
def test_what_is_no_dataset_is_refused_with_what_to_give(given: Any) -> None:
    with pytest.raises(InputError, match=r"; give \(x, y\), a DataFrame with targets=, a TensorDataset of x and y"):
        fit(given)


def _same(first: Any, second: Any) -> bool:
    return bool(np.array_equal(first.history["train_loss"], second.history["train_loss"], equal_nan=True))


def test_torchs_reduce_on_plateau_watches_the_train_loss_or_what_is_named() -> None:
    options: dict[str, Any] = {"epochs": 12, "lr": 0.4, "batch_size": 4}
    plain: dict[str, Any] = {"patience": 0, "factor": 0.3, "threshold": 0.5}
    of_lightning = fit((X, Y), **options, lr_scheduler=partial(ReduceLROnPlateau, monitor="train_loss", **plain))
    of_torch = fit((X, Y), **options, lr_scheduler=partial(lr_scheduler.ReduceLROnPlateau, **plain))
    named = {"class_path": "ReduceLROnPlateau", "init_args": {"monitor": "val_loss", **plain}}
    assert _same(of_lightning, of_torch)
    assert not _same(of_torch, fit((X, Y), **options))
    assert not _same(of_torch, fit((X, Y), **options, val_size=10, lr_scheduler=named))


@pytest.mark.parametrize(
    "given",
    [
        partial(lr_scheduler.LambdaLR, lr_lambda=lambda epoch: 0.9**epoch),
        partial(lr_scheduler.LambdaLR, lr_lambda=[lambda epoch: 0.9**epoch]),
        {"class_path": "MultiplicativeLR", "init_args": {"lr_lambda": np.sqrt}},
    ],
    ids=["partial", "list", "mapping"],
)
def test_a_function_of_a_scheduler_is_refused_and_another_class_does_the_same(given: Any) -> None:
    with pytest.raises(InputError, match=r"cannot use a function as lr_lambda of lr_scheduler.*use another class"):
        fit((X, Y), lr_scheduler=given)
    decays = fit((X, Y), epochs=3, lr=0.1, lr_scheduler=partial(lr_scheduler.ExponentialLR, gamma=0.9))
    assert decays.history["train_loss"][-1] < decays.history["train_loss"][0]


def _network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1))


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("compile_by", [lambda network: torch.jit.trace(network, X), torch.jit.script])
def test_a_network_that_torch_jit_compiled_is_refused_and_the_one_it_was_made_of_trains(
    compile_by: Callable[[nn.Module], nn.Module],
) -> None:
    network = _network()
    with pytest.raises(InputError, match=r"was compiled by torch.jit.*; give the network that it was made from"):
        fit((X, Y), network=compile_by(network))
    losses = fit((X, Y), network=network, epochs=3, lr=0.05).history["train_loss"]
    assert losses[-1] < losses[0]


def test_a_network_that_torch_fx_traced_trains_as_the_one_it_was_made_of() -> None:
    options: dict[str, Any] = {"epochs": 4, "batch_size": 10, "lr": 0.05}
    losses = fit((X, Y), network=torch.fx.symbolic_trace(_network()), **options).history["train_loss"]
    np.testing.assert_allclose(losses, fit((X, Y), network=_network(), **options).history["train_loss"], rtol=1e-5)
