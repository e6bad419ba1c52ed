"""The common style of all plots: one colour per variant, readable in print and by the colour-blind.

Colours: Okabe and Ito, Color Universal Design, 2008.
"""

from __future__ import annotations

import io
import math
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from gd_lightning.errors import InputError
from gd_lightning.escaping import visible
from gd_lightning.replaced_files import replacing

VARIANT_COLORS = {"batch": "#0072B2", "mini-batch": "#E69F00", "stochastic": "#D55E00"}
UNKNOWN_VARIANT_COLOR = "#56B4E9"
TRUTH_COLOR = "#009E73"
DATA_COLOR = "#7F7F7F"
CONTOUR_COLOR = "#C4C4C4"
"""Lighter than every path over them, in grey print, too; pages have the same in panels.js."""
VALIDATION_COLOR = "#333333"
RUN_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
"""One run after the other; Okabe and Ito, Color Universal Design, 2008. Pages have the same in panels.js."""

FORMATS = ("png", "svg", "pdf")

MARKERS = "oD^svPhp"
"""Of groups and curves; no "x", which marks divergence, and no "*", which marks the least squares."""

PANEL_WIDTH, PANEL_HEIGHT = 3.6, 2.85  # inches: small, so that letters are large where a page shows three of them
# Pixels of a panel: TensorBoard shows pictures 350 pixels wide, and drops pixels if the ratio is not whole.
DPI = 700 / PANEL_WIDTH
_SPACE, _STEP = 0.05, 0.05  # inches of space around a panel with its labels, and the unit to which they are rounded up
_FEW_POWERS, _FEW_NUMBERS = 30.0, 3.0  # ratios of axis ends below which some or all minor ticks are labelled


class LiteralFigure(Figure):
    """A figure that draws titles and labels literally: names of columns and runs are not formulas.

    The numbers on axes are Matplotlib's own, and may be.
    """

    def draw(self, renderer: RendererBase) -> None:
        """Draw the figure."""
        _write_literally(self)
        super().draw(renderer)

    def _repr_png_(self) -> bytes:
        """Return the figure for a notebook."""
        return png_bytes(self)


def _write_literally(artist: Artist) -> None:
    for text in _texts(artist):
        text.set_parse_math(False)
        if text.get_text() != (shown := visible(text.get_text())):
            text.set_text(shown)


def _texts(artist: Artist) -> Iterator[Text]:
    for child in artist.get_children():
        if isinstance(child, Axis):
            yield child.label
        elif isinstance(child, Text):
            yield child
        else:
            yield from _texts(child)


def legend_label(text: str) -> str:
    """Return a name as the label of an entry of a legend, of which Matplotlib leaves out those that begin with _."""
    return f" {text}" if text.startswith("_") else text


def add_legend(axes: Axes) -> None:
    """Add a small legend, if the panel has labelled artists."""
    handles, _ = axes.get_legend_handles_labels()
    if handles:
        axes.legend(fontsize=7.5, handlelength=1.8, labelspacing=0.25, borderpad=0.35, framealpha=0.85)


def few_ticks(axes: Axes) -> None:
    """Limit the number of ticks on the axes of a small panel, so that long labels do not overlap."""
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))


def short(text: str, most: int = 32) -> str:
    """Return a name, shortened to fit beside an axis or in a legend.

    Example:
        >>> short("the distance of the longest of all trips")
        'the distance o...t of all trips'
    """
    half = (most - 3) // 2
    return text if len(text) <= most else f"{text[:half]}...{text[-half:]}"


def mixed(color: str, grey: float, part: float) -> str:
    """Return a colour mixed with a share of a grey, from 0 for black to 1 for white."""
    red, green, blue = (channel + part * (grey - channel) for channel in to_rgb(color))
    return to_hex((red, green, blue))


