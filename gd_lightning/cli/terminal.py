"""Writing to the terminal: a closed or full stream, or a missing character, never ends a run."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import unicodedata
from collections.abc import Iterator
from typing import Any, TextIO

from gd_lightning.cli.program import speaker
from gd_lightning.escaping import in_one_line, visible

# What has no plain form in Unicode itself.
_PLAIN = str.maketrans({"±": "+/-", "×": "x", "·": "*", "–": "-", "—": "-", "−": "-", "…": "...", "→": "->", "≤": "<="})  # noqa: RUF001

_MOVED = re.compile(r"(?:[\r\n]|\x1b\[A)*")  # how tqdm gets to the place of its bar


class Terminal(io.TextIOBase):
    r"""A stream that takes everything: what cannot be written is written plainly, or left out.

    Names and texts can come from anybody's files, so that no character is written that a terminal obeys; it is shown
    as ``\x1b``. Progress bars alone may move the cursor.

    Args:
        stream: Where to; None where the process was started without it.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a plain attribute there, which cannot follow the stream's
        """The encoding of the stream."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Write a text, without the characters that the encoding lacks or that a terminal obeys."""
        writer = sys._getframe(1).f_globals.get("__name__", "").partition(".")[0]
        if writer == "tqdm":
            moved = len(_MOVED.match(text)[0])  # type: ignore[index]  # it matches nothing at least
            self._write(text[:moved] + visible(text[moved:]))
        else:
            self._write(text if writer == "rich" else visible(text))
        return len(text)

    def _write(self, text: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(text)
        except UnicodeEncodeError:
            self._write(plain(text, self.encoding))
        except (OSError, ValueError):  # no one reads any more, no room, or closed
            self._leave()

    def flush(self) -> None:
        """Hand to the system what is written so far."""
        if self._stream is not None:
            try:
                self._stream.flush()
            except (OSError, ValueError):
                self._leave()

    def isatty(self) -> bool:
        """Whether a person looks at it."""
        return self._stream is not None and not self._stream.closed and self._stream.isatty()

    def writable(self) -> bool:
        """Whether it can be written to: it always can."""
        return True

    def fileno(self) -> int:
        """Return the file's number."""
        if self._stream is None:
            raise io.UnsupportedOperation("fileno")
        return self._stream.fileno()

    def close(self) -> None:
        """Leave the stream open: it is the process's."""
        self.flush()

    def _leave(self) -> None:
        """Write nowhere from now on; Python itself would fail with what is left in the buffer when it exits."""
        stream, self._stream = self._stream, None
        with contextlib.suppress(OSError, ValueError):
            if stream is not None and (number := stream.fileno()) in (1, 2):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, number)
                os.close(nowhere)


def plain(text: str, encoding: str) -> str:
    """Return a text with plain characters for those that an encoding lacks.

    Example:
        >>> plain("0.5 ± 0.1, Größe, \U0001f600", "ascii")
        '0.5 +/- 0.1, Grosse, ?'
    """

    def fitting(letter: str) -> str:
        for form in (letter, letter.translate(_PLAIN), "ss" if letter == "ß" else _without_accents(letter)):
            with contextlib.suppress(UnicodeEncodeError):
                return form.encode(encoding).decode(encoding)
        return "?"

    return "".join(map(fitting, text))


def _without_accents(letter: str) -> str:
    return "".join(part for part in unicodedata.normalize("NFKD", letter) if not unicodedata.combining(part))


@contextlib.contextmanager
def any_terminal() -> Iterator[None]:
    """Let all that is printed meanwhile, by whomever, end nothing.

    Where the process was started without a terminal, the first files that are opened would take its place, and what
    libraries print to it would go into them; it is replaced by one that shows nothing.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = out, err = Terminal(before[0]), Terminal(before[1])
    try:
        yield
    finally:
        out.flush()
        err.flush()
        sys.stdout, sys.stderr = before


def warn(sentence: str) -> None:
    """Say what a person should know, in one line."""
    print(f"{speaker()}: warning: {in_one_line(sentence)}", file=sys.stderr)
