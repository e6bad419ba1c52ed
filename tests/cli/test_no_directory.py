"""A path that cannot be a directory is refused before anything is made, whichever class of a config it is for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import CommandLine

OPTIONS = {
    "checkpoints": "fit --trainer.callbacks+=ModelCheckpoint --trainer.callbacks.dirpath {}",
    "checkpoints of errors": "fit --trainer.callbacks+=OnExceptionCheckpoint --trainer.callbacks.dirpath {}",
    "a comparison": "compare --seeds 1 --directory {}",
    "a sweep": "sweep --lrs .1,.2 --directory {}",
    **{
        name: f"fit --trainer.profiler {name} --trainer.profiler.dirpath {{}} --trainer.profiler.filename x"
        for name in ("SimpleProfiler", "AdvancedProfiler", "PyTorchProfiler")
    },
    **{
        name: f"fit --trainer.logger {name} --trainer.logger.save_dir {{}}"
        for name in ("CSVLogger", "TensorBoardLogger")
    },
}


@pytest.mark.parametrize("options", OPTIONS)
def test_what_is_no_directory(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("dangling").symlink_to("nowhere")
    for place in ("/dev/null", "/dev/null/x", "file", "file/x", "dangling"):
        assert command_line(*OPTIONS[options].format(place).split()) == 2
        (line,) = command_line.err.splitlines()
        assert line.startswith(f"gd_lightning: cannot use '{place}' as a path, because ")
        assert line.endswith(" is not a directory; give the name of a directory")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "file"]


def test_a_name_that_is_free_is_one(command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = OPTIONS["AdvancedProfiler"].format("new/deep").split()
    assert command_line(*options, "--trainer.max_epochs", "1") == 0
    assert list(Path("new", "deep").glob("*x.txt"))
