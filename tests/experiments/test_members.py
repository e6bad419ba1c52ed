"""Which runs a comparison has."""

from __future__ import annotations

import pytest

from gd_lightning import InputError
from gd_lightning.experiments.comparison.members import members, values_of

SEEDS = [{"seed_everything": "0"}, {"seed_everything": "1"}]


def test_every_combination_has_every_seed_and_a_name_of_its_own() -> None:
    axes = [[{"data.batch_size": "full"}, {"data.batch_size": "1"}], [{"model.lr": "0.1"}, {"model.lr": "1e-3"}]]
    found = members(axes, SEEDS)
    assert len(found) == len({member.name for member in found}) == 8
    assert found[3].name == "batch_size-full-lr-1e-3-seed1"
    assert found[3].options == {"data.batch_size": "full", "model.lr": "1e-3", "seed_everything": "1"}


def test_names_are_names_of_files() -> None:
    values = ["{class_path: torch.optim.Adam}", "../../etc", "a" * 200, "a" * 300, "[10, 10]", ""]
    found = members([[{"model.optimizer": value} for value in values]], SEEDS[:1])
    assert len({member.name for member in found}) == len(values)
    for member in found:
        assert "/" not in member.name
        assert not member.name.startswith(".")
        assert len(member.name) < 80


def test_an_option_is_varied_once() -> None:
    with pytest.raises(InputError, match=r"cannot vary model\.lr twice"):
        members([[{"model.lr": "1"}], [{"model.lr": "2"}]], SEEDS)


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
