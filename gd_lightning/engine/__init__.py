"""How a chunk of updates is carried out (layer 3); knows torch and numpy, never Lightning."""

from gd_lightning.engine.autograd import AutogradEngine, is_beyond_precision, overflow_to_nan
from gd_lightning.engine.chunk import (
    Chunk,
    ChunkRequest,
    ChunkSource,
    DivergenceCheck,
    Engine,
    EpochEnds,
    HeldOut,
    Record,
    SaveAt,
    Trace,
)
from gd_lightning.engine.compilation_notice import announcing_compilation, keeps_compiled_code
from gd_lightning.engine.fused import FusedEngine
from gd_lightning.engine.fusible import why_no_numba, why_not_fused, work_of
from gd_lightning.engine.many.batched import BatchedPopulation
from gd_lightning.engine.many.choice import fastest_population
from gd_lightning.engine.many.fused import FusedPopulation
from gd_lightning.engine.many.population import Ends, Members, OneByOne, Population, Single, TrainingTask
from gd_lightning.engine.sample_sources import EngineInMemory, EngineOnFile
from gd_lightning.engine.standardized_targets import EngineInUnits

__all__ = [
    "AutogradEngine",
    "BatchedPopulation",
    "Chunk",
    "ChunkRequest",
    "ChunkSource",
    "DivergenceCheck",
    "Ends",
    "Engine",
    "EngineInMemory",
    "EngineInUnits",
    "EngineOnFile",
    "EpochEnds",
    "FusedEngine",
    "FusedPopulation",
    "HeldOut",
    "Members",
    "OneByOne",
    "Population",
    "Record",
    "SaveAt",
    "Single",
    "Trace",
    "TrainingTask",
    "announcing_compilation",
    "fastest_population",
    "is_beyond_precision",
    "keeps_compiled_code",
    "overflow_to_nan",
    "why_no_numba",
    "why_not_fused",
    "work_of",
]
