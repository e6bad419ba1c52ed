"""Renamed classes, so that configs and checkpoints of earlier versions still load (layer 3)."""

from __future__ import annotations

import re

RENAMED = {"NoProgress": "LossPlateau", "ShowSteps": "PrintUpdates", "EndBetweenUpdates": "StopOnSignal"}
"""Earlier names of classes, with their present names."""

_OLD_PATH = re.compile(rf"\b(gd_lightning\.(?:\w+\.)*)({'|'.join(RENAMED)})\b")


def with_present_names(text: str) -> str:
    """Return a text with class paths of earlier versions replaced by the current ones.

    Example:
        >>> with_present_names("- class_path: gd_lightning.callbacks.NoProgress")
        '- class_path: gd_lightning.callbacks.LossPlateau'
    """
    return _OLD_PATH.sub(lambda found: found[1] + RENAMED[found[2]], text)
