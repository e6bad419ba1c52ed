"""Statistics of the final parameters of a run: distance to the truth, norm, number of zero weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_ZERO = 1e-3  # absolute value below which a weight has no visible effect


def parameter_statistics(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return the final measurements of a run, and statistics of its parameters.

    ``distance_to_truth`` is the Euclidean distance of the parameters to the true ones, ``weight_norm`` is the Euclidean
    norm of the weights, and ``zero_weights`` counts the weights below 0.001. All three are those of a linear regressor,
    in original units, where they are known.

    Args:
        summary: The summary of a run.
    """
    found = {name: float(value) for name, value in (summary.get("measures") or {}).items()}
    fitted, truth = _numbers(summary.get("parameters")), _numbers(summary.get("truth"))
    if not fitted:
        return found
    weights = [value for name, value in fitted.items() if name.startswith("w")]
    found["weight_norm"] = math.hypot(*weights)
    found["zero_weights"] = float(sum(abs(weight) < _ZERO for weight in weights))
    if truth and set(truth) == set(fitted):
        found["distance_to_truth"] = math.dist([fitted[name] for name in truth], list(truth.values()))
    return found


def _numbers(values: Mapping[str, Any] | None) -> dict[str, float]:
    """Convert values to float; in JSON, numbers that are not finite are text."""
    return {name: float(value) for name, value in (values or {}).items()}
