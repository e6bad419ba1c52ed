"""Regression problems: data, with the true function where it is known (layer 1)."""

from gd_lightning.problems.curves import Parabola, Sine
from gd_lightning.problems.linear import LinearProblem
from gd_lightning.problems.lines import ExamScores, FourPoints, NoisyLine, SteepLine
from gd_lightning.problems.problem import Problem, problem_class
from gd_lightning.problems.tables import Table

__all__ = [
    "ExamScores",
    "FourPoints",
    "LinearProblem",
    "NoisyLine",
    "Parabola",
    "Problem",
    "Sine",
    "SteepLine",
    "Table",
    "problem_class",
]
