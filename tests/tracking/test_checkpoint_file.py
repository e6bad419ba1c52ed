"""Whether a checkpoint can be read is known without reading it, and never wrongly."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gd_lightning.errors import InputError
from gd_lightning.models import LinearRegressor
from gd_lightning.tracking.checkpoint_file import certainly_loads, read_checkpoint, write_checkpoint

SELF: list[Any] = []
SELF.append(SELF)
PLAIN = {
    "values": {"a": [1, 2.5, True, None, "text \U0001f600"], 3: (float("nan"), -(2**63), 2**64 - 1), None: ()},
    "tensors": [torch.arange(3), torch.zeros(0), torch.ones(2, 2).T, torch.tensor(True), torch.zeros(1).bfloat16()],
    "a module": LinearRegressor(2, 1).state_dict(),
    "an optimiser": torch.optim.Adam([nn.Parameter(torch.ones(2))]).state_dict(),
    "ordered": OrderedDict(a=OrderedDict(b=1)),
    "deep": [[[[[{"a": [{"b": ({},)}]}]]]]],
}
OTHERS = {
    "a number of NumPy": np.float64(1.5),
    "a function": print,
    "an object": InputError("x"),
    "a path": Path("a"),
    "a sparse tensor": torch.ones(2, 2).to_sparse(),
    "a tensor with more": nn.Parameter(torch.ones(2)),
    "itself": SELF,
    "many": [0] * 200_000,
    "many digits": 10**1_000,
    "a set": {1, 2},
    "bytes": b"a",
}


@pytest.mark.parametrize("kind", PLAIN)
def test_what_certainly_loads_is_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    assert certainly_loads({"content": PLAIN[kind]})
    write_checkpoint({"content": PLAIN[kind]}, path)
    assert repr(read_checkpoint(path)["content"]) == repr(PLAIN[kind])


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize(
    "place", [lambda value: value, lambda value: {"a": [({"b": value},)]}, lambda value: (1, value)]
)
def test_other_content_is_not_certain(kind: str, place: Any) -> None:
    assert not certainly_loads(place(OTHERS[kind]))


def test_what_cannot_be_loaded_is_never_certain(tmp_path: Path) -> None:
    refused = 0
    for content in OTHERS.values():
        path = tmp_path / "a.ckpt"
        try:
            write_checkpoint({"content": content}, path)
            read_checkpoint(path)
        except InputError:
            refused += 1
            assert not certainly_loads(content)
    assert refused >= 3
