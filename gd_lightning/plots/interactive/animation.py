"""Runs in motion, as an object that is saved, and shown in a notebook."""

from __future__ import annotations

import shutil
from pathlib import Path

from gd_lightning.errors import InputError
from gd_lightning.escaping import in_one_line
from gd_lightning.plots.interactive.animation_content import AnimationContent
from gd_lightning.plots.interactive.animation_files import write_animation
from gd_lightning.plots.interactive.page import html_page, in_notebook

FORMATS = ("html", "gif", "mp4")


class Animation(AnimationContent):
    """Runs in motion; ``save`` writes them as a page, a GIF or an MP4 file, and a notebook shows them."""

    def html(self) -> str:
        """Return the page as text: one HTML file, which needs no network."""
        return html_page("animation.html", ["panels.js", "player.js"], self.title, self.content())

    def save(self, path: str | Path) -> Path:
        """Write a file; an existing one is replaced.

        Args:
            path: A path that ends in .html, .gif, or .mp4, for which the program ffmpeg is needed.

        Returns:
            The path.

        Raises:
            InputError: The path has another ending, or is a directory, or ffmpeg is missing.
        """
        file = Path(path)
        check_animation_file(file)
        if file.is_dir():
            raise InputError(f"cannot write an animation to {path}, because that is a directory; give a file's name")
        return write_animation(self, self.html, file)

    def __repr__(self) -> str:
        return f"<Animation of {in_one_line(self.title)} in {len(self.frames)} frames, which save(path) writes>"

    def _repr_html_(self) -> str:
        """Return the page for a notebook."""
        return in_notebook(self.html(), self.title, 700)


def check_animation_file(path: Path) -> None:
    """Refuse a file that no animation can be written to.

    Raises:
        InputError: The name has another ending than .html, .gif and .mp4, or ffmpeg is missing for .mp4.
    """
    ending = path.suffix.lower().removeprefix(".")
    if ending not in FORMATS:
        raise InputError(
            f"cannot animate into {str(path)!r}, because its name does not end in a known format; use html, gif or mp4"
        )
    if ending == "mp4" and shutil.which("ffmpeg") is None:
        raise InputError("cannot write an MP4 file, because the program ffmpeg is not installed; use html or gif")
