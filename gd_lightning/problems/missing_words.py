"""The words that mean a missing value in tables."""

from __future__ import annotations

# What pandas takes for a missing value, in any case, and what statistics programs write for one.
MISSING_WORDS = (
    *("", "na", "n/a", "#n/a", "#na", "#n/a n/a", "<na>", "nan", "-nan", "null", "none", "?", "."),
    *(f"{sign}1.#{word}" for sign in ("", "-") for word in ("ind", "qnan")),
)
