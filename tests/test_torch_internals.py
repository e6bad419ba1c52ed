"""What the package uses of torch, and torch does not document: each is what it is taken for.

Where one of these tests fails, a release of torch has changed that name; nothing else needs to be looked through.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.modules import module as of_modules
from torch.nn.utils import parametrizations
from torch.optim import SGD
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from gd_lightning import torch_internals as internals


def _nothing(*_: Any) -> None:
    """Do nothing: a hook."""


BATCH_NORMS = [
    *(nn.BatchNorm1d(2), nn.BatchNorm2d(2), nn.BatchNorm3d(2), nn.SyncBatchNorm(2)),
    *(nn.LazyBatchNorm1d(), nn.LazyBatchNorm2d(), nn.LazyBatchNorm3d()),
]
OTHERS = [nn.Linear(2, 2), nn.LayerNorm(2), nn.InstanceNorm1d(2), nn.GroupNorm(1, 2), nn.RMSNorm(2), nn.Dropout()]


@pytest.mark.parametrize("layer", [*BATCH_NORMS, *OTHERS], ids=lambda layer: type(layer).__name__)
def test_layers_that_mix_samples(layer: nn.Module) -> None:
    assert internals.mixes_samples(layer) == (layer in BATCH_NORMS)


HOOKS: dict[str, Callable[[nn.Linear, SGD], Any]] = {
    "forward": lambda layer, _: layer.register_forward_hook(_nothing),
    "forward pre": lambda layer, _: layer.register_forward_pre_hook(_nothing),
    "backward": lambda layer, _: layer.register_full_backward_hook(_nothing),
    "backward pre": lambda layer, _: layer.register_full_backward_pre_hook(_nothing),
    "step pre": lambda _, optimizer: optimizer.register_step_pre_hook(_nothing),
    "step post": lambda _, optimizer: optimizer.register_step_post_hook(_nothing),
}


@pytest.mark.parametrize("kind", HOOKS)
def test_hooks_of_a_module_or_an_optimizer(kind: str) -> None:
    layer = nn.Linear(2, 1)
    optimizer = SGD(layer.parameters(), lr=0.1)
    handle = HOOKS[kind](layer, optimizer)
    assert (internals.has_hooks(vars(layer)), internals.has_hooks(vars(optimizer))) == (kind[0] != "s", kind[0] == "s")
    assert len(internals.forward_pre_hooks(layer)) == (kind == "forward pre")
    handle.remove()
    assert not any(internals.has_hooks(vars(each)) for each in (layer, optimizer))


@pytest.mark.parametrize(
    "register",
    [
        of_modules.register_module_forward_hook,
        of_modules.register_module_forward_pre_hook,
        of_modules.register_module_full_backward_hook,
        of_modules.register_module_full_backward_pre_hook,
        register_optimizer_step_pre_hook,
        register_optimizer_step_post_hook,
    ],
)
def test_hooks_of_all_modules_or_optimizers(register: Callable[..., Any]) -> None:
    assert not internals.has_global_hooks()
    handle = register(_nothing)
    assert internals.has_global_hooks()
    handle.remove()
    assert not internals.has_global_hooks()


@pytest.mark.parametrize("name", ["register_hook", "register_post_accumulate_grad_hook"])
def test_hooks_of_a_gradient(name: str) -> None:
    parameter = nn.Parameter(torch.zeros(2))
    assert not internals.has_gradient_hooks(parameter)
    handle = getattr(parameter, name)(lambda _: None)
    assert internals.has_gradient_hooks(parameter)
    handle.remove()
    assert not internals.has_gradient_hooks(parameter)


@pytest.mark.parametrize("bias", [False, True])
def test_weights_that_are_computed_from_others(bias: bool) -> None:
    layer = nn.Linear(2, 2, bias=bias)
    assert internals.has_plain_weights(layer)
    parametrizations.orthogonal(layer)
    assert not internals.has_plain_weights(layer)


@pytest.mark.parametrize("noted", [False, True])
def test_schedulers_warn_where_they_have_seen_no_step(noted: bool) -> None:
    optimizer = SGD(nn.Linear(1, 1).parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    if noted:
        internals.note_step(optimizer)
    with nullcontext() if noted else pytest.warns(UserWarning, match="step"):
        scheduler.step()


def test_contents_are_what_torch_yields() -> None:
    module = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 1))
    modules, parameters, buffers = internals.contents(vars(module))
    assert (modules, parameters, buffers) == (dict(module.named_children()), {}, {})
    _, parameters, buffers = internals.contents(vars(module[0]))
    assert parameters == dict(module[0].named_parameters())
    assert buffers == dict(module[0].named_buffers())


@pytest.fixture
def _run() -> Iterator[None]:
    """Make this the one process of a run."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("_run")
def test_the_store_of_a_run_holds_what_is_set_first() -> None:
    store = internals.store_of_the_run()
    assert store.compare_set("failure", "", "0 1") == b"0 1"
    assert store.compare_set("failure", "", "1 2") == b"0 1"
    assert store.check(["failure"])
    assert not store.check(["nothing"])


def _raised(call: Callable[[], object]) -> BaseException:
    with pytest.raises(Exception) as raised:  # noqa: PT011  # each library has its own
        call()
    return raised.value


def test_memory_is_short() -> None:
    huge = 2**50
    for call in (lambda: torch.empty(huge), lambda: np.empty(huge), lambda: bytearray(huge)):
        assert internals.is_short_of_memory(_raised(call))
    assert internals.is_short_of_memory(torch.OutOfMemoryError("of an accelerator"))
    for other in (ValueError("column 'out of memory' of DefaultCPUAllocator.csv"), RuntimeError("out of memory")):
        assert not internals.is_short_of_memory(other)


def _loss_of_a_process() -> BaseException:
    store, groups = torch.distributed.HashStore(), dict[int, Any]()  # type: ignore[attr-defined]

    def meet(rank: int) -> None:
        groups[rank] = torch.distributed.ProcessGroupGloo(store, rank, 2, timedelta(seconds=20))

    threads = [threading.Thread(target=meet, args=[rank]) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    del groups[1]
    return _raised(lambda: groups[0].allreduce([torch.ones(1)]).wait())


@pytest.mark.usefixtures("_run")
def test_a_process_is_gone() -> None:
    assert internals.is_loss_of_a_process(_loss_of_a_process())
    assert internals.is_loss_of_a_process(torch.distributed.DistNetworkError("of any backend"))
    assert not internals.is_loss_of_a_process(ValueError("cannot read gloo/gloo/table.csv"))


def test_a_process_that_has_no_others_loses_none() -> None:
    assert not internals.is_loss_of_a_process(RuntimeError("cannot read gloo/gloo/table.csv"))
