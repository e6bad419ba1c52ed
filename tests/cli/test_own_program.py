"""The command line serves another project: its classes, subcommands and name, with its errors and exit codes."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest

from gd_lightning import InputError, Problem, RegressionDataModule, RegressionModule, cli, main
from gd_lightning.cli import program
from gd_lightning.cli.options.examples import EXAMPLES


class OwnModule(RegressionModule):
    """A module with an option of its own.

    Args:
        width: Of a hidden layer.
        kwargs: Other options.
    """

    def __init__(self, width: int = 2, **kwargs: Any) -> None:
        super().__init__(hidden_sizes=[width], **kwargs)


class OwnData(RegressionDataModule):
    """Data with another batch size.

    Args:
        problem: The problem.
        batch_size: Samples per update.
        kwargs: Other options.
    """

    def __init__(self, problem: Problem, batch_size: int = 25, **kwargs: Any) -> None:
        super().__init__(problem, batch_size=batch_size, **kwargs)


def count(name: str, times: int = 2) -> int | None:
    """Count something.

    Args:
        name: What is counted.
        times: How often.
    """
    if times < 0:
        raise InputError(f"cannot count to {times}; use 0 or more")
    if times == 99:
        raise RuntimeError("a fault")
    if times == 98:
        raise KeyboardInterrupt
    print(name * times)
    return None if times == 2 else times


def _run(tmp_path: Path, *arguments: str) -> int:
    return main(
        arguments,
        module_class=OwnModule,
        data_class=OwnData,
        prog="python -m mine",
        subcommands={"count": count},
    )


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["count", "--name", "ab"], 0, "abab"),
        (["count", "--name", "ab", "--times", "3"], 3, "ababab"),
        (["count", "--name", "ab", "--times", "-1"], 2, "mine: cannot count to -1; use 0 or more"),
        (["count", "--nam", "ab"], 2, "mine: there is no option --nam; did you mean --name?"),
        (["count", "--name", "ab", "--times", "often"], 2, "mine: "),
        (["count", "--name", "ab", "--times", "98"], 130, "mine: ended by Ctrl-C"),
        (
            ["count", "--name", "ab", "--times", "99"],
            1,
            "mine: cannot continue, because of an error in count of test_own",
        ),
        (["count", "--help"], 0, "usage: python -m mine count"),
    ],
)
def test_a_subcommand_of_its_own(
    arguments: list[str],
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert _run(tmp_path, *arguments) == code
    printed = capfd.readouterr()
    assert said in printed.out + printed.err
    assert "Traceback" not in printed.err
    assert code not in (1, 2) or printed.err.count("\n") == 1
    assert program.speaker() == "gd_lightning"


@pytest.mark.usefixtures("new_parsers")
def test_classes_and_a_name_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert _run(tmp_path, "fit", "--model.width", "3", "--model.lr", "1e-4", "--trainer.max_epochs", "1") == 0
    assert "batch_size 25 of 100 samples" in capfd.readouterr().out
    assert _run(tmp_path, "fit", "--ckpt_path", "last", "--trainer.max_epochs", "2") == 0
    assert "8 in 2 epochs" in capfd.readouterr().out
    assert _run(tmp_path, "fit", "--model.widht", "3") == 2
    assert capfd.readouterr().err == "mine: there is no option --model.widht; did you mean --model.width?\n"
    assert _run(tmp_path) == 2
    assert capfd.readouterr().err.endswith("for example: python -m mine fit\n")
    assert _run(tmp_path, "--help") == 0
    usage = " ".join(capfd.readouterr().out.split())
    assert f"usage: python -m mine {{{','.join(EXAMPLES)},count}}" in usage
    assert "python -m gd_lightning" not in usage


@pytest.mark.parametrize(
    ("option", "base"), [("module_class", "RegressionModule"), ("data_class", "RegressionDataModule")]
)
def test_classes_of_another_kind(option: str, base: str, capfd: pytest.CaptureFixture[str]) -> None:
    classes: dict[str, Any] = {option: dict}
    assert main(["fit"], **classes) == 2
    assert (
        capfd.readouterr().err
        == f"gd_lightning: cannot train dict, because it is not a {base}; give a subclass of it\n"
    )


def test_what_a_command_imports_is_left_out_of_later_searches_for_garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    searched, before = list[int](), gc.get_threshold()
    monkeypatch.setattr(cli, "_load", lambda: searched.append(gc.get_threshold()[2]))
    kept = gc.get_freeze_count()
    cli._load_to_stay()
    try:
        assert (gc.get_threshold(), gc.isenabled()) == (before, True)
        assert searched[0] > 1_000_000
        assert gc.get_freeze_count() > kept
    finally:
        gc.unfreeze()
