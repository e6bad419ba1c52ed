"""Names of files are such that Windows has them; what a run was made with stands in its files."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import random
import re
import time
from pathlib import Path, PureWindowsPath

import pytest
import torch
import yaml

import gd_lightning
from gd_lightning.callbacks import HistoryRecorder
from gd_lightning.data import RegressionDataModule
from gd_lightning.experiments.comparison.members import name_of
from gd_lightning.module import RegressionModule
from gd_lightning.problems import SteepLine
from gd_lightning.tracking.checkpoint_file import clear_parts, read_checkpoint
from gd_lightning.tracking.checkpoint_schema import check_checkpoint, check_continuable
from gd_lightning.tracking.run_directory import claim_directory, claim_file, inside, portable_name, run_name
from gd_lightning.tracking.tensorboard.groups_of_runs import _directory_names
from gd_lightning.variants import Variant
from tests.conftest import CommandLine, MakeTrainer

_LETTERS = 'ab.B 0-<>:"/\\|?*\n\t\x7f\x1bäß中\ud83d \u200b..'
_WORDS = [
    "con",
    "NUL",
    "aux.txt",
    "Com1",
    "lpt9.a.b",
    "CONIN$",
    "COM\u00b9",
    " prn ",
    "nul .csv",
    "...",
    ". .",
    "-",
    "",
]


def _generated() -> list[str]:
    draw = random.Random(0)
    texts = ["".join(draw.choices(_LETTERS, k=draw.randint(0, 12))) for _ in range(300)]
    return [*texts, *_WORDS, *(f"{word}{text}" for word in _WORDS for text in texts[:20]), "ä" * 300, "x" * 400 + "."]


def _has_windows(name: str) -> bool:
    """Whether Windows has a name, by Python's own list of devices and by the rules of its documentation."""
    device = name.partition(".")[0].strip().upper()
    is_device = device in {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"} or (
        len(device) == 4 and device[:3] in ("COM", "LPT") and device[3] in "0123456789\u00b9\u00b2\u00b3"
    )
    is_plain = not set(name) & set('<>:"/\\|?*') and name.isprintable() and PureWindowsPath(name).name == name
    return is_plain and not is_device and not name.endswith((" ", ".")) and 0 < len(name.encode()) <= 255


@pytest.mark.parametrize("otherwise", ["run", "group"])
def test_every_text_becomes_a_name_that_windows_has(otherwise: str) -> None:
    for text in _generated():
        name = portable_name(text, otherwise)
        assert _has_windows(name), (text, name)
        assert portable_name(name) == name
        assert text.strip(" .") or name == otherwise


def test_what_windows_has_stays_as_it_is() -> None:
    names = [run_name("SteepLine", Variant.of(16, 100), lr, 0) for lr in (0.1, 1e-5, 1e22)]
    names += [
        name_of({"optimizer": {"class_path": "torch.optim.Adam"}, "model.lr": 1e-9}, 3),
        "console",
        "com",
        "nullity",
    ]
    for name in names:
        assert portable_name(name) == name
        assert _has_windows(name)


def test_directories_and_files_get_such_names(tmp_path: Path) -> None:
    for text in _generated()[::7]:
        claimed = [claim_directory(tmp_path / "d", text), claim_file(tmp_path / "f", text, ".png")]
        labels = [tmp_path / name for name in _directory_names([text, f"{text} 2"])]
        for path in (*claimed, inside(tmp_path, f"x/{text}"), *labels):
            assert all(_has_windows(part) for part in path.relative_to(tmp_path).parts), (text, path)


def test_a_title_names_the_directory_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = dataclasses.replace(gd_lightning.fit(epochs=1), title="a/b: c?")
    assert run.save().relative_to("lightning_logs").as_posix() == "a-b- c--batch-b100-lr0.1"


def test_only_linux_is_asked_whether_a_process_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere a part that was written within the hour may be another process's."""
    new, old = tmp_path / ".last.ckpt.1.part", tmp_path / ".last.ckpt.2.part"
    asked: list[str] = []
    exists = Path.exists

    def noted(path: Path) -> bool:
        asked.append(str(path))
        return exists(path)

    for system, left in {"Darwin": [new], "Windows": [new], "Linux": []}.items():
        monkeypatch.setattr(platform, "system", lambda system=system: system)
        monkeypatch.setattr(Path, "exists", noted)
        now = time.time()
        for part in (new, old):
            part.touch()
        monkeypatch.setattr(time, "time", lambda now=now: now + 60)
        os.utime(old, (now - 7200, now - 7200))
        asked.clear()
        if system == "Linux":
            monkeypatch.setattr(Path, "exists", lambda _: False)
        clear_parts(tmp_path)
        monkeypatch.undo()
        assert sorted(tmp_path.iterdir()) == left
        assert not any("/proc" in path for path in asked)


def test_a_run_names_the_versions_that_made_it(command_line: CommandLine) -> None:
    made_with = {
        "gd_lightning": gd_lightning.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    run = command_line.fit("--trainer.max_epochs", "1")
    assert json.loads((run / "summary.json").read_text())["versions"] == made_with
    header = (run / "config.yaml").read_text().splitlines()[1]
    assert header == f"# written by {', '.join(' '.join(item) for item in made_with.items())}"
    assert "versions" not in yaml.safe_load((run / "config.yaml").read_text())
    checkpoint = read_checkpoint(run / "checkpoints" / "last.ckpt")
    assert checkpoint["gd_lightning_schema"]["versions"] == made_with
    again = command_line.fit("--config", run / "config.yaml")
    assert (again / "history.csv").read_text().splitlines()[-1].split(",")[4:] == (
        (run / "history.csv").read_text().splitlines()[-1].split(",")[4:]
    )
    assert command_line("fit", "--ckpt_path", run, "--trainer.max_epochs", "2") == 0


def test_files_without_versions_are_still_read(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer = make_trainer(callbacks=[HistoryRecorder()], max_epochs=1)
    trainer.fit(RegressionModule(), RegressionDataModule(SteepLine()))
    trainer.save_checkpoint(tmp_path / "old.ckpt", weights_only=False)
    checkpoint = read_checkpoint(tmp_path / "old.ckpt")
    versions = checkpoint["gd_lightning_schema"].pop("versions")
    assert set(versions) == {"gd_lightning", "torch", "python"}
    for check in (check_checkpoint, check_continuable):
        check(checkpoint, tmp_path / "old.ckpt")
    checkpoint["gd_lightning_schema"]["versions"] = {"torch": 2}
    with pytest.raises(gd_lightning.InputError, match=re.escape("gd_lightning_schema.versions.torch")):
        check_checkpoint(checkpoint, tmp_path / "old.ckpt")
