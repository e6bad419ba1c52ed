"""Checks of the arguments of an estimator, with the functions of the installed version of scikit-learn.

Letters: N samples, D features, K targets.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import validation

from gd_lightning.errors import InputError
from gd_lightning.problems.exact_numbers import as_array, as_numbers, check_masks, without_tensors

_NAMES = ("X", "y")


def validated(estimator: Any, x: Any, reset: bool) -> NDArray[np.float64]:
    """Return features as float64, shape (N, D).

    Args:
        estimator: The estimator, which stores the number and names of the features, or compares them.
        x: The given features.
        reset: Whether number and names are stored.

    Raises:
        ValueError: Features are not finite numbers, or differ from those that the estimator was fitted on.
    """
    features: NDArray[np.float64] = _validate(estimator, x, dtype=np.float64, reset=reset)
    return features


def validated_pair(estimator: Any, x: Any, y: Any, reset: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return features of shape (N, D) and targets of shape (N,) or (N, K) as float64; arguments as for one alone."""
    options = {"dtype": np.float64, "multi_output": True, "y_numeric": True, "reset": reset}
    features, targets = _validate(estimator, x, y, **options)
    return features, targets.astype(np.float64)


def validated_weights(given: Any, samples: int) -> NDArray[np.float64]:
    """Return weights of samples as float64, shape (N,).

    Raises:
        InputError: The weights are not one finite number of 0 or more per sample, or are all 0.
    """
    weights = as_numbers(as_array(given, "sample_weight"), "sample_weight").astype(np.float64)
    weights = np.full(samples, weights) if weights.ndim == 0 else weights
    if weights.shape != (samples,):
        raise InputError(f"cannot weigh {samples} samples by weights of shape {weights.shape}; give one for each")
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise InputError("cannot use sample_weight, because a weight is below 0 or not finite; use numbers from 0")
    if not weights.any():
        raise InputError("cannot use sample_weight, because all weights are zero; give a sample a weight above 0")
    return weights


def _validate(estimator: Any, *given: Any, **options: Any) -> Any:
    given = tuple(without_tensors(each, name) for each, name in zip(given, _NAMES, strict=False))
    for each, name in zip(given, _NAMES, strict=False):
        check_masks(each, name)
    if hasattr(validation, "validate_data"):  # scikit-learn 1.6 or later
        return validation.validate_data(estimator, *given, **options)
    return estimator._validate_data(*given, **options)
