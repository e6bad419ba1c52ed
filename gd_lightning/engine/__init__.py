"""How a stretch of updates is carried out (floor 3); knows torch and numpy, never Lightning."""

from gd_lightning.engine.autograd import AutogradEngine
from gd_lightning.engine.batched import BatchedPopulation
from gd_lightning.engine.population import Course, Ends, Members, OneByOne, Population, Single
from gd_lightning.engine.stretch import Engine, Keep, Look, Stretch, Trace

__all__ = [
    "AutogradEngine",
    "BatchedPopulation",
    "Course",
    "Ends",
    "Engine",
    "Keep",
    "Look",
    "Members",
    "OneByOne",
    "Population",
    "Single",
    "Stretch",
    "Trace",
]
