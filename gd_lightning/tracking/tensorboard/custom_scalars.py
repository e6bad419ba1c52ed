"""The charts of TensorBoard's Custom Scalars tab, for a single run."""

from __future__ import annotations

LAYOUT = {
    "train loss, validation loss and what theory predicts": {
        axis: ["Multiline", [rf"{axis}/(train_loss|val_loss|train_loss_predicted)$"]]
        for axis in ("epochs", "updates", "samples")
    }
}
"""Of the Custom Scalars tab, which draws several tags of a run into one chart: a chart an axis."""
