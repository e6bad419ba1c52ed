"""Texts of many numbers at once: those of ``repr``, and back to the same number."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from gd_lightning.records.columns import Column
from gd_lightning.records.csv_columns import to_csv
from gd_lightning.records.decimal_texts import cells

Floats = NDArray[np.float64]
RANDOM = np.random.default_rng(0)
POWERS = 2.0 ** np.arange(-1074, 1024)
KINDS: dict[str, Floats] = {
    "any bits": np.frombuffer(RANDOM.bytes(8 * 20_000), np.float64),
    "of usual sizes": RANDOM.standard_normal(20_000) * 10.0 ** RANDOM.integers(-8, 20, 20_000),
    "float32": RANDOM.standard_normal(5_000).astype(np.float32).astype(np.float64),
    "short": np.round(RANDOM.standard_normal(5_000), 3),
    "parts of epochs": np.arange(3_000) / 7,
    "hundredths": np.arange(3_000) / 100,
    "whole": RANDOM.integers(-(2**60), 2**60, 5_000).astype(np.float64),
    "powers of two, whose neighbours are at two distances": np.concatenate([POWERS, -POWERS]),
    "beside powers of two": np.concatenate([np.nextafter(POWERS, 0), np.nextafter(POWERS, np.inf)]),
    "powers of ten": np.array([float(f"1e{power}") for power in range(-323, 309)]),
    "beside powers of ten": np.nextafter([float(f"1e{power}") for power in range(-323, 309)], 0),
    "halfway between shorter ones": np.array([float(f"{digits}5e{e}") for digits in range(1, 99) for e in (-9, 0, 9)]),
    "where the exponent begins": np.array([9.5e-5, 1e-4, 1.5e-4, 1e15, 1e15 + 0.5, 9.9e15, 1e16, 1.5e16, 1e22, 1e23]),
    "smallest and largest": np.array([5e-324, 2.2250738585072014e-308, 1.7976931348623157e308]),
    "no numbers": np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0]),
    "one": np.array([-0.1]),
}


def text_of(value: float) -> str:
    is_short = np.isfinite(value) and value == np.floor(value) and abs(value) < 1e15
    return str(int(value)) if is_short else repr(value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_is_that_of_repr(kind: str) -> None:
    texts = [cell.tobytes().replace(b"\0", b"").decode() for cell in cells(KINDS[kind])]
    assert texts == [text_of(value) for value in KINDS[kind].tolist()]


@pytest.mark.parametrize("at_once", [1, 7, 10_000])
def test_lines_have_an_empty_cell_where_a_value_is_missing(at_once: int) -> None:
    rows = 1_000
    held = {name: np.flatnonzero(RANDOM.random(rows) < share) for name, share in (("a", 1.0), ("b", 0.3), ("c", 0.0))}
    values = {name: RANDOM.standard_normal(len(places)) for name, places in held.items()}
    columns = {name: Column(held[name], values[name]) for name in held}
    cells_of = {name: dict(zip(held[name].tolist(), map(repr, values[name].tolist()), strict=True)) for name in held}
    expected = ["a,b,c", *(",".join(cells_of[name].get(row, "") for name in held) for row in range(rows))]
    assert "".join(to_csv(columns, rows, at_once)).splitlines() == expected


def test_a_table_without_rows_is_its_header() -> None:
    assert "".join(to_csv({"a": Column(), "b": Column()}, 0, 10)) == "a,b\n"
