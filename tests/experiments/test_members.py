"""Which runs a comparison has."""

from __future__ import annotations

import pytest

from gd_lightning import InputError
from gd_lightning.experiments.comparison.members import combinations, name_of, values_of


def test_every_combination_has_a_setting_and_a_name_of_its_own() -> None:
    found = combinations(["full", "1"], None, {"model.lr": ["0.1", "1e-3"]}, str)
    assert len(found) == len({name_of(setting, 0) for setting in found}) == 4
    assert name_of(found[1], 1) == "batch_size-full-lr-1e-3-seed1"
    assert found[1] == {"data.batch_size": "full", "model.lr": "1e-3"}


def test_names_are_names_of_files() -> None:
    values = ["{class_path: torch.optim.Adam}", "../../etc", "a" * 200, "a" * 300, "[10, 10]", ""]
    names = list[str]()
    for value in values:
        names.append(name_of({"model.optimizer": value}, 0, names))
    assert len(set(names)) == len(values)
    for name in names:
        assert "/" not in name
        assert not name.startswith(".")
        assert len(name) < 80


def test_an_option_is_varied_once() -> None:
    with pytest.raises(InputError, match=r"cannot vary model\.lr twice"):
        combinations([], ["1"], {"model.lr": ["2"]}, str)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1", ["1"]),
        ("full, 16,1", ["full", "16", "1"]),
        ("[1,2],[3]", ["[1,2]", "[3]"]),
        ("{a: 1, b: 2},'x,y'", ["{a: 1, b: 2}", "'x,y'"]),
        ("1,", ["1", ""]),
    ],
)
def test_values_are_split_outside_of_brackets(text: str, values: list[str]) -> None:
    assert values_of(text) == values
