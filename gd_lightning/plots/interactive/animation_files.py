"""Animations as files: pages, GIF by Pillow, and MP4 by ffmpeg."""

from __future__ import annotations

import importlib
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from gd_lightning.errors import InputError, first_line
from gd_lightning.plots.interactive.animation_content import AnimationContent
from gd_lightning.plots.interactive.animation_drawing import Picture, pictures
from gd_lightning.replaced_files import replacing

FRAMES_A_SECOND = 10
_COLORS = 128  # colours of a GIF: lines, dots and letters have few


def write_animation(content: AnimationContent, page: Callable[[], str], path: Path) -> Path:
    """Write an animation in the format given by the ending of its file; an existing file is replaced.

    Args:
        content: The runs to show.
        page: Makes the page of it.
        path: A path that ends in .html, .gif or .mp4.

    Raises:
        InputError: ffmpeg fails.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    writers: dict[str, Callable[[Path], object]] = {
        ".html": lambda part: part.write_text(page(), encoding="utf-8"),
        ".gif": lambda part: _write_gif(part, pictures(content)),
        ".mp4": lambda part: _write_mp4(part, pictures(content)),
    }
    with replacing(path) as part:
        writers[path.suffix.lower()](part)
    return path


def _write_gif(path: Path, frames: Iterable[Picture]) -> None:
    image = importlib.import_module("PIL.Image")  # Pillow, which matplotlib depends on
    shown = [image.fromarray(frame) for frame in frames]
    palette = shown[-1].quantize(_COLORS)  # the last frame contains all colours
    first, *others = (frame.quantize(palette=palette, dither=image.Dither.NONE) for frame in shown)
    durations = [1000 // FRAMES_A_SECOND] * len(others) + [2000]  # milliseconds; the last frame is shown longer
    first.save(path, format="GIF", save_all=True, append_images=others, duration=durations, loop=0)


def _write_mp4(path: Path, frames: Iterable[Picture]) -> None:
    """Send the pixels to ffmpeg; the usual players want even sizes, and colours of half the resolution."""
    pending = iter(frames)
    first = next(pending)
    height, width = first.shape[:2]
    taken = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(FRAMES_A_SECOND), "-i", "-"]
    made = ["-an", "-pix_fmt", "yuv420p", "-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2"]
    made += ["-movflags", "+faststart", "-f", "mp4"]
    command = [str(shutil.which("ffmpeg")), "-loglevel", "error", "-y", *taken, *made, str(path)]
    pixels = first.tobytes() + b"".join(frame.tobytes() for frame in pending)
    done = subprocess.run(command, input=pixels, capture_output=True, check=False)
    if done.returncode:
        said = first_line(
            RuntimeError(done.stderr.decode("utf-8", "replace").strip() or f"it ended with {done.returncode}")
        )
        raise InputError(f"cannot write .mp4 files, because ffmpeg refuses to ({said[:200]}); use .html or .gif")
