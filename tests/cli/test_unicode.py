"""Characters of any script, in every text that a person can give, are the same ones wherever they are read again."""

from __future__ import annotations

from pathlib import Path

import pytest

from gd_lightning.cli.options.config_text import read, text_of
from gd_lightning.tracking.run_directory import CONFIG
from tests.conftest import CommandLine

# Beyond the basic plane, of several parts, a line separator, control characters, a mark of byte order, quotes.
TEXTS = [
    "\U0001f600",
    "\U0001d465\u0302",
    "Größe ²",
    "\u200d\u2028",
    "a\x7f\x85b",
    "\ufeff x",
    '"\\\ud7ff',
    "\U0010ffff",
]


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_values_are_read_as_they_were_written(text: str) -> None:
    values = {"title": text, text: [text, {"a": 1e-05}], "n": None}
    assert read(text_of(values)) == values


def test_a_run_with_a_title_is_continued_and_tested(command_line: CommandLine) -> None:
    text = "".join(TEXTS[:3])
    run = command_line.fit("--recorder.title", text, "--trainer.max_epochs", "2")
    assert command_line("fit", "--ckpt_path", "last", "--trainer.max_epochs", "3") == 0, command_line.err
    assert text in (run / CONFIG).read_text(encoding="utf-8")
    assert command_line("test", "--ckpt_path", run) == 0, command_line.err


def test_files_directories_and_columns_have_any_name(command_line: CommandLine, tmp_path: Path) -> None:
    name = "\U0001f600 \U0001d465"
    command_line.root = tmp_path / name
    command_line.root.mkdir()
    table = command_line.root / f"{name}.csv"
    rows = "".join(f"{i},{2 * i + 1}\n" for i in range(6))
    table.write_text(f"{name},y\U0001f680\n{rows}", encoding="utf-8")
    data = ["--data.problem", "Table", "--data.problem.path", str(table), "--model.lr", "0.01"]
    run = command_line.fit(*data, "--trainer.max_epochs", "2")
    assert command_line("fit", "--ckpt_path", run, "--trainer.max_epochs", "3") == 0, command_line.err
    for stage in ("test", "predict"):
        assert command_line(stage, "--ckpt_path", run) == 0, command_line.err
    header = (run / "predictions.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header == f"{name},y\U0001f680,predicted_y\U0001f680"
    vary = ["--vary", "model.lr=0.01,0.02", "--seeds", "1", "--trainer.max_epochs", "1"]
    assert command_line("compare", *data, *vary) == 0, command_line.err
