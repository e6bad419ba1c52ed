"""What a person writes is what is meant: no text becomes another number or word on its way through YAML."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from gd_lightning.cli.options.config_text import read
from tests.cli.test_one_line import BAD, COMPLETED
from tests.conftest import CommandLine

# Text, and what it is; YAML 1.1 makes numbers and words of all that stay text here.
READ: dict[str, Any] = {
    **{text: text for text in ("1:30", "-1:30:00", "1:30.5", "017", "-017", "00", "1__0", "1_", "0o17", "2026-01-01")},
    **{text: text for text in ("yes", "No", "on", "OFF", "y", "12e", "1e", "e1", ".", "1.2.3", "0x", "0b2", "²")},
    **{"1_000": 1000, "0x10": 16, "0b11": 3, "-0": 0, "+5": 5, "1.": 1.0, ".5": 0.5, "-.5": -0.5, "1_0.5": 10.5},
    **{"1e3": 1000.0, "1e-320": 1e-320, "-1.5e-3": -0.0015, "1.e5": 1e5, "true": True, "False": False, "~": None},
    "[no, 1:30, 017]": ["no", "1:30", "017"],
    "{a: yes, b: 012}": {"a": "yes", "b": "012"},
}


@pytest.mark.parametrize("text", READ)
def test_a_text_is_read_as_it_is_written(text: str) -> None:
    found = read(text)
    assert found == READ[text]
    assert type(found) is type(READ[text])
    if isinstance(found, (int, float)) and text[0] in "-+.0123456789" and text[:2] not in ("0x", "0b"):
        assert found == float(text)  # as Python reads it


@pytest.mark.parametrize("text", [".inf", "-.inf", "+.INF", ".nan", ".NaN"])
def test_what_is_not_finite_is_read_as_such(text: str) -> None:
    assert not math.isfinite(read(text))
    assert repr(read(text)) == repr(yaml.safe_load(text))


@pytest.mark.parametrize(
    "line",
    [
        "fit --model.lr 1:30",
        "fit --model.momentum=-1:30",
        "fit --data.seed 1:30",
        "fit --data.val_size 1:30",
        "fit --trainer.max_epochs 1:30",
        "fit --model.hidden_sizes [1:30]",
        "fit --model.initialization.weight 1:30",
        "fit --optimizer Adam --optimizer.betas [0.9,1:30]",
        "fit --data.problem Sine --data.problem.noise 1:30",
        "fit --config lr.yaml",
        "plan --config weight.yaml",
        "sweep --lrs 0.1,1:30",
        "sweep --config lrs.yaml",
        "compare --lrs 1:30",
        "compare --lrs [1:30]",
        "compare --target 1:30",
        "compare --vary model.lr=0.1,1:30",
        "compare --config vary.yaml",
    ],
)
def test_what_is_no_number_is_refused(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "lr": "model: {lr: 1:30}",
        "weight": "model: {initialization: {weight: 1:30}}",
        "lrs": "lrs: [0.1, 1:30]",
        "vary": "vary: {model.lr: [0.1, 1:30]}",
    }.items():
        Path(f"{name}.yaml").write_text(text)
    before = sorted(tmp_path.iterdir())
    assert command_line(*line.split()) == BAD
    assert "1:30" in command_line.err
    assert len(command_line.err.splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before


def test_durations_numbers_and_words_are_what_they_were(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("words.yaml").write_text(
        "data: {standardize: yes, seed: 1_0}\ntrainer: {max_time: 1:00:00:00, max_epochs: 02}\n"
    )
    run = command_line.fit("--config", "words.yaml", "--recorder.title", "on")
    made = yaml.safe_load((run / "config.yaml").read_text())
    assert made["data"]["standardize"] == "both"
    assert made["data"]["seed"] == 10
    assert made["trainer"]["max_time"] == "1:00:00:00"
    assert made["trainer"]["max_epochs"] == 2
    assert made["recorder"]["title"] == "on"
    assert command_line("fit", "--trainer.max_time", "00:00:00:15", "--trainer.max_epochs", "1") == COMPLETED


def test_a_column_can_have_the_name_of_a_word(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"{i},{i % 3},{i * i % 5},{i % 4}\n" for i in range(12))
    Path("t.csv").write_text(f"no,017,1:30,on\n{rows}")
    options = ["--data.problem", "Table", "--data.problem.path", "t.csv", "--trainer.max_epochs", "1"]
    names = ["--data.problem.features", "[no, 017]", "--data.problem.targets", "[1:30, on]"]
    run = command_line.fit(*options, *names)
    made = yaml.safe_load((run / "config.yaml").read_text())["data"]["problem"]["init_args"]
    assert made["features"] == ["no", "017"]
    assert made["targets"] == ["1:30", "on"]
