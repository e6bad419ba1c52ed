"""Columns against a dictionary from rows to values."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gd_lightning.records.columns import Column, are_in

STEPS = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 40), st.floats(width=32), st.booleans()), max_size=12)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(STEPS)
def test_a_column_is_what_was_put_into_it(steps: list[tuple[int, int, float, bool]]) -> None:
    column, expected, end = Column(), dict[int, float](), 0
    for gap, rows, value, is_popped in steps:
        values = np.array([value + i if rows % 2 else value for i in range(rows)], np.float64)
        column.extend(end + gap, rows, values if rows % 2 else value)
        expected |= dict(zip(range(end + gap, end + gap + rows), values.tolist(), strict=True))
        end += gap + rows
        if is_popped:
            column.pop()
            end -= 1
            del expected[end]
        assert column.last_row == max(expected, default=-1)
    again = Column(column.rows.copy(), column.values.copy())
    for each in (column, again):
        assert each.rows.tolist() == list(expected)
        np.testing.assert_array_equal(each.values, np.array(list(expected.values())))
        np.testing.assert_array_equal(each.dense(end + 3), [expected.get(row, math.nan) for row in range(end + 3)])
        asked = np.arange(0, end + 5, 3)
        found, values = each.find(asked)
        assert asked[found].tolist() == [row for row in asked.tolist() if row in expected]
        np.testing.assert_array_equal(values, [expected[row] for row in asked[found].tolist()])


def test_numbers_are_found_as_numpy_finds_them() -> None:
    draw = np.random.default_rng(0)
    for most in (0, 1, 5, 50):
        numbers, others = draw.integers(-3, 40, most), np.unique(draw.integers(-3, 40, most // 2))
        assert are_in(numbers, others).tolist() == np.isin(numbers, others).tolist()
