"""What the package uses of torch, and torch does not document: each does what it is used for."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gd_lightning import torch_internals as internals


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(2), nn.SyncBatchNorm(2), nn.LazyBatchNorm1d()])
def test_batch_norms_mix_samples(layer: nn.Module) -> None:
    assert internals.mixes_samples(layer)
    assert not internals.mixes_samples(nn.LayerNorm(2))


def test_the_store_of_a_run_holds_what_is_set_first() -> None:
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
    try:
        store = internals.store_of_the_run()
        assert store.compare_set("failure", "", "0 1") == b"0 1"
        assert store.compare_set("failure", "", "1 2") == b"0 1"
        assert store.check(["failure"])
        assert not store.check(["nothing"])
    finally:
        torch.distributed.destroy_process_group()
