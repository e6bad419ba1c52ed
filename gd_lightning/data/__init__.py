"""The data module, its loader, order and split (layer 4)."""

from gd_lightning.data.loader import BatchLoader
from gd_lightning.data.module import RegressionDataModule
from gd_lightning.data.order import Order
from gd_lightning.data.samples import Samples

__all__ = ["BatchLoader", "Order", "RegressionDataModule", "Samples"]
