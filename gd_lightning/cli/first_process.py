"""Which of the processes of a run prints for it, told by the environment before torch is imported."""

from __future__ import annotations

import os

RANKS = ("RANK", "LOCAL_RANK")


def is_first_process() -> bool:
    """Whether this process prints for the run; the others would only print the same."""
    return "WORLD_SIZE" not in os.environ or all(os.environ.get(name, "0") == "0" for name in RANKS)
