"""Atomic writing of files: no reader sees a part of a file, and no crash leaves one."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gd_lightning.replaced_files import replacing


def write_once(path: Path, values: Mapping[str, Any]) -> None:
    """Write values as JSON unless the file exists; of several processes that try at the same time, one writes."""
    part = path.with_name(f".{path.name}.{os.getpid()}.new")
    write_json(part, values)
    try:
        os.link(part, path)
    except FileExistsError:
        pass
    except OSError:  # the file system has no hard links
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str | Iterable[str]) -> None:
    """Write a text, or pieces of one, atomically: no reader sees a part of the file, and no crash leaves one."""
    with replacing(path) as part, part.open("w", encoding="utf-8") as file:
        file.writelines([text] if isinstance(text, str) else text)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write values as strict JSON, in which numbers that are not finite become strings such as "nan"."""
    write_text(path, json.dumps(_strict(values), indent=2) + "\n")


def _strict(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
