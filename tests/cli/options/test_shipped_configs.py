"""``--config NAME`` finds the configs of the package, from any directory and from an archive."""

from __future__ import annotations

import importlib.resources
import os
import zipfile
from pathlib import Path

import pytest
import yaml

from gd_lightning.cli.options import shipped_configs
from gd_lightning.cli.options.shipped_configs import shipped_config, with_shipped_configs
from tests.conftest import CONFIGS, CommandLine

NAMES = sorted(path.relative_to(CONFIGS).with_suffix("").as_posix() for path in CONFIGS.rglob("*.yaml"))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")


@pytest.mark.parametrize("name", NAMES)
def test_each_is_found_by_its_name(name: str) -> None:
    for given in (name, f"{name}.yaml", f"configs/{name}", f"configs/{name}.yaml"):
        assert Path(shipped_config(given)).samefile(CONFIGS / f"{name}.yaml")


@pytest.mark.parametrize("given", ["nothing", "../batch", "/batch.yaml", "{lr: 1}", "experiments", "", "batch.txt"])
def test_other_names_are_left_as_they_are(given: str) -> None:
    assert shipped_config(given) == given


def test_a_local_file_wins(command_line: CommandLine) -> None:
    Path("batch.yaml").write_text("model: {lr: 0.07}")
    for name, lr in {"batch.yaml": 0.07, "batch": 0.04}.items():
        assert command_line("fit", "--config", name, "--print_config") == 0
        assert yaml.safe_load(command_line.out)["model"]["lr"] == lr
    Path("batch").write_text("model: {lr: 0.08}")
    assert command_line("fit", "--config=batch", "--print_config") == 0
    assert yaml.safe_load(command_line.out)["model"]["lr"] == 0.08
    assert command_line("fit", "-c", "mini_batch", "--config", "stochastic", "--print_config") == 0
    assert yaml.safe_load(command_line.out)["data"]["batch_size"] == 1, "the later one"


@pytest.mark.parametrize(
    ("arguments", "variables", "text"),
    [
        (["fit"], {"PL_FIT__CONFIG": "batch"}, ""),
        (["fit"], {"PL_FIT__CONFIG": "configs/batch.yaml"}, ""),
        (["fit"], {"PL_FIT__CONFIG": "{config: batch.yaml, data: {seed: 3}}"}, ""),
        (["fit", "-c", "all.yaml"], {}, "config: batch"),
        (["fit", "--config", "all.yaml"], {"PL_FIT__MODEL__LR": "0.01"}, "{config: batch, recorder: }"),
        (["plan"], {"PL_PLAN__CONFIG": "batch"}, ""),
    ],
)
def test_a_name_is_one_wherever_a_config_is_given(
    arguments: list[str],
    variables: dict[str, str],
    text: str,
    command_line: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("all.yaml").write_text(text)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert command_line(*arguments, "--print_config") == 0, command_line.err
    config = yaml.safe_load(command_line.out)
    assert (config["model"]["lr"], config["data"]["order"]) == (0.04, "sequential")
    assert {name: os.environ[name] for name in variables} == variables
    if text.startswith("config"):  # beside the file that names it
        Path("batch").write_text("model: {lr: 0.08}")
        assert command_line(*arguments, "--print_config") == 0
        assert yaml.safe_load(command_line.out)["model"]["lr"] == 0.08


@pytest.mark.parametrize("first", ["config", "data"])
def test_a_config_adds_to_the_one_that_it_names(first: str, command_line: CommandLine) -> None:
    """Whichever comes first in it, it is as two configs on the command line, the named one below the other."""
    parts = {"config": "config: batch", "data": "data: {seed: 3}\nmodel: {momentum: 0.5}"}
    Path("own.yaml").write_text(f"{parts.pop(first)}\n{''.join(parts.values())}\n")
    assert command_line("fit", "--config", "own.yaml", "--print_config=skip_default") == 0
    one = command_line.out
    Path("other.yaml").write_text("data: {seed: 3}\nmodel: {momentum: 0.5}")
    assert command_line("fit", "--config", "batch", "--config", "other.yaml", "--print_config=skip_default") == 0
    assert command_line.out == one
    found = yaml.safe_load(one)
    assert (found["data"]["order"], found["data"]["seed"], found["model"]) == (
        "sequential",
        3,
        {"lr": 0.04, "momentum": 0.5},
    )


def test_before_the_subcommand_a_name_is_one_too(command_line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_CONFIG", "batch")
    assert command_line("fit") == 2
    assert command_line.err.startswith("gd_lightning: cannot use data.problem before the subcommand; give it, or its")


def test_only_what_follows_config_is_a_name() -> None:
    given = ["fit", "--data.problem", "batch", "--config=batch", "batch"]
    assert list(with_shipped_configs(given)) == [*given[:3], f"--config={CONFIGS / 'batch.yaml'}", "batch"]


def test_in_an_archive_they_are_read_as_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command_line: CommandLine
) -> None:
    with zipfile.ZipFile(tmp_path / "package.zip", "w") as archive:
        archive.write(CONFIGS / "batch.yaml", "gd_lightning/configs/batch.yaml")
    inside = zipfile.Path(tmp_path / "package.zip", "gd_lightning/")
    monkeypatch.setattr(shipped_configs, "files", lambda _: inside)
    assert shipped_config("batch") == (CONFIGS / "batch.yaml").read_text(encoding="utf-8")
    assert shipped_config("nothing") == "nothing"
    assert command_line("fit", "--config", "batch", "--print_config") == 0
    assert yaml.safe_load(command_line.out)["model"]["lr"] == 0.04
    assert importlib.resources.files("gd_lightning") != inside
