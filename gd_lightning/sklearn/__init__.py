"""Gradient descent as an estimator of scikit-learn, which is an extra: ``pip install 'gd-lightning[sklearn]'``."""

from gd_lightning.sklearn.regressor import GradientDescentRegressor

__all__ = ["GradientDescentRegressor"]
