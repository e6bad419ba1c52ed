"""What is written does not depend on the terminal, be it closed, full or without some characters, or on names taken."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

import gd_lightning
from gd_lightning.cli.terminal import Terminal
from tests.conftest import TIMEOUT

pytestmark = pytest.mark.usefixtures("pictures")


class Full(io.TextIOBase):
    """A terminal that takes nothing."""

    def write(self, text: str) -> int:
        raise OSError(28, "no space left")


class Broken(io.TextIOBase):
    """A terminal whose reader has gone, which turns out when the buffer is handed over."""

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        raise BrokenPipeError


def closed() -> io.TextIOBase:
    stream = io.StringIO()
    stream.close()
    return stream


TERMINALS = {"full": Full(), "broken": Broken(), "closed": closed(), "none": None}
EPOCH = ["--trainer.max_epochs", "1"]
# Subcommand, its exit code, and what has to be there.
COMMANDS: dict[str, tuple[list[str], int, list[str]]] = {
    "fit": (["fit", *EPOCH], 0, ["*/history.csv", "*/summary.json", "*/curves.png", "*/checkpoints/last.ckpt"]),
    "sweep": (
        ["sweep", "--lrs", "0.1,0.2", "--batch_sizes", "full", "--seeds", "2", *EPOCH],
        0,
        ["*/table.csv", "*/map.png", "*/config.yaml"],
    ),
    "compare": (
        ["compare", "--batch_sizes", "full,50", "--seeds", "1", *EPOCH],
        0,
        ["*/table.csv", "*/compare.json", "*/*/history.csv"],
    ),
    "plan": (["plan"], 0, ["plan-*.png"]),
    "explore": (["explore"], 0, ["explore-*.html"]),
    "version": (["--version"], 0, []),
    "help": (["fit", "--help"], 0, []),
    "bad input": (["fit", "--model.lr", "nope"], 2, []),
    "diverged": (["fit", "--model.lr", "1e6"], 3, ["*/history.csv"]),
}


def _run(arguments: list[str], root: Path) -> int:
    own = [] if arguments == ["--version"] else [f"--trainer.default_root_dir={root}"]
    return gd_lightning.main([*arguments, *own])


def _is_written(root: Path, files: list[str]) -> None:
    for pattern in files:
        assert list((root / "lightning_logs").glob(pattern)), pattern


@pytest.mark.parametrize("name", COMMANDS)
def test_every_subcommand_ends_as_with_a_terminal(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, code, files = COMMANDS[name]
    kind = list(TERMINALS)[list(COMMANDS).index(name) % len(TERMINALS)]
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(sys, stream, TERMINALS[kind])
    assert _run(arguments, tmp_path) == code
    _is_written(tmp_path, files)
    assert sys.stdout is TERMINALS[kind]  # as before


@pytest.mark.parametrize("stream", TERMINALS.values(), ids=TERMINALS)
def test_a_terminal_takes_everything(stream: io.TextIOBase | None) -> None:
    terminal = Terminal(stream)  # type: ignore[arg-type]  # as much of a stream as is used
    for _ in range(2):
        assert terminal.write("a") == 1
        terminal.flush()
    assert not terminal.isatty()
    print("a", file=terminal, flush=True)
    terminal.close()


@pytest.mark.parametrize(
    ("encoding", "text", "expected"),
    [
        ("ascii", "0.5 ± 0.1 · 2 — …", "0.5 +/- 0.1 * 2 - ..."),
        ("ascii", "Größe, café, \U0001f600", "Grosse, cafe, ?"),
        ("latin-1", "0.5 ± 0.1, \U0001f600", "0.5 ± 0.1, ?"),
        ("cp1252", "x² → y", "x² -> y"),
        ("utf-8", "a\udcffb ±", "a?b ±"),  # of a file's name that is no text
    ],
)
def test_characters_that_an_encoding_lacks_are_plain(encoding: str, text: str, expected: str) -> None:
    raw = io.BytesIO()
    terminal = Terminal(io.TextIOWrapper(raw, encoding=encoding, newline=""))
    print(text, end="", file=terminal)
    terminal.flush()
    assert raw.getvalue().decode(encoding) == expected


def test_a_sweep_prints_plain_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    assert _run(COMMANDS["sweep"][0], tmp_path) == 0
    assert b"+/-" in raw.getvalue()


@pytest.mark.parametrize("name", ["fit", "sweep", "compare", "plan"])
def test_a_link_to_nothing_bears_its_name(name: str, tmp_path: Path) -> None:
    arguments, code, files = COMMANDS[name]
    logs = tmp_path / "lightning_logs"
    logs.mkdir()
    for taken in (
        "SteepLine-batch-b100-lr0.1-seed0",
        "sweep-SteepLine",
        "compare-SteepLine",
        "plan-SteepLine-b100-lr0.1",
    ):
        (logs / taken).symlink_to(tmp_path / "nowhere")
        (logs / f"{taken}.png").symlink_to(tmp_path / "nowhere")
    assert _run(arguments, tmp_path) == code
    _is_written(tmp_path, files)
    assert len(list(logs.glob("*-2*"))) == 1
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("name", ["sweep", "compare"])
def test_a_directory_that_is_a_link_to_nothing_is_refused_before_training(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert _run([*COMMANDS[name][0], f"--directory={tmp_path / 'link'}"], tmp_path) == 2
    assert "is not a directory; give" in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
@pytest.mark.parametrize("redirection", ["> /dev/full", "2> /dev/full", ">&-", "2>&-", ">&- 2>&-", "| true"])
def test_a_process_ends_as_with_a_terminal(redirection: str, tmp_path: Path) -> None:
    command = f"({sys.executable} -m gd_lightning fit --trainer.max_epochs 2; echo $? > code) {redirection}"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, timeout=TIMEOUT, check=False)
    assert (tmp_path / "code").read_text(encoding="utf-8") == "0\n", done.stderr
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr
    _is_written(tmp_path, COMMANDS["fit"][2])
