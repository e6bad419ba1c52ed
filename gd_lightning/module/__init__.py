"""The ``LightningModule``, and how it continues a run (layer 4)."""

from gd_lightning.module.checkpoints import CheckedCheckpoints, WholeCheckpoints
from gd_lightning.module.engine_choice import NOT_THERE, own_method, why_no_factor
from gd_lightning.module.finite_predictions import is_finite, predicted_in_float64, refuse_overflow
from gd_lightning.module.options import check_options
from gd_lightning.module.outcome_predictor import predictor_of, standardized_module
from gd_lightning.module.predicted_learning_rates import stepped_rates
from gd_lightning.module.regression import RegressionModule
from gd_lightning.module.resume import is_at_its_end, saved_limits
from gd_lightning.module.theory_conditions import (
    has_least_squares,
    is_squared_error,
    linear_network,
    predicting_part,
    quadratic_network,
    trained_loss_of,
)
from gd_lightning.module.trainer_checks import check_processes, check_strategy
from gd_lightning.module.validation import Validation

__all__ = [
    "NOT_THERE",
    "CheckedCheckpoints",
    "RegressionModule",
    "Validation",
    "WholeCheckpoints",
    "check_options",
    "check_processes",
    "check_strategy",
    "has_least_squares",
    "is_at_its_end",
    "is_finite",
    "is_squared_error",
    "linear_network",
    "own_method",
    "predicted_in_float64",
    "predicting_part",
    "predictor_of",
    "quadratic_network",
    "refuse_overflow",
    "saved_limits",
    "standardized_module",
    "stepped_rates",
    "trained_loss_of",
    "why_no_factor",
]
