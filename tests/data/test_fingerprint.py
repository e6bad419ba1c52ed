from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from gd_lightning.data.fingerprint import Fingerprint

NAMES = ["a", "b", "y"]


def _data(rows: int) -> tuple[Tensor, Tensor]:
    values = torch.randn(rows, 3, dtype=torch.float64)
    return values[:, :2], values[:, 2:]


@pytest.mark.parametrize("rows", [1, 2, 63, 64, 65, 1000, 4097])
def test_every_changed_value_is_found_with_its_column_and_rows(rows: int) -> None:
    x, y = _data(rows)
    before = Fingerprint.of(x, y, exact=True, rows_at_once=100)
    random = np.random.default_rng(0)
    for row in {0, rows - 1, *random.integers(0, rows, 5).tolist()}:
        for column, name in enumerate(NAMES):
            changed = torch.cat([x, y], dim=1).clone()
            changed[row, column] = torch.nextafter(changed[row, column], torch.tensor(9.0, dtype=torch.float64))
            said = Fingerprint.of(changed[:, :2], changed[:, 2:], exact=True, rows_at_once=77).difference(before, NAMES)
            assert f"column {name!r} differ" in said
            numbers = [int(word) for word in said.split() if word.isdigit()]
            assert numbers[0] <= row + 1 <= numbers[-1] < numbers[0] + max(1, rows / 60), said
            assert rows > 64 or len(numbers) == 1


def test_the_same_values_are_the_same_data_however_they_are_held() -> None:
    x, y = (values.float() for values in _data(500))
    x[3] = 0.0
    before = Fingerprint.of(x, y, exact=True)
    minus = x.clone()
    minus[3] = -0.0
    held = torch.cat([x, y], dim=1).T.contiguous().T  # columns, not rows, side by side
    for same in ((x.double(), y.double()), (minus, y), (held[:, :2], held[:, 2:])):
        assert Fingerprint.of(*same, exact=True).difference(before) == ""


@pytest.mark.parametrize("exact", [True, False])
def test_other_rows_and_columns_are_counted(exact: bool) -> None:
    x, y = _data(30)
    before = Fingerprint.of(x, y, exact)
    more = Fingerprint.of(x.repeat(2, 1), y.repeat(2, 1), exact)
    assert more.difference(before, NAMES) == "there are 60 rows, and the run was trained on 30"
    assert "3 features and targets, and the run was trained with 2" in before.difference(Fingerprint.of(y, y, exact))
    swapped = Fingerprint.of(x.flip(1), y, exact)
    assert swapped.difference(before, NAMES).startswith("the values of column 'a' and of 1 other differ")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_computed_is_compared_within_the_rounding_of_float32(dtype: torch.dtype) -> None:
    x, y = _data(1000)
    before = Fingerprint.of(x, y, exact=False)
    rounded = Fingerprint.of((x * (1 + 1e-7)).to(dtype), (y * (1 - 1e-7)).to(dtype), exact=False)
    assert rounded.difference(before) == ""
    assert Fingerprint.of(x.float(), y, exact=True).difference(Fingerprint.of(x, y, exact=True))
    order = torch.arange(1000)
    order[[2, 3]] = order[[3, 2]]
    for other in ((x[order], y), (x, y.flip(0)), (x, y + 0.001), (x * 1.001, y), _data(1000)):
        assert Fingerprint.of(*other, exact=False).difference(before)


def test_values_that_are_nearly_0_are_compared_with_the_others() -> None:
    x = torch.linspace(-3.2, 3.2, 50)[:, None]
    x[40] = torch.pi
    y, elsewhere = torch.sin(x), torch.sin(x.double()).float() + 1e-7 * torch.cos(9 * x)
    assert (y[40] - elsewhere[40]).abs() > 0.1 * y[40].abs()
    assert Fingerprint.of(x, elsewhere, exact=False).difference(Fingerprint.of(x, y, exact=False)) == ""


def test_it_stays_small_and_comes_back_from_a_checkpoint() -> None:
    for rows, columns in ((100_000, 2), (100, 500), (3, 10_000)):
        taken = Fingerprint.of(torch.randn(rows, columns - 1), torch.randn(rows, 1), exact=True)
        assert taken.marks.numel() <= max(4096, columns)
        again = Fingerprint.from_state_dict(taken.state_dict())
        assert again is not None
        assert taken.difference(again) == ""
    damaged: list[dict[str, object]] = [{}, {"rows": 3}, {"rows": "3", "marks": taken.marks}]
    damaged.append({"rows": 3, "marks": torch.zeros(2)})
    assert [Fingerprint.from_state_dict(state) for state in damaged] == [None] * 4
