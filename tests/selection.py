"""Which cases of a test run always, and which run on request."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def every(step: int, cases: Iterable[Any]) -> list[Any]:
    """Return all cases of a parameter: the first of every ``step`` runs always, the others with ``-m slow``."""
    return [
        case if index % step == 0 else pytest.param(case, marks=pytest.mark.slow) for index, case in enumerate(cases)
    ]
