"""What must happen: closed forms and exact operators for gradient descent on linear regressors, in float64.

Every statement holds for the mean squared error without 1/2, a mean over samples and outputs; those of ``curvature``
hold for any network and loss, at one set of parameters.
"""

from gd_lightning.theory.advice import Remedy as Remedy
from gd_lightning.theory.advice import advice as advice
from gd_lightning.theory.advice import epochs_in_words as epochs_in_words
from gd_lightning.theory.advice import in_words as in_words
from gd_lightning.theory.advice import remedies as remedies
from gd_lightning.theory.advice import stable_lr as stable_lr
from gd_lightning.theory.batch_size import GradientNoise as GradientNoise
from gd_lightning.theory.batch_size import Interpolation as Interpolation
from gd_lightning.theory.batch_size import largest_sample_curvature as largest_sample_curvature
from gd_lightning.theory.batch_size import share_of_variance as share_of_variance
from gd_lightning.theory.curvature import LocalCurvature as LocalCurvature
from gd_lightning.theory.curvature import LocalOutlook as LocalOutlook
from gd_lightning.theory.curvature import LocalVerdict as LocalVerdict
from gd_lightning.theory.curvature import NetworkLoss as NetworkLoss
from gd_lightning.theory.descent import best_heavy_ball as best_heavy_ball
from gd_lightning.theory.descent import best_lr as best_lr
from gd_lightning.theory.descent import contraction as contraction
from gd_lightning.theory.descent import largest_stable_lr as largest_stable_lr
from gd_lightning.theory.descent import predicted_losses as predicted_losses
from gd_lightning.theory.descent import updates_to_excess as updates_to_excess
from gd_lightning.theory.linear_loss import LinearLoss as LinearLoss
from gd_lightning.theory.map import Boundaries as Boundaries
from gd_lightning.theory.map import OutcomeMap as OutcomeMap
from gd_lightning.theory.outlook import Outlook as Outlook
from gd_lightning.theory.outlook import Outlooks as Outlooks
from gd_lightning.theory.outlook import Verdict as Verdict
from gd_lightning.theory.precision import Rounding as Rounding
from gd_lightning.theory.reduced import ReducedUpdates as ReducedUpdates
from gd_lightning.theory.sampling import DrawnBatches as DrawnBatches
from gd_lightning.theory.sequential import SequentialEpoch as SequentialEpoch
from gd_lightning.theory.thinning import drawn_evenly as drawn_evenly
