"""Configs that build on another config, whose path they give as their option ``config``."""

from __future__ import annotations

from jsonargparse import ActionConfigFile, Namespace  # type: ignore[attr-defined]  # documented, yet not exported
from lightning.pytorch.cli import LightningArgumentParser

from gd_lightning.errors import InputError


def check_base(base: object, what: str) -> None:
    """Check what a config gives as the config that it builds on.

    Args:
        base: The value of its option ``config``.
        what: The name of the config, or of its section, in messages.

    Raises:
        InputError: The value is not the path of one config.
    """
    if not isinstance(base, str):
        raise InputError(f"cannot use {base!r} as config in {what}; give the path of another config")


def merged(parser: LightningArgumentParser, *configs: str) -> Namespace:
    """Return several configs merged into one, in which later ones take precedence, as after ``--config``.

    jsonargparse would leave out the sections of a config that is named in another one where both have them.

    Args:
        parser: Parses them.
        configs: Paths, or texts in YAML.
    """
    values = Namespace()
    for config in configs:
        ActionConfigFile.apply_config(parser, values, "config", config)
    del values["config"]
    return values
