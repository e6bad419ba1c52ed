"""Whatever titles, labels and names hold, every picture is drawn, with them as they are."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import get_type_hints
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from gd_lightning.plots.comparison.figure import Fits, comparison_figure
from gd_lightning.plots.outcome_map import draw_map
from gd_lightning.plots.run_curves import draw_losses
from gd_lightning.plots.style import new_figure, pixels, save_figure
from gd_lightning.plots.sweep_curves import Curve, sweep_curves
from gd_lightning.plots.sweep_map import Plane, sweep_map
from gd_lightning.records.groups import Group
from gd_lightning.records.history import History
from gd_lightning.theory import Boundaries, OutcomeMap, Verdict

TEXTS = [
    r"$\frac{",
    "$$",
    "a_$b",
    "$a$ and $b",
    r"\$ $x_1$",
    "100 %",
    "_hidden",
    "\x1b[31m\x00\r\u202e",
    r"$\mathdefault{\frac{$",
    "{}{0}\\",
]


def _history() -> History:
    history = History()
    for update in range(4):
        history.append(
            update=update,
            epoch=update,
            samples=100 * update,
            seconds=float(update),
            train_loss=2.0**-update,
            batch_loss=1.0,
        )
    return history


def _comparison(text: str) -> Figure:
    groups = [Group(f"{text}{i}", (_history(), _history()), "batch") for i in range(2)]
    x = np.linspace(0, 1, 20)
    fits = Fits(x, x, {groups[0].label: lambda grid: grid, groups[1].label: lambda grid: math.nan * grid})
    variances = {group.label: (10, np.ones(2)) for group in groups}
    return comparison_figure(groups, title=text, least_squares=0.1, fits=fits, variances=variances)


def _sweep(text: str) -> Figure:
    losses = np.full((2, 2), 0.5)
    plane = Plane(losses=losses, diverged=0 * losses, limits=np.ones(2), title=text)
    return sweep_map([plane], [1, 2], [0.1, 0.2], n_samples=2, start=1.0, quantity=text, title=text)


def _curves(text: str) -> Figure:
    line = np.array([0.5, 0.4])
    curves = [Curve(text + i, line, line, line, 0 * line, 0.15) for i in "ab"]
    return sweep_curves(curves, [0.1, 0.2], start=1.0, axis=text, quantity=text, title=text)


def _map(text: str) -> Figure:
    *drawn, batch = (Boundaries(size, 0.01, 0.1, 0.1, 1.0, 1.0, 0.7) for size in (1, 2, 4, 8))
    return draw_map(OutcomeMap(8, 20, tuple(drawn), batch), 1, 0.5, Verdict.SLOW, text)


def _losses(text: str) -> Figure:
    figure = new_figure(1)
    draw_losses(figure.subplots(), _history(), text, 0.1)
    return figure


PICTURES: dict[str, Callable[[str], Figure]] = {
    "comparison_figure": _comparison,
    "sweep_map": _sweep,
    "sweep_curves": _curves,
    "draw_map": _map,
}


def test_all_pictures_are_tried() -> None:
    names = ("comparison.figure", "outcome_map", "sweep_map", "sweep_curves")
    modules = [import_module(f"gd_lightning.plots.{name}") for name in names]
    made = {
        name
        for module in modules
        for name, function in vars(module).items()
        if inspect.isfunction(function)
        and function.__module__ == module.__name__
        and not name.startswith("_")
        and get_type_hints(function).get("return") is Figure
    }
    assert made == set(PICTURES)


# Some texts in one picture, and each picture with one or two of them; the rest on request.
@pytest.mark.parametrize(
    ("text", "draw"),
    [
        pytest.param(text, draw, id=f"{text!a}-{draw.__name__}", marks=[] if (i + j) % 8 == 0 else pytest.mark.slow)
        for i, text in enumerate(TEXTS)
        for j, draw in enumerate([*PICTURES.values(), _losses])
    ],
)
def test_a_picture_shows_any_text_as_it_is(draw: Callable[[str], Figure], text: str, tmp_path: Path) -> None:
    figure = draw(text)
    image = pixels(figure)
    save_figure(tmp_path / "a.svg", figure)
    assert image.min() < 255
    ElementTree.parse(tmp_path / "a.svg")
    shown = [child.get_text() for child in figure.findobj(Text)]
    written = text.replace("\x1b", r"\x1b").replace("\x00", r"\x00").replace("\r", r"\r").replace("\u202e", r"\u202e")
    assert any(written in label for label in shown)
    for legend in figure.legends:
        assert len(legend.get_texts()) == len(legend.legend_handles)


@pytest.mark.parametrize("text", [r"$\frac{1}{2}$", "$a$"])
def test_a_text_that_is_a_formula_is_none(text: str) -> None:
    as_is, plain = new_figure(1), new_figure(1)
    as_is.suptitle(text)
    plain.suptitle(text.replace("$", r"\$"), parse_math=True)
    plain.suptitle(text, parse_math=False)
    np.testing.assert_array_equal(pixels(as_is), pixels(plain))
