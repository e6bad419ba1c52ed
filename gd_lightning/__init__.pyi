"""The public names of gd_lightning, listed once: ``__init__.py`` reads them from here."""

from gd_lightning.affine import Affine as Affine
from gd_lightning.affine import least_squares as least_squares
from gd_lightning.callbacks import ExcessBelow as ExcessBelow
from gd_lightning.callbacks import Forecast as Forecast
from gd_lightning.callbacks import GradientNormBelow as GradientNormBelow
from gd_lightning.callbacks import GradientVariance as GradientVariance
from gd_lightning.callbacks import HistoryRecorder as HistoryRecorder
from gd_lightning.callbacks import LastCheckpoint as LastCheckpoint
from gd_lightning.callbacks import LongRunProgress as LongRunProgress
from gd_lightning.callbacks import LossBelow as LossBelow
from gd_lightning.callbacks import LossPlateau as LossPlateau
from gd_lightning.callbacks import Pictures as Pictures
from gd_lightning.callbacks import PrintUpdates as PrintUpdates
from gd_lightning.callbacks import StopOnDivergence as StopOnDivergence
from gd_lightning.callbacks import TimeBudget as TimeBudget
from gd_lightning.cli import main as main
from gd_lightning.data import BatchLoader as BatchLoader
from gd_lightning.data import RegressionDataModule as RegressionDataModule
from gd_lightning.data import Samples as Samples
from gd_lightning.errors import InputError as InputError
from gd_lightning.errors import ShapeError as ShapeError
from gd_lightning.experiments import compare as compare
from gd_lightning.experiments import sweep as sweep
from gd_lightning.micro_batches import MicroBatches as MicroBatches
from gd_lightning.models import LinearRegressor as LinearRegressor
from gd_lightning.models import MLPRegressor as MLPRegressor
from gd_lightning.models import Standardize as Standardize
from gd_lightning.module import RegressionModule as RegressionModule
from gd_lightning.problems import Arrays as Arrays
from gd_lightning.problems import ExamScores as ExamScores
from gd_lightning.problems import FourPoints as FourPoints
from gd_lightning.problems import LinearProblem as LinearProblem
from gd_lightning.problems import NoisyLine as NoisyLine
from gd_lightning.problems import Parabola as Parabola
from gd_lightning.problems import Problem as Problem
from gd_lightning.problems import Sine as Sine
from gd_lightning.problems import SteepLine as SteepLine
from gd_lightning.problems import Table as Table
from gd_lightning.problems import as_problem as as_problem
from gd_lightning.random_numbers import starting_from as starting_from
from gd_lightning.records.history import History as History
from gd_lightning.records.history import Outcome as Outcome
from gd_lightning.variants import Variant as Variant

__version__: str
