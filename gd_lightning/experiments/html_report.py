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
        sentences: Its sentences, each shown as a list item.
        figure: Its picture.

    Example:
        >>> as_html("a < b", [["", "loss"], ["batch", "0.5"]], ["It converged."]).splitlines()[:2]
        ['<div><p>a &lt; b</p>', '<table>']
    """
    header, *rows = [[escape(in_one_line(cell)) for cell in line] for line in cells]
    lines = [f"<div><p>{escape(in_one_line(title))}</p>", "<table>"]
    lines.append(f"<thead><tr>{''.join(f'<th>{cell}</th>' for cell in header)}</tr></thead>")
    lines += ["<tbody>", *(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows), "</tbody>"]
    lines.append("</table>")
    lines.append(f"<ul>{''.join(f'<li>{escape(in_one_line(each))}</li>' for each in sentences if each)}</ul>")
    if figure is not None:
        encoded = base64.b64encode(png_bytes(figure)).decode()
        lines.append(f'<img alt="{escape(in_one_line(title))}" src="data:image/png;base64,{encoded}">')
    return "\n".join([*lines, "</div>"])
