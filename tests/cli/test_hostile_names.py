"""Names of a stranger: nothing of them reaches the terminal that it obeys, they stop no picture, and they are kept."""

from __future__ import annotations

import csv
import io
import re
import sys
from pathlib import Path

import pytest
import yaml
from tqdm import tqdm

from gd_lightning.cli.terminal import Terminal, warn
from gd_lightning.escaping import csv_text
from gd_lightning.records.history import History
from tests.conftest import CommandLine

pytestmark = pytest.mark.usefixtures("pictures")

OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
FEATURES = ["\x1b[31mred\x07", "=cmd|' /C calc'!A0", r"$\frac{", "two\nlines", "\u202eback"]
TARGET = "@\x1b]0;title\x07 $a$ and $"
ONE_EPOCH = ["--trainer.max_epochs", "1", "--model.lr", "0.001"]


@pytest.fixture
def table(tmp_path: Path) -> list[str]:
    """Return the options of a table whose columns have such names."""
    rows = [[(i * j) % 7 for j in range(1, len(FEATURES) + 2)] for i in range(12)]
    path = tmp_path / "a\x1b[2J.csv"
    path.write_text(csv_text([[*FEATURES, TARGET], *rows]), encoding="utf-8", newline="")
    return ["--data.problem", "Table", "--data.problem.path", str(path)]


def _is_harmless(command_line: CommandLine) -> None:
    for text in (command_line.out, command_line.err):
        assert not OBEYED.search(text), ascii(text)


def test_every_subcommand_shows_them_and_keeps_them(command_line: CommandLine, table: list[str]) -> None:
    command_line.root /= "\x1b[31mruns"
    run = command_line.fit(*table, *ONE_EPOCH)
    assert r"\x1b[31mred\x07" in command_line.out
    assert r"w_two\nlines" in command_line.out
    assert r"\x1b[31mruns" in command_line.out
    _is_harmless(command_line)
    assert {f"w_{name}" for name in FEATURES} <= set(History.from_csv(run / "history.csv").columns)
    for stage in ("test", "predict"):
        assert command_line(stage, "--ckpt_path", run) == 0, command_line.err
        _is_harmless(command_line)
    with (run / "predictions.csv").open(newline="", encoding="utf-8") as lines:
        header = next(csv.reader(lines))
    assert header[1] == f"'{FEATURES[1]}"
    assert not [name for name in header if name.startswith(("=", "+", "-", "@", "\t", "\r"))]
    # What was written is read again by the same names.
    inputs = ["--data.predict_inputs", str(run / "predictions.csv")]
    assert command_line("predict", "--ckpt_path", run, *inputs) == 0, command_line.err
    assert command_line("plan", *table, "--map", "false") == 0, command_line.err
    _is_harmless(command_line)


def test_they_stop_no_picture(command_line: CommandLine, table: list[str], tmp_path: Path) -> None:
    few = ["--batch_sizes", "full,6", "--seeds", "1", *ONE_EPOCH]
    directory = tmp_path / "c\x1b[1m$x_"
    assert command_line("compare", *table, *few, "--directory", directory) == 0, command_line.err
    _is_harmless(command_line)
    assert (directory / "comparison.png").is_file()
    assert command_line("sweep", *table, "--lrs", "0.001,0.002", *few[:2], *ONE_EPOCH[:2]) == 0, command_line.err
    _is_harmless(command_line)
    runs = [str(path) for path in sorted(directory.glob("*")) if (path / "config.yaml").is_file()]
    for i, run in enumerate(runs):  # labels are what differs
        config = yaml.safe_load((Path(run) / "config.yaml").read_text(encoding="utf-8"))
        config["recorder"]["title"] = f"{TARGET}{i}"
        config["seed_everything"], config["data"]["batch_size"] = 0, "full"
        (Path(run) / "config.yaml").write_text(yaml.safe_dump(config))
    assert command_line("compare", *runs, "--directory", tmp_path / "again") == 0, command_line.err
    _is_harmless(command_line)


@pytest.mark.parametrize(
    "option", ["--data.problem.features", "--data.problem.targets", "--data.problem.path", "--x\x1b[1m"]
)
def test_a_message_shows_them(command_line: CommandLine, table: list[str], option: str) -> None:
    value = "a\x1b[31m\x07\u202e\r" if option.endswith("path") else '["a\\u001b[31m\\r"]'
    assert command_line("fit", *table, option, value) == 2
    assert command_line.err.splitlines()[-1].startswith("gd_lightning: ")
    assert r"\x1b[" in command_line.err
    _is_harmless(command_line)


def _written(text: str) -> str:
    stream = io.StringIO()
    print(text, end="", file=Terminal(stream))
    return stream.getvalue()


def test_text_is_shown_and_a_bar_may_move_the_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _written("\r\x1b[Aok\x1b[0m \U0001f600 a\tb\n") == "\\r\\x1b[Aok\\x1b[0m \U0001f600 a\tb\n".replace(
        "\\r", r"\r"
    )
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", Terminal(stream))
    with tqdm([1, 2], desc="\x1b[31mred", mininterval=0) as bar:
        list(bar)
    assert "\r" in stream.getvalue()
    assert r"\x1b[31mred" in stream.getvalue()
    assert "\x1b[31m" not in stream.getvalue()
    warn("two\nlines")
    assert stream.getvalue().endswith("gd_lightning: warning: two\\nlines\n")
