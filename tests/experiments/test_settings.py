"""The experiments of the article on settings, from the shipped configs, and the document that says what they show."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import CONFIGS, ROOT, CommandLine
from tests.experiments.__main__ import EXPERIMENTS, sentences

DOCUMENT = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
NAMES = [path.stem for path in EXPERIMENTS]


def _content(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((CONFIGS / "experiments" / f"{name}.yaml").read_text())
    return content


def _verdicts(text: str) -> dict[str, str]:
    """Return what was found of each claim."""
    found = re.findall(r'^- "(.*)": (agrees|does not agree|cannot be judged)', text, re.M)
    return dict(found)


def _section(name: str) -> str:
    title = name.replace("_", " ").capitalize()
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", DOCUMENT, re.M | re.S)
    assert found is not None
    return found[1]


def test_there_is_one_for_each_table_of_the_article() -> None:
    assert set(NAMES) == {
        "activations",
        "algorithms",
        "batch_sizes_and_time",
        "convergence_criteria",
        "dropout",
        "initialization",
        "iterations",
        "learning_rates",
        "losses_with_outliers",
        "momentum",
        "optimizers",
        "penalties",
        "sampling_order",
        "standardization",
        "start_and_local_minima",
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_explains_itself_and_claims_something(name: str) -> None:
    assert (CONFIGS / "experiments" / f"{name}.yaml").read_text().startswith("# The article")
    content = _content(name)
    options = {"vary", "vary_data", "batch_sizes", "lrs", "seeds", "columns", "claims"}
    assert set(content) <= options | {"data", "model", "trainer", "lr_scheduler"}
    assert content["claims"]


# Each of these asks something else of the machinery; the others are like one of them.
DISTINCT = ("standardization", "start_and_local_minima")


@pytest.mark.parametrize(
    "name", [name if name in DISTINCT else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_every_experiment_runs_in_a_short_form_and_claims_of_what_is_there(
    command_line: CommandLine, tmp_path: Path, name: str
) -> None:
    content = _content(name)
    short: dict[str, Any] = {"seeds": 1, "trainer": {"max_epochs": 2, "check_val_every_n_epoch": 1}}
    if varies_epochs := "trainer.max_epochs" in content.get("vary", {}):
        short |= {"vary": {"trainer.max_epochs": [1, 2]}, "claims": {}}
    (tmp_path / "short.yaml").write_text(yaml.safe_dump(short))
    shipped = CONFIGS / "experiments" / f"{name}.yaml"
    assert command_line("compare", "--config", shipped, "--config", tmp_path / "short.yaml") == 0, command_line.err
    varied = short["vary"] if varies_epochs else content.get("vary") or {"batch_sizes": content["batch_sizes"]}
    assert f"{math.prod(map(len, varied.values()))} runs" in command_line.out
    assert "because there is no" not in command_line.out  # a group or a quantity that a claim names


def test_a_run_that_diverges_is_a_result_and_no_failure(command_line: CommandLine) -> None:
    assert command_line("compare", "--vary", "model.lr=0.1,10", "--seeds", "1", "--trainer.max_epochs", "4") == 0
    assert "lr 10 diverged: the train loss grew" in command_line.out


@pytest.mark.parametrize("name", NAMES)
def test_the_document_says_what_was_found_of_every_claim(name: str) -> None:
    section = _section(name)
    assert f"python -m gd_lightning compare --config configs/experiments/{name}.yaml" in section
    verdicts = _verdicts(section)
    assert list(verdicts) == list(_content(name)["claims"])
    assert "cannot be judged" not in verdicts.values()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_document_is_what_the_experiments_find(command_line: CommandLine, name: str) -> None:
    """But for the seconds, which are those of a machine; ``python -m tests.experiments --write`` writes it anew."""
    assert command_line("compare", "--config", CONFIGS / "experiments" / f"{name}.yaml") == 0, command_line.err
    found, written = _verdicts("\n".join(sentences(command_line.out))), _verdicts(_section(name))
    for claim, expectation in _content(name)["claims"].items():
        if not expectation.startswith("seconds"):
            assert found[claim] == written[claim], claim
