"""Theory of gradient descent on linear regressors: closed forms and exact operators, in float64.

Every statement holds for the mean squared error without 1/2, a mean over samples and outputs; those of ``curvature``
hold for any network and loss, at one set of parameters.
"""

from gd_lightning.theory.advice import Remedy as Remedy
from gd_lightning.theory.advice import advice as advice
from gd_lightning.theory.advice import epochs_in_words as epochs_in_words
from gd_lightning.theory.advice import in_words as in_words
from gd_lightning.theory.advice import remedies as remedies
from gd_lightning.theory.advice import stable_lr as stable_lr
from gd_lightning.theory.averages import Average as Average
from gd_lightning.theory.averages import averaged_losses as averaged_losses
from gd_lightning.theory.averages import expected_averaged_losses as expected_averaged_losses
from gd_lightning.theory.best_rates import AT_LENGTH as AT_LENGTH
from gd_lightning.theory.best_rates import BestRate as BestRate
from gd_lightning.theory.best_rates import BestRates as BestRates
from gd_lightning.theory.best_rates import best_rate as best_rate
from gd_lightning.theory.changing_rates import Schedule as Schedule
from gd_lightning.theory.critical_batch_size import Interpolation as Interpolation
from gd_lightning.theory.critical_batch_size import share_of_variance as share_of_variance
from gd_lightning.theory.drawn_batches import DrawnBatches as DrawnBatches
from gd_lightning.theory.full_batch import best_heavy_ball as best_heavy_ball
from gd_lightning.theory.full_batch import best_lr as best_lr
from gd_lightning.theory.full_batch import contraction as contraction
from gd_lightning.theory.full_batch import largest_stable_lr as largest_stable_lr
from gd_lightning.theory.full_batch import predicted_losses as predicted_losses
from gd_lightning.theory.full_batch import updates_to_excess as updates_to_excess
from gd_lightning.theory.local_curvature import LocalCurvature as LocalCurvature
from gd_lightning.theory.local_outcome import LocalOutcome as LocalOutcome
from gd_lightning.theory.local_outcome import LocalVerdict as LocalVerdict
from gd_lightning.theory.network_curvature import NetworkLoss as NetworkLoss
from gd_lightning.theory.numerics.subsampling import drawn_evenly as drawn_evenly
from gd_lightning.theory.outcome_map import Boundaries as Boundaries
from gd_lightning.theory.outcome_map import OutcomeMap as OutcomeMap
from gd_lightning.theory.predicted_outcome import OutcomePredictor as OutcomePredictor
from gd_lightning.theory.predicted_outcome import PredictedOutcome as PredictedOutcome
from gd_lightning.theory.predicted_outcome import seconds_to_predict as seconds_to_predict
from gd_lightning.theory.quadratic_loss import LinearLoss as LinearLoss
from gd_lightning.theory.reduced_updates import ReducedUpdates as ReducedUpdates
from gd_lightning.theory.rounding import Rounding as Rounding
from gd_lightning.theory.sequential_batches import SequentialEpoch as SequentialEpoch
from gd_lightning.theory.verdicts import Verdict as Verdict
