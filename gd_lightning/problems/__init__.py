"""Regression problems: data, with the true function where it is known (layer 1)."""

from gd_lightning.problems.arrays import Arrays, ProblemLike, as_problem, inputs_of
from gd_lightning.problems.curves import Parabola, Sine
from gd_lightning.problems.frames import Frame
from gd_lightning.problems.linear import LinearProblem
from gd_lightning.problems.lines import ExamScores, FourPoints, NoisyLine, SteepLine
from gd_lightning.problems.problem import Problem, problem_class
from gd_lightning.problems.tables import Names, Table

__all__ = [
    "Arrays",
    "ExamScores",
    "FourPoints",
    "Frame",
    "LinearProblem",
    "Names",
    "NoisyLine",
    "Parabola",
    "Problem",
    "ProblemLike",
    "Sine",
    "SteepLine",
    "Table",
    "as_problem",
    "inputs_of",
    "problem_class",
]
