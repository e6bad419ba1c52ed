"""What takes several runs: which there are, and what they show side by side (floor 6)."""

from gd_lightning.experiments.compare import best_lr as best_lr
from gd_lightning.experiments.compare import compare as compare
from gd_lightning.experiments.comparison import Comparison as Comparison
from gd_lightning.experiments.findings import findings as findings
from gd_lightning.experiments.grid import Member as Member
from gd_lightning.experiments.grid import members as members
from gd_lightning.experiments.report import Report as Report
from gd_lightning.experiments.scene import Scene as Scene
from gd_lightning.experiments.sweep import SweepTask as SweepTask
from gd_lightning.experiments.sweep import sweep as sweep
from gd_lightning.experiments.sweep_grid import Grid as Grid
from gd_lightning.experiments.sweep_report import SweepReport as SweepReport
from gd_lightning.experiments.table import as_csv as as_csv
from gd_lightning.experiments.table import as_markdown as as_markdown
from gd_lightning.experiments.table import as_text as as_text
from gd_lightning.experiments.table import as_values as as_values
from gd_lightning.experiments.table import rows as rows
from gd_lightning.experiments.trial import Trial as Trial
from gd_lightning.experiments.trial import Tried as Tried
