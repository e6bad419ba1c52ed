"""The ``LightningModule`` (floor 4)."""

from gd_lightning.module.regression import RegressionModule

__all__ = ["RegressionModule"]
