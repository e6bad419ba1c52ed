"""A config that ``--print_config`` prints makes what would have run without it, however little of it is printed."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import gd_lightning
from gd_lightning.cli.options.printed_config import merged, what_differs
from tests.conftest import CONFIGS
from tests.selection import every

# Each has something that is left out as a default and is settled otherwise where it is not there.
OPTIONS = [
    "fit",
    "fit --data.problem Parabola --data.batch_size 16",
    "fit --optimizer Adam --model.lr 0.1",
    "fit --optimizer Adam --optimizer.lr 0.001 --lr_scheduler StepLR --lr_scheduler.step_size 3",
    "fit --trainer.max_epochs 20 --trainer.max_steps 50",
    "fit --trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor train_loss --data.problem FourPoints",
    f"fit --config {CONFIGS / 'parabola_stochastic.yaml'} --data.problem SteepLine",
    f"fit --config {CONFIGS / 'stochastic.yaml'} --model.lr 0.1 --trainer.max_epochs 20",
    "compare --data.problem ExamScores --batch_sizes full,2 --lrs 0.001",
]


def _printed(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    code = gd_lightning.main(list(arguments))
    out, err = capfd.readouterr()
    assert code == 0, err
    return out


@pytest.mark.parametrize("options", every(2, OPTIONS))
def test_what_is_printed_without_defaults_is_read_as_the_same_options(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], options: str
) -> None:
    stage, *given = options.split()
    whole = _printed(capfd, stage, *given, "--print_config")
    short = _printed(capfd, stage, *given, "--print_config=skip_default")
    file = tmp_path / "short.yaml"
    file.write_text(short)
    assert _printed(capfd, stage, "--config", str(file), "--print_config") == whole
    assert len(short.splitlines()) < len(whole.splitlines()) / 2


def test_a_variable_of_the_environment_is_an_option_that_is_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PL_FIT__DATA__PROBLEM", "Parabola")
    monkeypatch.setenv("PL_FIT__MODEL__LR", "0.2")
    (tmp_path / "short.yaml").write_text(_printed(capfd, "fit", "--model.lr", "0.1", "--print_config=skip_default"))
    monkeypatch.delenv("PL_FIT__DATA__PROBLEM")
    whole = yaml.safe_load(_printed(capfd, "fit", "--config", str(tmp_path / "short.yaml"), "--print_config"))
    assert whole["data"]["problem"]["class_path"] == "gd_lightning.Parabola"
    assert whole["model"]["lr"] == 0.1, "the variable is still there, and what was given overrules it"


def test_a_run_that_is_judged_is_judged_by_the_printed_config(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _printed(capfd, "fit", "--data.problem", "Parabola", "--trainer.max_epochs", "1")
    short = _printed(capfd, "test", "--ckpt_path", "last", "--print_config=skip_default")
    Path("short.yaml").write_text(short)
    assert _printed(capfd, "test", "--config", "short.yaml") == _printed(capfd, "test", "--ckpt_path", "last")


def test_what_differs_added_to_a_config_makes_it_the_other() -> None:
    nested = {"class_path": "X", "init_args": {"d": 2, "e": None}}
    wanted = {"a": {"b": 1, "c": nested}, "f": [1], "g": None}
    made = {"a": {"b": 1, "c": {"class_path": "X", "init_args": {"d": 3, "e": None}}, "h": 4}, "f": [2]}
    missing = what_differs(wanted, made)
    assert missing == {"a": {"c": nested}, "f": [1], "g": None}
    assert what_differs(wanted, merged(made, missing)) == {}
    assert what_differs(wanted, wanted) == {}
