"""Values as a person writes them."""

from __future__ import annotations

import pytest

from gd_lightning import InputError
from gd_lightning.experiments.sweeps.ranges import Given, numbers, whole_numbers, written_twice


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (0.1, [0.1]),
        ("0.1", [0.1]),
        ("1e-3, 0.1", [0.001, 0.1]),
        ([0.1, "0.01"], [0.01, 0.1]),
        ("0.1,0.1", [0.1]),
        ("log(1e-4,1,5)", [0.0001, 0.001, 0.01, 0.1, 1.0]),
        ("log(1, 0.01, 3)", [0.01, 0.1, 1.0]),
        ("log(0.1,7,1)", [0.1]),
        ("log(0.1,7,2)", [0.1, 7.0]),
        ("log(0.123456789,1,3)", [0.123456789, 0.351364, 1.0]),
        ("log(1,1.0001,3)", [1.0, 1.00004999875, 1.0001]),
        ("linear(0,0.9,4)", [0.0, 0.3, 0.6, 0.9]),
        ("0, linear(0.5,0.9,2)", [0.0, 0.5, 0.9]),
        ("1,2,4,...,16", [1.0, 2.0, 4.0, 8.0, 16.0]),
        ("1,2,4,...,20", [1.0, 2.0, 4.0, 8.0, 16.0, 20.0]),
        ("1,2,3,...,6", [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        ("0.1,0.2,0.3,...,0.6", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]),
        ("1,0.1,0.01,...,1e-4", [0.0001, 0.001, 0.01, 0.1, 1.0]),
        (["1", 2, 4, "...", 16], [1.0, 2.0, 4.0, 8.0, 16.0]),
        ("1,2,4,...,4", [1.0, 2.0, 4.0]),
        ("0,1,2,...,4,10", [0.0, 1.0, 2.0, 3.0, 4.0, 10.0]),
    ],
)
def test_lists_ranges_and_series_are_understood(given: Given, found: list[float]) -> None:
    assert numbers("lrs", given) == found


@pytest.mark.parametrize(
    ("given", "n", "found"),
    [
        ("1,2,4,...,full", 100, [1, 2, 4, 8, 16, 32, 64, 100]),
        ("1,2,4,...,full", 64, [1, 2, 4, 8, 16, 32, 64]),
        ("10,20,30,...,full", 45, [10, 20, 30, 40, 45]),
        ("full,1", 4, [1, 4]),
        ("full", 4, [4]),
        ("1,2,4,...,full", 4, [1, 2, 4]),
        ("1,2,4,...,full", 3, [1, 2, 3]),
        ("1,2,4,...,full", 1, [1]),
        (["full", 2], 4, [2, 4]),
        ("log(1,full,5)", 10_000, [1, 10, 100, 1000, 10_000]),
        ("log(1,4,10)", 10, [1, 2, 3, 4]),
    ],
)
def test_batch_sizes_go_up_to_all_samples(given: Given, n: int, found: list[int]) -> None:
    assert whole_numbers("batch_sizes", given, n) == found


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "give numbers, as in"),
        ("0.1,,0.2", "give numbers, as in"),
        ("x", "cannot use 'x' as lrs; give numbers"),
        ("nan", "cannot use 'nan' as lrs"),
        ("inf", "cannot use 'inf' as lrs"),
        ("full", "cannot use 'full' as lrs"),
        (True, "cannot use 'True' as lrs"),
        ([[0.1]], r"cannot use '\[0.1\]' as lrs"),
        ("log(1,2)", r"write log\(first,last,count\)"),
        ("log(1,2,3", "give numbers, as in"),
        ("exp(1,2,3)", r"write log\(first,last,count\)"),
        ("log(0,1,3)", "because a range of equal ratios contains only numbers above 0"),
        ("log(1,2,2.5)", "because 2.5 is not a number of values"),
        ("log(1,2,0)", "because 0 is not a number of values"),
        ("linear(1,2,1e9)", r"because 1e\+09 is not a number of values"),
        ("1,2,...,8", "write three numbers before the dots"),
        ("1,2,4,...", "write three numbers before the dots"),
        ("1,2,4,...,x", "cannot use 'x' as lrs"),
        ("1,2,5,...,9", "because 1,2,5 have neither equal ratios nor differences"),
        ("1,1,1,...,5", "because 1,1,1 have neither"),
        ("4,2,1,...,64", "because 64 does not follow 1 in this series"),
        ("4,2,1,...,0", "because these are more than 10,000 values"),
        ("1,2,3,...,1e9", "because these are more than 10,000 values"),
    ],
)
def test_what_cannot_be_understood_is_said_in_one_line(given: Given, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        numbers("lrs", given)
    assert "\n" not in str(error.value)


def test_a_batch_size_is_a_whole_number() -> None:
    with pytest.raises(
        InputError, match=r"because 2\.5 is not a number of samples; give whole numbers from 1, or full"
    ):
        whole_numbers("batch_sizes", "1,2.5", 10)


@pytest.mark.parametrize(
    ("given", "again"),
    [
        ("0.1, 0.2, 0.10", ["0.10"]),
        ([1, "1.0"], ["1.0"]),
        ("full,10", ["10"]),
        ("1,2,4,...,full", []),
        ("1,log(1,2,3)", []),
    ],
)
def test_what_is_written_twice_is_found(given: Given, again: list[str]) -> None:
    assert written_twice("lrs", given, 10) == again
