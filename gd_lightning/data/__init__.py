"""The data module, its loader, order and split (floor 4)."""

from gd_lightning.data.loader import BatchLoader
from gd_lightning.data.module import RegressionDataModule
from gd_lightning.data.order import Order, epoch_order

__all__ = ["BatchLoader", "Order", "RegressionDataModule", "epoch_order"]