def lightness(color: str) -> float:
    """Return how light a colour is to the eye, from 0 for black to 100 for white: CIE L* of sRGB.

    Example:
        >>> [round(lightness(color)) for color in ("#000000", "#7F7F7F", "#FFFFFF")]
        [0, 53, 100]
    """
    linear = (((c + 0.055) / 1.055) ** 2.4 if c > 0.04045 else c / 12.92 for c in to_rgb(color))
    luminance = sum(part * c for part, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return 116 * luminance ** (1 / 3) - 16 if luminance > 216 / 24389 else luminance * 24389 / 27


def darkened(color: str) -> str:
    """Return the dark shade of a colour, for text and for lines on top of a curve."""
    return mixed(color, 0.0, 0.45)


def new_figure(panels: int) -> Figure:
    """Make a figure for some panels side by side, without the state and windows of ``matplotlib.pyplot``."""
    figure = sized_figure(PANEL_WIDTH * panels, PANEL_HEIGHT)
    figure.set_layout_engine("constrained")
    return figure


def sized_figure(width: float, height: float) -> Figure:
    """Make such a figure of some width and height in inches, in which nothing is placed automatically."""
    figure = LiteralFigure(figsize=(width, height), dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def write_plainly(axis: Axis) -> None:
    """Write the tick labels of an axis without powers of ten, which would also take half of the time of a picture."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def write_between_powers(axis: Axis, low: float, high: float) -> None:
    """Write numbers between the powers of ten on a logarithmic axis from low to high that may have only one of these.

    Where even these may be missing, there are few numbers between the ends, and each is written.
    """
    powers = math.floor(math.log10(high)) - math.ceil(math.log10(low)) + 1
    if powers < 2 or high < _FEW_POWERS * low:
        leading = "25" if high > _FEW_NUMBERS * low else "12345678"
        axis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in leading else ""))


def beyond_frame(axes: Axes) -> tuple[float, float, float, float]:
    """Return how far a panel with all its texts, and space around them, reaches beyond its frame.

    Returns:
        Inches to the left, below, to the right and above; whole steps, that rounding does not change a figure's size.
    """
    _write_literally(axes)
    box, frame = axes.get_tightbbox(), axes.bbox
    assert box is not None
    reach = (frame.x0 - box.x0, frame.y0 - box.y0, box.x1 - frame.x1, box.y1 - frame.y1)
    left, below, right, above = (_STEP * math.ceil(pixels / axes.figure.dpi / _STEP) + _SPACE for pixels in reach)
    return left, below, right, above


def pixels(figure: Figure) -> NDArray[np.uint8]:
    """Draw a figure; returns shape (height, width, 3)."""
    assert isinstance(figure.canvas, FigureCanvasAgg)
    figure.canvas.draw()
    return np.array(figure.canvas.buffer_rgba(), dtype=np.uint8)[..., :3]


def png_bytes(figure: Figure) -> bytes:
    """Return a figure as PNG, for a notebook."""
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def png_of(image: NDArray[np.uint8]) -> bytes:
    """Return pixels of shape (height, width, 3) as the content of a PNG file."""
    out = io.BytesIO()
    imsave(out, image, format="png", dpi=DPI)
    return out.getvalue()


def save_png(path: Path, image: NDArray[np.uint8]) -> None:
    """Write pixels of shape (height, width, 3) as a PNG file."""
    with replacing(path) as part:
        imsave(part, image, format="png", dpi=DPI)


def save_figure(path: Path, figure: Figure) -> None:
    """Write a figure as PNG, SVG or PDF, by the ending of the path; the same figure makes the same bytes."""
    ending = path.suffix[1:]
    if ending == "png":
        save_png(path, pixels(figure))
        return
    without_date = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    with rc_context({"svg.hashsalt": "gd_lightning"}), replacing(path) as part:
        figure.savefig(part, format=ending, metadata=without_date[ending])


def save_figures(path: Path, figure: Figure, formats: Sequence[str]) -> bytes:
    """Write a figure in several formats; returns it as PNG.

    Args:
        path: Without an ending.
        figure: The figure to write.
        formats: Among :data:`FORMATS`.
    """
    for ending in formats:
        save_figure(path.with_name(f"{path.name}.{ending}"), figure)
    return path.with_name(f"{path.name}.png").read_bytes() if "png" in formats else png_bytes(figure)


def checked_formats(given: str | Sequence[str]) -> list[str]:
    """Return formats of pictures without repetitions.

    Args:
        given: One or several of png, svg and pdf, as a list or separated by commas.

    Raises:
        InputError: Another one is among them, or none.

    Example:
        >>> checked_formats("svg,pdf")
        ['svg', 'pdf']
    """
    names, unknown = listed(given, FORMATS)
    if unknown or not names:
        wrong = f"a picture in the format {unknown[0]!r}" if unknown else "a picture without a format"
        raise InputError(f"cannot write {wrong}; use {', '.join(FORMATS)}")
    return names


def listed(given: str | Sequence[str], known: Collection[str]) -> tuple[list[str], list[str]]:
    """Return names without repetitions, and those of them that are unknown.

    Args:
        given: The names, as a list or with commas between.
        known: The known names.
    """
    names = [name.strip() for name in given.split(",")] if isinstance(given, str) else list(given)
    return list(dict.fromkeys(names)), [name for name in names if name not in known]
