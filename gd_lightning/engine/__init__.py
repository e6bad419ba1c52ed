"""How a stretch of updates is carried out (floor 3); knows torch and numpy, never Lightning."""

from gd_lightning.engine.autograd import AutogradEngine, is_beyond_precision, overflow_to_nan
from gd_lightning.engine.batched import BatchedPopulation
from gd_lightning.engine.fastest import fastest_population
from gd_lightning.engine.fused import FusedEngine
from gd_lightning.engine.fused_population import FusedPopulation
from gd_lightning.engine.fusible import has_global_hooks, has_hooks, why_no_numba, why_not_fused, work_of
from gd_lightning.engine.population import Course, Ends, Members, OneByOne, Population, Single
from gd_lightning.engine.stretch import Engine, Keep, Look, Record, Stretch, Trace

__all__ = [
    "AutogradEngine",
    "BatchedPopulation",
    "Course",
    "Ends",
    "Engine",
    "FusedEngine",
    "FusedPopulation",
    "Keep",
    "Look",
    "Members",
    "OneByOne",
    "Population",
    "Record",
    "Single",
    "Stretch",
    "Trace",
    "fastest_population",
    "has_global_hooks",
    "has_hooks",
    "is_beyond_precision",
    "overflow_to_nan",
    "why_no_numba",
    "why_not_fused",
    "work_of",
]
