"""Help on one screen, which is text, says what the parsers say."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

import gd_lightning
from gd_lightning.cli.command import Command
from gd_lightning.cli.options.examples import EXAMPLES
from gd_lightning.cli.options.jsonargparse_internals import subcommands_of
from gd_lightning.cli.options.parser import Parser
from gd_lightning.cli.options.short_help import SHOWN, help_of_the_program
from gd_lightning.data import RegressionDataModule
from gd_lightning.module import RegressionModule
from tests.conftest import ROOT
from tests.test_readme import README

_MOST_LINES, _WIDEST = 60, 120


def _said(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert gd_lightning.main([*arguments]) == 0
    return capfd.readouterr().out


@pytest.fixture(scope="module")
def printed() -> dict[str, tuple[str, str]]:
    """Return of each subcommand the help that its parser makes of its own defaults, and that with every option."""
    said: dict[str, tuple[str, str]] = {}
    with pytest.MonkeyPatch.context() as patched:

        def keep(command: Command, parser: Parser, _: object) -> None:
            said.update(
                {name: (child.format_help(), child.full_help()) for name, child in subcommands_of(parser).items()}
            )
            parser.exit()

        patched.setattr(Command, "parse_arguments", keep)
        assert gd_lightning.main(["--print_config"]) == 0
    return said


@pytest.mark.parametrize("stage", SHOWN)
def test_the_text_has_the_defaults_of_the_parser(
    stage: str, printed: dict[str, tuple[str, str]], capfd: pytest.CaptureFixture[str]
) -> None:
    for flag in ("--help", "-h"):
        shown = _said(capfd, stage, flag)
        assert shown == printed[stage][0]
    assert shown.startswith(EXAMPLES[stage])
    lines = shown.splitlines()
    assert len(lines) <= _MOST_LINES
    assert max(map(len, lines)) <= _WIDEST


@pytest.mark.parametrize("stage", SHOWN)
def test_each_option_that_is_shown_is_there(stage: str, printed: dict[str, tuple[str, str]]) -> None:
    shown, full = printed[stage]
    assert len(full.splitlines()) > 1000
    options = re.findall(r"^  --([\w.]+)", shown, re.M)
    assert len(options) == len(set(options)) > 4
    of_a_class = {"data.problem.path"}  # an option where the problem is a Table
    assert set(options) - of_a_class <= set(re.findall(r"--([\w.]+)", full))


@pytest.mark.parametrize("stage", SHOWN)
def test_the_help_with_every_option_is_in_plain_words(stage: str, printed: dict[str, tuple[str, str]]) -> None:
    full = printed[stage][1]
    headings = re.findall(r"^(\S.*):$", full.partition("\nusage: ")[2], re.M)
    assert len(headings) >= 9
    for heading in headings:
        assert heading == "options" or heading.endswith(")"), heading
        assert not re.search(r"class '|LightningCLI|``", heading), heading
    assert not re.search(r"PL_|ENV:|ARG:|\x08|:func:|Linked", full)
    if "--ckpt_path" in full:
        described = " ".join(full[full.index("--ckpt_path CKPT_PATH") :].split("(type")[0].split())
        assert "last, which is the newest run" in described
        assert not {"hpc", "registry", "URL"} & set(re.findall(r"\w+", described)), "these are refused"


def test_every_option_of_the_readme_is_in_the_help_of_its_subcommand(capfd: pytest.CaptureFixture[str]) -> None:
    commands = [shlex.split(found) for found in re.findall(r"python -m gd_lightning (\w+.*)", README)]
    assert len(commands) >= 6
    for stage, *words in commands:
        shown = _said(capfd, stage, "--help")
        for word in words:
            assert not word.startswith("--") or f"  {word} " in shown, (stage, word)


def test_what_the_help_names_is_there(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    shown = _said(capfd, "fit", "--help")
    assert shown == _said(capfd, "fit", "--data.batch_size", "1", "--help"), "where it comes behind others"
    of_a_class = re.findall(r"--([\w.]+)\.help (\w+)", shown)
    assert len(of_a_class) == 3
    for option, name in of_a_class:
        said = _said(capfd, "fit", f"--{option}.help", name)
        assert f"Help for --{option}.help={name}" in said or f"--{option}." in said
    assert "--trainer.reload_dataloaders_every_n_epochs" in _said(capfd, "fit", "--help-all")
    (variable,) = re.findall(r"(PL_\w+)=0.05", shown)
    monkeypatch.setenv(variable, "0.05")
    assert "lr: 0.05" in _said(capfd, "fit", "--print_config")


@pytest.mark.parametrize("flag", ["--help", "-h", "--help-all"])
def test_the_program_names_its_subcommands_in_whole_sentences(flag: str, capfd: pytest.CaptureFixture[str]) -> None:
    said = _said(capfd, flag)
    assert said == help_of_the_program()
    for stage in EXAMPLES:
        (sentence,) = re.findall(rf"^  {stage} +(\S.*)$", said, re.M)
        assert sentence[0].isupper()
        assert sentence.endswith(".")


class OtherData(RegressionDataModule):
    def __init__(self, batch_size: int = 7, shift: float = 0.5, **options: object) -> None:
        """Shift x.

        Args:
            batch_size: Samples.
            shift: What is added to x. It is in units of x.
            options: Of the base class.
        """
        super().__init__(batch_size=batch_size, **options)  # type: ignore[arg-type]
        self.shift = shift


class FewOptions(RegressionModule):
    def __init__(
        self, lr: float = 0.25, optimizer: dict[str, Any] | None = None, lr_scheduler: dict[str, Any] | None = None
    ) -> None:
        super().__init__(lr=lr, optimizer=optimizer, lr_scheduler=lr_scheduler)


@pytest.mark.usefixtures("new_parsers")
def test_the_help_of_another_project_has_its_own_options(capfd: pytest.CaptureFixture[str]) -> None:
    assert gd_lightning.main(["fit", "--help"], FewOptions, OtherData, "python -m mine") == 0
    said = capfd.readouterr().out
    assert re.search(r"--data.batch_size .*default 7\)", said)
    assert re.search(r"--model.lr .*default 0.25\)", said)
    assert re.search(r"--data.shift VALUE +What is added to x \(default 0.5\)", said)
    assert "--model.momentum" not in said
    assert "python -m mine fit" in said
    assert "python -m gd_lightning" not in said
    assert len(said.splitlines()) <= _MOST_LINES


def test_nothing_heavy_is_imported_for_it() -> None:
    """What it imports is text and what it is called."""
    seen, found = set[Path](), [ROOT / "gd_lightning" / "cli" / "options" / "short_help.py"]
    found.append(ROOT / "gd_lightning" / "cli" / "__init__.py")
    while found:
        path = found.pop()
        seen.add(path)
        for module in re.findall(r"^from (\S+) import|^import (\S+)", path.read_text(encoding="utf-8"), re.M):
            name = "".join(module)
            assert name.partition(".")[0] not in ("torch", "lightning", "jsonargparse", "numpy"), (path, name)
            if name.startswith("gd_lightning"):
                file = ROOT.joinpath(*name.split("."))
                new = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
                found += [] if new in seen else [new]
    assert len(seen) > 5
