from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from gd_lightning.float64 import Moments, moved_only, svd


@pytest.mark.parametrize("ratio", [0.0, 1e3, 1e6, 1e9])
@pytest.mark.parametrize("sizes", [[200], [1, 0, 3, 196], [0, 200], [100, 100]], ids=str)
def test_moments_of_parts_are_those_of_all(ratio: float, sizes: list[int]) -> None:
    """The reference is NumPy in extended precision."""
    values = torch.from_numpy(
        np.random.default_rng(0).standard_normal((200, 2)) * [1, 1e-9] + ratio * np.array([1, 1e-9])
    )
    parts = [Moments.of(part) for part in values.split(sizes)]
    found = parts[0]
    for part in parts[1:]:
        found = found.merged(part)
    exact = values.numpy().astype(np.longdouble)
    assert found.count.item() == 200
    np.testing.assert_allclose(found.mean.numpy(), exact.mean(axis=0).astype(float), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.std.numpy(), exact.std(axis=0).astype(float), rtol=1e-6)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1 / 3, 1.7e9 + 0.1, 1e15])
def test_a_constant_column_is_exactly_constant(constant: float) -> None:
    column = torch.full((97, 1), constant, dtype=torch.float64)
    found = Moments.of(column[:10]).merged(Moments.of(column[10:]))
    assert (found.mean.item(), found.squares.item()) == (constant, 0)
    assert found.is_constant.all()
    column[5] = constant * (1 + 1e-16) + 1e-300  # which rounds to the constant, or is next to it
    assert constant == 0 or Moments.of(column).is_constant.all()
    column[5] = constant * (1 + 1e-12) + 1e-12
    assert constant == 1e15 or not Moments.of(column).is_constant.any()


@pytest.mark.parametrize("convert", [nn.Module.float, nn.Module.half, nn.Module.double, lambda m: m.to(torch.bfloat16)])
def test_float64_stays_where_a_module_is_converted(convert: object) -> None:
    class Kept(nn.Module):
        number: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("number", torch.tensor(1.7e9 + 1, dtype=torch.float64))

        def _apply(self, fn: object, recurse: bool = True) -> Kept:
            return super()._apply(moved_only(fn))  # type: ignore  # torch leaves the types open

    assert callable(convert)
    module = convert(nn.Sequential(nn.Linear(1, 1), Kept()))
    assert module[1].number.dtype is torch.float64
    assert module[1].number.item() == 1.7e9 + 1
    assert module.to("meta")[1].number.is_meta


def test_a_decomposition_is_computed_once_and_another_matrix_has_another(monkeypatch: pytest.MonkeyPatch) -> None:
    generator, computed = torch.Generator().manual_seed(0), list[torch.Tensor]()
    plain = torch.linalg.svd

    def counted(matrix: torch.Tensor, full_matrices: bool) -> tuple[torch.Tensor, ...]:
        computed.append(matrix)
        return tuple(plain(matrix, full_matrices=full_matrices))

    monkeypatch.setattr(torch.linalg, "svd", counted)
    first = torch.rand(64, 70, generator=generator, dtype=torch.float64)
    second = first.clone()
    second[3, 5] += 1e-15
    for matrix in (first, second, first.clone(), second, first.T):
        left, values, right = svd(matrix)
        np.testing.assert_allclose((left * values @ right).numpy(), matrix.numpy(), atol=1e-12)
    assert len(computed) == 3
    assert svd(first, full_matrices=True)[2].shape == (70, 70)
