"""A file that is written again is the former or the new one at every moment, whatever writes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

from gd_lightning.experiments.single.run import _StoredCheckpoint
from gd_lightning.plots.interactive.animation_content import AnimationContent
from gd_lightning.plots.interactive.animation_files import write_animation
from gd_lightning.plots.style import new_figure, save_figure
from gd_lightning.replaced_files import replacing
from gd_lightning.tracking.atomic_writes import write_json, write_text
from gd_lightning.tracking.checkpoint_file import write_checkpoint

WRITERS: dict[str, Callable[[Path], object]] = {
    "history.csv": lambda path: write_text(path, "new"),
    "summary.json": lambda path: write_json(path, {"new": 1}),
    "curves.png": lambda path: save_figure(path, new_figure(1)),
    "curves.svg": lambda path: save_figure(path, Figure()),
    "curves.pdf": lambda path: save_figure(path, Figure()),
    "last.ckpt": lambda path: write_checkpoint({"new": torch.ones(1)}, path),
    "stored.ckpt": lambda path: _StoredCheckpoint(b"new").save(path),
    "motion.html": lambda path: write_animation(AnimationContent("", ()), lambda: "new", path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_the_former_file_is_whole_until_the_new_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path, seen, replace = tmp_path / name, list[bytes](), Path.replace
    path.write_bytes(b"former")

    def replaced(self: Path, other: Path) -> Path:
        seen.append(path.read_bytes())
        if len(seen) == 1:
            raise OSError("a full disk")
        return replace(self, other)

    monkeypatch.setattr(Path, "replace", replaced)
    with pytest.raises(OSError, match="a full disk"):
        WRITERS[name](path)
    assert [each.name for each in tmp_path.iterdir()] == [name]  # no part is left
    WRITERS[name](path)
    assert seen == [b"former"] * 2
    assert path.read_bytes() != b"former"
    assert [each.name for each in tmp_path.iterdir()] == [name]


def _interrupted(path: Path) -> None:
    with replacing(path) as part:
        part.write_text("half")
        raise KeyboardInterrupt


def test_what_is_interrupted_leaves_the_former_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("former")
    with pytest.raises(KeyboardInterrupt):
        _interrupted(path)
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("a", "former")]
