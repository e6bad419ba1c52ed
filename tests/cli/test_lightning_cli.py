"""What the command line uses of LightningCLI, and Lightning does not document: each does what it is used for."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback
from lightning.pytorch.demos.boring_classes import BoringDataModule, BoringModel

from gd_lightning.cli.lightning_cli import OpenCLI


class Model(BoringModel):
    def __init__(self, lr: float = 0.1) -> None:
        super().__init__()
        self.lr = lr


class Noted(OpenCLI):
    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        self.config = parser.parse_args(args)

    def run(self, subcommand: str) -> None:
        self.ran = subcommand


def _cli(*arguments: str) -> Noted:
    defaults = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    given = ["fit", *arguments]
    return Noted(Model, BoringDataModule, args=given, trainer_defaults=defaults, seed_everything_default=1)


def test_the_subclass_says_how_a_subcommand_is_run_and_what_was_made_of_its_options() -> None:
    cli = _cli("--model.lr", "0.5")
    assert (cli.ran, cli.subcommand) == ("fit", "fit")
    assert cli.instantiated("model") is cli.model
    assert cli.model.lr == 0.5


def test_a_trainer_has_the_callbacks_it_is_given_and_saves_the_config() -> None:
    callback = Callback()
    trainer = _cli().make_trainer({"accelerator": "cpu", "logger": False, "callbacks": [callback]})
    kinds = [type(made) for made in trainer.callbacks]  # type: ignore[attr-defined]
    assert callback in trainer.callbacks  # type: ignore[attr-defined]
    assert SaveConfigCallback in kinds


def test_generators_are_seeded_as_the_options_say() -> None:
    cli = _cli("--seed_everything", "7")
    again = copy.copy(cli)
    torch.manual_seed(0)
    again.seed_anew()
    assert torch.initial_seed() == 7


def test_what_a_checkpoint_says_does_not_overrule_what_a_person_gives(tmp_path: Path) -> None:
    torch.save({"hyper_parameters": {"lr": 0.7}}, tmp_path / "a.ckpt")
    assert _cli("--ckpt_path", str(tmp_path / "a.ckpt"), "--model.lr", "0.5").model.lr == 0.5
    assert _cli("--ckpt_path", str(tmp_path / "a.ckpt")).model.lr == 0.1


def test_the_parsers_of_subcommands_can_be_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """As tests/conftest.py does."""
    first = _cli()
    names = ("parser", "_subcommand_parsers", "_subcommand_method_arguments")

    def setup_parser(self: Noted, *_: object) -> None:
        for name in names:
            setattr(self, name, getattr(first, name))

    monkeypatch.setattr(Noted, "setup_parser", setup_parser)
    assert _cli("--model.lr", "0.25").model.lr == 0.25
