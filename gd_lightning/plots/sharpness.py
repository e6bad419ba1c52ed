"""The sharpness of a run, compared with the stability limit of its learning rate."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from gd_lightning.plots.style import add_legend
from gd_lightning.records.history import History

_SHOWN = 3.0  # end of the axis, in limits: a larger one would hide whether the sharpness is near the limit


def draw_sharpness(axes: Axes, history: History) -> None:
    """Draw the largest eigenvalue of the Hessian against updates, and the value above which errors grow.

    Args:
        axes: The axes to draw on.
        history: A run with the columns ``sharpness`` and ``sharpness_limit``.
    """
    updates, values = history.series("sharpness")
    at_limits, limits = history.series("sharpness_limit")
    axes.plot(updates, values, color="tab:blue", linewidth=1.2, label="sharpness")
    axes.plot(at_limits, limits, color="black", linestyle="--", linewidth=1.2, label="the largest that lr allows")
    highest = _SHOWN * float(np.max(limits))
    axes.set_ylim(0, min(1.05 * max(float(np.max(values)), float(np.max(limits))), highest))
    axes.set_title("sharpness", fontsize="medium")
    axes.set(xlabel="updates", ylabel="largest eigenvalue of the Hessian")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    add_legend(axes)
