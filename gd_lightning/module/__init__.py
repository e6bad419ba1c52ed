"""The ``LightningModule``, and how it continues a run (layer 4)."""

from gd_lightning.module.checkpoints import CheckedCheckpoints as CheckedCheckpoints
from gd_lightning.module.checkpoints import WholeCheckpoints as WholeCheckpoints
from gd_lightning.module.engine_choice import NOT_THERE as NOT_THERE
from gd_lightning.module.engine_choice import own_method as own_method
from gd_lightning.module.engine_choice import why_no_factor as why_no_factor
from gd_lightning.module.finite_predictions import is_finite as is_finite
from gd_lightning.module.finite_predictions import predicted_in_float64 as predicted_in_float64
from gd_lightning.module.finite_predictions import refuse_overflow as refuse_overflow
from gd_lightning.module.options import check_options as check_options
from gd_lightning.module.outcome_predictor import predictor_of as predictor_of
from gd_lightning.module.outcome_predictor import standardized_module as standardized_module
from gd_lightning.module.predicted_learning_rates import stepped_rates as stepped_rates
from gd_lightning.module.regression import RegressionModule as RegressionModule
from gd_lightning.module.resume import is_at_its_end as is_at_its_end
from gd_lightning.module.resume import saved_limits as saved_limits
from gd_lightning.module.theory_conditions import has_least_squares as has_least_squares
from gd_lightning.module.theory_conditions import is_squared_error as is_squared_error
from gd_lightning.module.theory_conditions import linear_network as linear_network
from gd_lightning.module.theory_conditions import predicting_part as predicting_part
from gd_lightning.module.theory_conditions import quadratic_network as quadratic_network
from gd_lightning.module.theory_conditions import trained_loss_of as trained_loss_of
from gd_lightning.module.trainer_checks import check_processes as check_processes
from gd_lightning.module.trainer_checks import check_strategy as check_strategy
from gd_lightning.module.validation import Validation as Validation
