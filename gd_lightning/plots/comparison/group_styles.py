"""Styles of groups of runs: shades of the variant's colour, and one marker each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.colors import to_hex
from matplotlib.lines import Line2D

from gd_lightning.plots.style import (
    MARKERS,
    UNKNOWN_VARIANT_COLOR,
    VARIANT_COLORS,
    darkened,
    legend_label,
    lightness,
    mixed,
    short,
)
from gd_lightning.records.groups import Group

_DARKEST, _LIGHTEST = 0.35, 0.6  # share of the colour at one end, and of white at the other
_PALE = 75.0  # lightness above which a line can hardly be seen on white paper


@dataclass(frozen=True)
class GroupStyle:
    """How a group is drawn in every panel.

    Args:
        label: Its name in the legend.
        color: A shade of the colour of its variant.
        marker: Another one in each group, for grey print.
        phase: Position of the first marker along its curve, so that markers of equal curves do not hide each other.
    """

    label: str
    color: str
    marker: str
    phase: float

    @property
    def dark(self) -> str:
        """The darkened colour, for text and for lines on top of the group's own curve."""
        return darkened(self.color)

    def handle(self, group: Group, more: str = "", most: int = 1_000) -> Line2D:
        """Return a legend entry in the group's style, with the number of its runs that diverged.

        Args:
            group: The group with this style.
            more: Text after its label.
            most: How many characters of the label are written.
        """
        note, marker = divergence_note(group), self.marker if group.sound else "x"
        label = legend_label(", ".join(part for part in (short(self.label, most), more, note) if part))
        return Line2D([], [], color=self.color, marker=marker, markersize=6, linewidth=1.8, label=label)


def group_styles(groups: Sequence[Group]) -> list[GroupStyle]:
    """Return a style for each group; groups of one variant share its colour, from dark to light."""
    families: dict[str, list[int]] = {}
    for i, group in enumerate(groups):
        families.setdefault(VARIANT_COLORS.get(group.variant or "", UNKNOWN_VARIANT_COLOR), []).append(i)
    colors: dict[int, str] = {}
    for base, members in families.items():
        colors.update(zip(members, shades(base, len(members)), strict=True))
    return [
        GroupStyle(group.label, colors[i], MARKERS[i % len(MARKERS)], 0.15 * i / len(groups))
        for i, group in enumerate(groups)
    ]


def shades(color: str, count: int) -> list[str]:
    """Return shades of a colour from dark to light; a single shade is the colour itself.

    Example:
        >>> shades("#0072B2", 1), shades("#000000", 2)
        (['#0072b2'], ['#000000', '#999999'])
    """
    if count == 1:
        return [to_hex(color)]
    whites = (share / 20 for share in range(round(20 * _LIGHTEST), -1, -1))
    white = next((share for share in whites if lightness(mixed(color, 1.0, share)) <= _PALE), 0.0)
    black = 1 - _DARKEST
    shares = [black - i / (count - 1) * (black + white) for i in range(count)]
    return [mixed(color, 0.0, share) if share > 0 else mixed(color, 1.0, -share) for share in shares]


def divergence_note(group: Group) -> str:
    """Return the number of diverged runs of a group, with the limit of the learning rate if it is known; empty if none.

    Example:
        >>> from gd_lightning.records.history import History, Outcome
        >>> run = History()
        >>> run.outcome = Outcome.DIVERGED
        >>> divergence_note(Group("stochastic", (run,), limit=0.06418)), divergence_note(Group("", (run, History())))
        ('diverged (limit 0.0642)', '1 of 2 diverged')
    """
    count, runs = len(group.diverged), len(group.histories)
    if not count:
        return ""
    note = "diverged" if count == runs else f"{count} of {runs} diverged"
    known = group.limit is not None and math.isfinite(group.limit)
    return f"{note} (limit {group.limit:.3g})" if known else note
