"""When to measure, stop, save and draw: thin adapters from Lightning's hooks to the rooms below (floor 5)."""

from gd_lightning.callbacks.checkpoint import LastCheckpoint
from gd_lightning.callbacks.interruption import EndBetweenUpdates
from gd_lightning.callbacks.not_finite import StopWhenNotFinite
from gd_lightning.callbacks.pictures import Pictures
from gd_lightning.callbacks.progress import LongRunProgress
from gd_lightning.callbacks.recorder import HistoryRecorder
from gd_lightning.callbacks.steps import ShowSteps

__all__ = [
    "EndBetweenUpdates",
    "HistoryRecorder",
    "LastCheckpoint",
    "LongRunProgress",
    "Pictures",
    "ShowSteps",
    "StopWhenNotFinite",
]
