"""Tables, sentences and pictures as HTML, for notebooks (layer 6)."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape

from matplotlib.figure import Figure

from gd_lightning.escaping import in_one_line
from gd_lightning.plots.style import png_bytes


def as_html(title: str, cells: Sequence[Sequence[str]], sentences: Iterable[str], figure: Figure | None = None) -> str:
    """Return a report as HTML that needs no other file.

    Args:
        title: Title of the report.
        cells: The lines of its table, the header first.
        sentences: Sentences of the report, each shown as a list item. As in a text, a line that begins with a space
            continues the one before, and two spaces separate a term from its explanation.
        figure: Picture of the report.

    Example:
        >>> as_html("a < b", [["", "loss"], ["batch", "0.5"]], ["It converged."]).splitlines()[:2]
        ['<div><p>a &lt; b</p>', '<table>']
    """
    header, *rows = [[escape(in_one_line(cell)) for cell in line] for line in cells]
    lines = [f"<div><p>{escape(in_one_line(title))}</p>", "<table>"]
    lines.append(f"<thead><tr>{''.join(f'<th>{cell}</th>' for cell in header)}</tr></thead>")
    lines += ["<tbody>", *(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows), "</tbody>"]
    lines.append("</table>")
    lines.append(f"<ul>{''.join(f'<li>{_with_term(each)}</li>' for each in _joined(sentences))}</ul>")
    if figure is not None:
        encoded = base64.b64encode(png_bytes(figure)).decode()
        lines.append(f'<img alt="{escape(in_one_line(title))}" src="data:image/png;base64,{encoded}">')
    return "\n".join([*lines, "</div>"])


def _joined(lines: Iterable[str]) -> list[str]:
    """Return sentences that may be set in several lines, each as one."""
    joined: list[str] = []
    for line in filter(None, lines):
        if line.startswith(" ") and joined:
            joined[-1] += f" {line.strip()}"
        else:
            joined.append(line)
    return joined


def _with_term(sentence: str) -> str:
    """Return a sentence as HTML; a term that it begins with, before two spaces, is emphasised."""
    term, gap, explanation = in_one_line(sentence).partition("  ")
    return f"<em>{escape(term)}</em>: {escape(explanation.strip())}" if gap else escape(term)
