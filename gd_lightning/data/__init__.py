"""The data module, its loader, order and split (layer 4)."""

from gd_lightning.data.loader import BatchLoader as BatchLoader
from gd_lightning.data.module import RegressionDataModule as RegressionDataModule
from gd_lightning.data.order import Order as Order
from gd_lightning.data.samples import Samples as Samples
