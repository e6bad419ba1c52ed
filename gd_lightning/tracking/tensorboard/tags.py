"""Tags under which TensorBoard shows the history of a run, and the steps against which it draws them.

TensorBoard draws against one integer step, and cannot name it. So the axis is the first part of the tag, and runs of
different batch sizes overlay in the family of the axis that they are to be compared on:

- ``updates/...``, ``samples/...``: the number of optimiser steps, or of training samples consumed;
- ``epochs/...``: whole epochs, for what is measured at their ends;
- ``microseconds/...``: training time; the *relative* axis of the other families is training time as well.
"""

from __future__ import annotations

from collections.abc import Mapping

from gd_lightning.records.history import AXES

OWN_TAGS = ("updates/", "samples/", "epochs/", "microseconds/", "final/", "run card/", "_hparams_/")

VIEWS = "views/"
"""The family of pictures: TensorBoard shows families by the alphabet, and curves are to come first."""

LAYOUT = {
    "train loss, validation loss and what theory predicts": {
        axis: ["Multiline", [rf"{axis}/(train_loss|val_loss|train_loss_predicted)$"]]
        for axis in ("epochs", "updates", "samples")
    }
}
"""Of the Custom Scalars tab, which draws several tags of a run into one chart: a chart an axis."""


def steps_of(row: Mapping[str, float]) -> dict[str, float]:
    """Return the whole number against which TensorBoard draws a row of a history, by axis."""
    steps = {"updates": row["update"], "samples": row["samples"], "microseconds": round(row["seconds"] * 1e6)}
    if row["epoch"] == int(row["epoch"]):
        steps["epochs"] = row["epoch"]
    return steps


def measured_in(row: Mapping[str, float]) -> dict[str, float]:
    """Return the measurements in a row of a history, by the part of their tags after the axis."""
    return {name: value for name, value in row.items() if name not in AXES and not name.startswith("grad_")}
