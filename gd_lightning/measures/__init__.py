"""Measurements of loss and gradient at fixed weights, and of training time (layer 2)."""

from gd_lightning.measures.gradient import gradient_norm_over, gradient_variance_over
from gd_lightning.measures.loss import mean_loss_over, unchanged
from gd_lightning.measures.training_seconds import Stopwatch

__all__ = ["Stopwatch", "gradient_norm_over", "gradient_variance_over", "mean_loss_over", "unchanged"]
