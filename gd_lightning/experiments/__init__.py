"""Experiments of several runs: comparisons, sweeps, and trials of learning rates (layer 6)."""

from gd_lightning.experiments.best_learning_rate import best_lr as best_lr
from gd_lightning.experiments.comparison.compare import compare as compare
from gd_lightning.experiments.comparison.compared_runs import Comparison as Comparison
from gd_lightning.experiments.comparison.report import Report as Report
from gd_lightning.experiments.comparison.task import CompareTask as CompareTask
from gd_lightning.experiments.comparison.task import MemberResult as MemberResult
from gd_lightning.experiments.exploration import Exploration as Exploration
from gd_lightning.experiments.exploration import explore as explore
from gd_lightning.experiments.exploration import make_exploration as make_exploration
from gd_lightning.experiments.plans.local_plan import LocalPlan as LocalPlan
from gd_lightning.experiments.plans.plan import Plan as Plan
from gd_lightning.experiments.plans.plan import make_plan as make_plan
from gd_lightning.experiments.plans.plan import plan as plan
from gd_lightning.experiments.single.fit import fit as fit
from gd_lightning.experiments.single.fit import load as load
from gd_lightning.experiments.single.run import Run as Run
from gd_lightning.experiments.sweeps.grid import Grid as Grid
from gd_lightning.experiments.sweeps.report import SweepReport as SweepReport
from gd_lightning.experiments.sweeps.sweep import SweepTask as SweepTask
from gd_lightning.experiments.sweeps.sweep import sweep as sweep
