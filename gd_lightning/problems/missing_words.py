"""The words that stand for a missing value in tables."""

from __future__ import annotations

# What pandas takes for a missing value, in any case, and what else stands for one in tables of statistics programs.
MISSING_WORDS = (
    *("", "na", "n/a", "#n/a", "#na", "#n/a n/a", "<na>", "nan", "-nan", "null", "none", "?", "."),
    *(f"{sign}1.#{word}" for sign in ("", "-") for word in ("ind", "qnan")),
)
