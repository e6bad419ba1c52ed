"""Experiments of several runs: comparisons, sweeps, and trials of learning rates (layer 6)."""

from gd_lightning.experiments.comparison.compared_runs import Comparison as Comparison
from gd_lightning.experiments.comparison.drawing import ProblemPanels as ProblemPanels
from gd_lightning.experiments.comparison.findings import findings as findings
from gd_lightning.experiments.comparison.report import Report as Report
from gd_lightning.experiments.comparison.run import best_lr as best_lr
from gd_lightning.experiments.comparison.run import compare as compare
from gd_lightning.experiments.comparison.table import as_csv as as_csv
from gd_lightning.experiments.comparison.table import as_markdown as as_markdown
from gd_lightning.experiments.comparison.table import as_text as as_text
from gd_lightning.experiments.comparison.table import as_values as as_values
from gd_lightning.experiments.comparison.table import rows as rows
from gd_lightning.experiments.comparison.task import CompareTask as CompareTask
from gd_lightning.experiments.comparison.task import MemberResult as MemberResult
from gd_lightning.experiments.lr_trial import Trial as Trial
from gd_lightning.experiments.lr_trial import Tried as Tried
from gd_lightning.experiments.plans.local import LocalPlan as LocalPlan
from gd_lightning.experiments.plans.run import Plan as Plan
from gd_lightning.experiments.plans.run import make_plan as make_plan
from gd_lightning.experiments.plans.run import plan as plan
from gd_lightning.experiments.single.fit import fit as fit
from gd_lightning.experiments.single.fit import load as load
from gd_lightning.experiments.single.run import Run as Run
from gd_lightning.experiments.sweeps.grid import Grid as Grid
from gd_lightning.experiments.sweeps.report import SweepReport as SweepReport
from gd_lightning.experiments.sweeps.run import SweepTask as SweepTask
from gd_lightning.experiments.sweeps.run import sweep as sweep
