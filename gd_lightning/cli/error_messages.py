"""The one line that is printed where a command fails: the cause, what was saved, and what to do."""

from __future__ import annotations

import errno
import traceback
from pathlib import Path

from gd_lightning.errors import first_line
from gd_lightning.escaping import visible
from gd_lightning.module.library_errors import LoggingError
from gd_lightning.module.origin_of_code import place_of_ones_own
from gd_lightning.torch_internals import is_loss_of_a_process, is_short_of_memory
from gd_lightning.tracking.atomic_writes import write_text
from gd_lightning.tracking.run_directory import claim_file

_LONGEST = 600  # maximum number of characters of a message
_BRIEF = 150  # maximum number of characters of the message of an unexpected error


def cause_of(error: Exception, made: list[Path]) -> str:
    """Return the reason why a run failed, and what to do."""
    if is_short_of_memory(error):
        return "there is not enough memory; give a smaller data.micro_batch_size, fewer samples, or a smaller network"
    if is_loss_of_a_process(error):
        return "another process of the run ended; continue with --ckpt_path and the directory of the run"
    if isinstance(error, LoggingError):
        return str(error)
    place = place_of_ones_own(error)
    whose = f"an error in {place}, which is not part of this program" if place else "an internal error"
    return f"of {whose} ({type(error).__name__}: {first_line(error)[:_BRIEF]}); {_saved(error, made)}"


def _saved(error: Exception, made: list[Path]) -> str:
    """Write a traceback into the run's directory, or else the current one; return a phrase with its path."""
    directory = next((path for path in reversed(made) if path.is_dir()), Path())
    try:
        file = claim_file(directory, "traceback", ".txt")
        write_text(file, "".join(traceback.format_exception(error)))
    except OSError as full:
        return f"its traceback could not be written, because of {where_it_failed(full)}"
    return f"the traceback is in {file}"


def one_line(message: str) -> str:
    """Return a message without line breaks and control characters, shortened in the middle if it is very long."""
    line = visible(" ".join(message.split()))
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 :]}"


def where_it_failed(error: OSError) -> str:
    """Return the reason that the operating system gives, and the file."""
    reason = error.strerror or str(error)
    return f"{reason.lower()}: {error.filename}" if error.filename else reason.lower()


def way_out(error: OSError) -> str:
    """Return a sentence on what is kept after a file could not be written, and what to do."""
    kept = "what was finished before is kept"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{kept}: free disk space, then repeat the command; continue a run with --ckpt_path and its directory"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{kept}; choose another directory with --trainer.default_root_dir"
    return kept
