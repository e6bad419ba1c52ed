"""The files of a run that were damaged, or made by a stranger: one line, soon, or left out with a word."""

from __future__ import annotations

import ast
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gd_lightning import InputError, callbacks
from gd_lightning.cli.options.config_text import read
from gd_lightning.tracking.run_files import read_summary
from gd_lightning.tracking.run_reader import read_run
from gd_lightning.tracking.yaml_and_json import RENAMED, ConfigError, read_json_file, read_yaml_file
from tests.conftest import ROOT, CommandLine

PACKAGE = ROOT / "gd_lightning"
LAUGHS = "a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
HOSTILE: dict[str, bytes] = {
    "billion laughs": LAUGHS.encode(),
    "nested": b"[" * 100_000,
    "NUL bytes": bytes(50),
    "another encoding": b"\xff\xfe{}",
    "nothing": b"",
    "text": b"text",
    "a list": b"[1, 2]",
    "too long": b" " * (2**24 + 1),
    "a key twice": b'{"outcome": "completed", "outcome": "stopped", "reason": ""}',
    "values that contain themselves": b"a: &a [*a]",
    "an object": b"!!python/object/apply:os.system [true]",
    "a later version": b'# gd_lightning schema 3\n{"schema": 3, "model": {}, "data": {}, "trainer": {}}',
}
READERS = {
    "yaml.load",
    "yaml.safe_load",
    "yaml.full_load",
    "yaml.unsafe_load",
    "yaml.load_all",
    "json.load",
    "json.loads",
}


def _calls(path: Path) -> set[str]:
    calls = (node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    return {
        f"{call.value.id}.{call.attr}"
        for call in calls
        if isinstance(call, ast.Attribute) and isinstance(call.value, ast.Name)
    }


def test_yaml_and_json_are_read_in_one_place() -> None:
    readers = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if _calls(path) & READERS}
    assert readers == {"tracking/yaml_and_json.py", "cli/options/config_text.py"}  # the checked readers


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_texts_are_refused_soon(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "summary.json"
    path.write_bytes(HOSTILE[kind])
    with pytest.raises(InputError) as refused:
        read_summary(path)
    assert len(str(refused.value).splitlines()) == 1
    if kind in ("billion laughs", "nested", "NUL bytes", "another encoding", "too long", "a key twice"):
        with pytest.raises(ConfigError):
            read_yaml_file(path)


def _unreadable(path: Path, kind: str) -> None:
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("nowhere")


@pytest.mark.parametrize("kind", ["pipe", "directory", "link to nothing"])
@pytest.mark.parametrize("read", [read_yaml_file, read_json_file])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, kind: str, read: Callable[[Path], object]) -> None:
    path = tmp_path / "file"
    path.touch()
    _unreadable(path, kind)
    with pytest.raises(ConfigError, match="it is not a file"):
        read(path)


FIT = ["--data.batch_size", "20", "--trainer.max_epochs", "2"]


def test_a_damaged_config_is_one_line_for_every_command(command_line: CommandLine) -> None:
    run = command_line.fit(*FIT)
    config = run / "config.yaml"
    assert config.read_text().startswith("# gd_lightning schema 2\n")
    sound, files = config.read_text(), sorted(run.rglob("*"))
    cases = [*HOSTILE.values(), sound[:200].encode(), sound.replace("lr: 0.1", "lr: [").encode()]
    for number, content in enumerate(cases):
        config.write_bytes(content)
        assert command_line(("fit", "test", "validate", "predict")[number % 4], "--ckpt_path", run) == 2
        assert command_line.err.count("\n") == 1
        assert f"{config}" in command_line.err
        assert sorted(run.rglob("*")) == files
    for kind in ("pipe", "link to nothing", "directory"):
        _unreadable(config, kind)
        assert command_line("test", "--ckpt_path", run) == 2
        assert "repair it, or delete it" in command_line.err
    config.rmdir()
    assert command_line("test", "--ckpt_path", run) == 0


def test_a_run_goes_on_beside_event_files_that_are_none(command_line: CommandLine) -> None:
    run = command_line.fit(*FIT)
    os.mkfifo(run / "events.out.tfevents.1.pipe")
    (run / "events.out.tfevents.2.directory").mkdir()
    (run / "events.out.tfevents.3.noise").write_bytes(bytes(range(256)) * 4)
    (run / "summary.json").write_text("{")
    (run / "history.csv").write_bytes(bytes(100))
    assert command_line("fit", "--ckpt_path", run, "--trainer.max_epochs", "3") == 0, command_line.err
    assert command_line.err.count("is left out, because it is not a file") == 2
    assert read_run(run).summary is not None
    # Where only they say what the run came to, one line says what is in the way.
    (run / "history.csv").unlink()
    with pytest.raises(InputError, match=r"because events.out.tfevents.1.pipe is not a file; remove it"):
        read_run(run)


@pytest.mark.parametrize("name", ["history.csv", "summary.json", "config.yaml"])
def test_damaged_files_of_a_run_that_is_compared(command_line: CommandLine, name: str) -> None:
    run = command_line.fit(*FIT)
    sound = (run / name).read_bytes()
    cases = {
        "truncated": sound[: sound.rindex(b":", 0, len(sound) // 2) if b":" in sound else len(sound) // 2],
        "noise": bytes(range(256)),
        "NUL bytes": bytes(99),
        "a list": b"[1]",
    }
    for kind, content in cases.items():
        (run / name).write_bytes(content)
        if (name, kind) == ("history.csv", "truncated"):
            continue  # the rows that are there
        with pytest.raises(InputError) as refused:
            read_run(run)
        assert len(str(refused.value).splitlines()) == 1, kind
    (run / name).write_bytes(sound)
    other = shutil.copytree(run, run.with_name("other"))
    (other / name).write_bytes(cases["noise"])
    assert command_line("compare", run, other) == 2
    assert command_line.err.count("\n") == 1


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_files_of_earlier_versions_name_the_classes_that_there_are(old: str, new: str, tmp_path: Path) -> None:
    assert hasattr(callbacks, new)
    assert not hasattr(callbacks, old)
    path = tmp_path / "old.json"
    for name in (f"gd_lightning.{old}", f"gd_lightning.callbacks.{old}"):
        content = {"callbacks": [name, {"class_path": name}], "title": old, "other": f"my_{name}"}
        path.write_text(json.dumps(content))
        now = name.replace(old, new)
        expected = {"callbacks": [now, {"class_path": now}], "title": old, "other": f"my_{name}"}
        assert read_json_file(path) == read_yaml_file(path) == read(path.read_text()) == expected


def test_a_run_of_an_earlier_version_is_continued_with_its_callbacks(command_line: CommandLine) -> None:
    names = [*RENAMED.values()][:2]
    run = command_line.fit(*(option for name in names for option in ("--trainer.callbacks+", name)))
    config = run / "config.yaml"
    for old, new in RENAMED.items():
        config.write_text(config.read_text().replace(new, old))
    assert "class_path: gd_lightning.NoProgress" in config.read_text()
    assert command_line("fit", "--ckpt_path", run, "--trainer.max_epochs", "22") == 0, command_line.err
    assert all(f"class_path: gd_lightning.{name}" in config.read_text() for name in names)
