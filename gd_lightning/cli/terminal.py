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

# Characters for which Unicode has no ASCII equivalent.
_PLAIN = str.maketrans({"±": "+/-", "×": "x", "·": "*", "–": "-", "—": "-", "−": "-", "…": "...", "→": "->", "≤": "<="})  # noqa: RUF001

_MOVED = re.compile(r"(?:[\r\n]|\x1b\[A)*")  # how tqdm moves the cursor to its bar


class Terminal(io.TextIOBase):
    r"""A stream that never fails: characters that cannot be written are replaced by plain ones, or left out.

    Names and texts can come from untrusted files, so control characters are not written but shown, as in ``\x1b``. Only
    progress bars may move the cursor.

    Args:
        stream: The stream to write to; None if the process was started without it.
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
        """Write a text, without control characters and characters that the encoding lacks."""
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
        except (OSError, ValueError):  # the reader has closed the pipe, the disk is full, or the stream is closed
            self._leave()

    def flush(self) -> None:
        """Flush the stream."""
        if self._stream is not None:
            try:
                self._stream.flush()
            except (OSError, ValueError):
                self._leave()

    def isatty(self) -> bool:
        """Whether the stream is an interactive terminal."""
        return self._stream is not None and not self._stream.closed and self._stream.isatty()

    def writable(self) -> bool:
        """Return True: it can always be written to."""
        return True

    def fileno(self) -> int:
        """Return the file descriptor."""
        if self._stream is None:
            raise io.UnsupportedOperation("fileno")
        return self._stream.fileno()

    def close(self) -> None:
        """Only flush, since the stream belongs to the process."""
        self.flush()

    def _leave(self) -> None:
        """Discard all further output; at exit, Python would fail to flush what is still in the buffer."""
        stream, self._stream = self._stream, None
        with contextlib.suppress(OSError, ValueError):
            if stream is not None and (number := stream.fileno()) in (1, 2):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, number)
                os.close(nowhere)


def plain(text: str, encoding: str) -> str:
    """Return a text in which plain characters replace those that an encoding lacks.

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
    """Replace the standard streams by :class:`Terminal` in this context, so that no print ends the program.

    In a process that was started without standard streams, the first opened files would take their numbers, and output
    of libraries would go into these files; so missing streams are replaced by the null device.
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


def say(sentence: str) -> None:
    """Print a sentence in one line on standard error."""
    print(f"{speaker()}: {in_one_line(sentence)}", file=sys.stderr)


def warn(sentence: str) -> None:
    """Print a warning in one line."""
    print(f"{speaker()}: warning: {in_one_line(sentence)}", file=sys.stderr)
