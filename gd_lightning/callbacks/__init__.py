"""When to measure, stop, save and draw: thin adapters from Lightning's hooks to the packages below (layer 5)."""

from gd_lightning.callbacks.forecast import Forecast
from gd_lightning.callbacks.gradient_variance import GradientVariance
from gd_lightning.callbacks.last_checkpoint import LastCheckpoint
from gd_lightning.callbacks.outcome import EndsRun
from gd_lightning.callbacks.pictures import Pictures
from gd_lightning.callbacks.print_updates import PrintUpdates
from gd_lightning.callbacks.progress import LongRunProgress
from gd_lightning.callbacks.recorder import HistoryRecorder
from gd_lightning.callbacks.sharpness_monitor import SharpnessMonitor
from gd_lightning.callbacks.stop_on_divergence import StopOnDivergence
from gd_lightning.callbacks.stop_on_signal import EndedBySignal, StopOnSignal, raise_for_signal
from gd_lightning.callbacks.stopping import ExcessBelow, GradientNormBelow, LossBelow, LossPlateau, TimeBudget
from gd_lightning.callbacks.time_limit import TimeLimit

__all__ = [
    "EndedBySignal",
    "EndsRun",
    "ExcessBelow",
    "Forecast",
    "GradientNormBelow",
    "GradientVariance",
    "HistoryRecorder",
    "LastCheckpoint",
    "LongRunProgress",
    "LossBelow",
    "LossPlateau",
    "Pictures",
    "PrintUpdates",
    "SharpnessMonitor",
    "StopOnDivergence",
    "StopOnSignal",
    "TimeBudget",
    "TimeLimit",
    "raise_for_signal",
]
