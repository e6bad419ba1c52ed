"""The predicted outcome of a run, before training, in Python and for ``plan`` on the command line."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from matplotlib.figure import Figure

from gd_lightning.affine import parameter_names
from gd_lightning.data import RegressionDataModule
from gd_lightning.errors import InputError, first_line
from gd_lightning.experiments.options import sections, untrained_run
from gd_lightning.experiments.plans.local_plan import Begins, LocalPlan, local_plan
from gd_lightning.experiments.plans.report import PlanForm
from gd_lightning.float64 import NOT_COMPUTABLE
from gd_lightning.module import RegressionModule, predictor_of, quadratic_network, stepped_rates
from gd_lightning.plots.outcome_map import draw_map
from gd_lightning.problems import ProblemLike
from gd_lightning.theory import (
    BestRate,
    OutcomeMap,
    OutcomePredictor,
    PredictedOutcome,
    Rounding,
    Verdict,
    advice,
    best_rate,
    epochs_in_words,
)
from gd_lightning.threads import one_thread_if
from gd_lightning.variants import BatchSize, Variant

_FEW = (10, 100)  # batch sizes that are shown besides the configured one, if they are smaller than the training set
_HOLDS_FOR = {  # what the map holds for, by the order of the run
    "with_replacement": "expected, for samples drawn with replacement",
    "shuffled": "expected, as if samples were drawn with replacement; shuffled samples have a lower floor",
    "sequential": "expected, for samples drawn with replacement; the order of this run is sequential",
}
_SHOWN_PARAMETERS = 12
# Number of samples to estimate the digits from; fewer for many features, so that they fit in memory.
_ENOUGH, _NUMBERS, _FEWEST = 10_000, 2**24, 100


def plan(
    problem: ProblemLike | None = None,
    *,
    data: Mapping[str, Any] | None = None,
    model: Mapping[str, Any] | None = None,
    trainer: Mapping[str, Any] | None = None,
    **options: Any,
) -> Plan | LocalPlan:
    """Predict before training which learning rates are stable for which batch sizes, and the outcome of the run.

    Args:
        problem: A problem, or data, as for :func:`~gd_lightning.as_problem`; None: the steep line.
        data: Options of :class:`~gd_lightning.RegressionDataModule`.
        model: Options of :class:`~gd_lightning.RegressionModule`.
        trainer: Options of Lightning's ``Trainer``: ``max_epochs``, ``max_steps`` and ``precision``.
        options: Options of any of the three by their names alone, as for :func:`~gd_lightning.fit`.

    Returns:
        The plan: ``advice`` in a sentence, ``rows`` with a prediction for each batch size, ``configured``, the row of
        these options, ``to_dict()`` and ``plot()``. It is a :class:`~gd_lightning.Plan` for linear regressors with the
        squared error, and a :class:`~gd_lightning.LocalPlan`, which holds at the start, for all others.

    Raises:
        InputError: No plan can be made with these options.

    Example:
        >>> plan(batch_size=1, lr=0.1).configured.verdict.value
        'diverges'
    """
    given = sections(options, data, model, trainer)
    with untrained_run(problem, given) as (module, datamodule, epochs):
        return make_plan(module, datamodule, epochs)


@one_thread_if(True)
def make_plan(
    module: RegressionModule, data: RegressionDataModule, max_epochs: float, begins: Begins = lambda _: None
) -> Plan | LocalPlan:
    """Make a plan: for the whole run if the loss is quadratic, else for its start.

    Args:
        module: The module with the configured learning rate; its network is made for the data.
        data: The data with the configured batch size.
        max_epochs: Number of epochs of the run.
        begins: Called with the name of each part before it is computed.

    Raises:
        InputError: No plan can be made with these options.
    """
    module.configure_for(data)
    refuse_other_updates(module)
    try:
        return _plan(module, data, max_epochs, begins)
    except NOT_COMPUTABLE as error:
        raise InputError(
            "cannot plan with these numbers, because theory yields numbers beyond float64 "
            f"({first_line(error)[:100]}); choose a smaller momentum, or standardize the data"
        ) from error


def _plan(module: RegressionModule, data: RegressionDataModule, max_epochs: float, begins: Begins) -> Plan | LocalPlan:
    sizes = list(_batch_sizes(data.variant))
    if quadratic_network(module) is None:
        return local_plan(module, data, sizes, begins)
    begins("eigenvalues of the Hessian")
    predictor = predictor_of(
        module, data.train.pieces, data.variant, max_epochs, order=data.order, problem=data.problem
    )
    asked, n = data.variant.batch_size, data.variant.train_samples
    told = [size for size in sizes if size == asked or predictor.can_predict(Variant.of(size, n))]
    rows, best = list[PredictedOutcome](), list[BestRate | None]()
    for size in told:
        begins(f"batch_size {size}")
        rows.append(predictor.predict(size, module.hparams["lr"]))
        best.append(_best(predictor, size))
    begins("what rounding leaves")
    title = type(data.problem).__name__
    return Plan(title, predictor, data.variant, rows, data.order, best, _digits(module, data, predictor, rows[0]))


def _best(predictor: OutcomePredictor, batch_size: BatchSize) -> BestRate | None:
    """Return the learning rate that is best for the epochs of the run; None where it is not found."""
    with suppress(InputError):
        return best_rate(predictor, batch_size)
    return None


def _digits(
    module: RegressionModule, data: RegressionDataModule, predictor: OutcomePredictor, batch: PredictedOutcome
) -> dict[str, dict[str, float]]:
    """Return the number of correct digits of each parameter after batch gradient descent, by precision and name."""
    lr, samples = (
        batch.lr if batch.verdict is not Verdict.DIVERGES else batch.asymptotic_lr,
        data.parts_in(torch.float64)[0],
    )
    enough = min(len(samples), _ENOUGH, max(_FEWEST, _NUMBERS // samples.in_features))
    rows = torch.linspace(0, len(samples) - 1, enough).long()
    rounding = Rounding(predictor.loss, *samples.take(rows), predictor.rule.at(lr), module.standardize, predictor.start)
    has_bias = predictor.start.bias is not None or (module.standardize is not None and module.standardize.centers)
    features, targets = data.problem.feature_names, data.problem.target_names
    names = parameter_names(data.in_features, data.out_features, has_bias, features, targets)
    return {
        name: dict(zip(names, (round(digits, 1) for digits in rounding.digits(dtype).tolist()), strict=True))
        for name, dtype in (("float32", torch.float32), ("float64", torch.float64))
    }


def _batch_sizes(configured: Variant) -> Iterator[BatchSize]:
    n = configured.train_samples
    yield "full"
    yield from sorted({configured.batch_size, *_FEW} & set(range(2, n)), reverse=True)
    if n > 1:
        yield 1


def refuse_other_updates(module: RegressionModule) -> None:
    """Refuse updates other than those of SGD at one learning rate."""
    if module.hparams["optimizer"]:
        raise InputError("cannot plan for an optimizer other than SGD, because theory holds only for SGD; leave it out")
    if module.hparams["lr_scheduler"] and quadratic_network(module) is None:
        stepped_rates(module)  # raises an error about a scheduler that cannot be stepped ahead
        raise InputError(
            "cannot plan for an lr_scheduler here, because the statements on a loss that is not quadratic hold for SGD "
            "at a constant learning rate; leave it out"
        )
    if module.hparams["momentum"] >= 1:
        raise InputError(
            f"cannot plan with momentum {module.hparams['momentum']:g}, because with 1 or more, the error shrinks at "
            "no learning rate; use a momentum below 1"
        )


@dataclasses.dataclass(frozen=True, repr=False)
class Plan(PlanForm[PredictedOutcome]):
    """A plan for the whole run of a linear regressor, for the configured batch size and others.

    Args:
        title: Title of the plan.
        predictor: Predicts the outcome of runs.
        variant: The configured batches.
        rows: One predicted outcome per batch size, including the configured one.
        order: The configured order of samples.
        best: The best learning rate of each row, with what it is best for; None where it is not found.
        digits: Number of correct digits of each parameter after batch gradient descent, by precision and name.
    """

    title: str
    predictor: OutcomePredictor
    variant: Variant
    rows: list[PredictedOutcome]
    order: str
    best: Sequence[BestRate | None]
    digits: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)

    @property
    def facts(self) -> dict[str, Any]:
        """The values of the plan for programs, without the rows and the advice."""
        loss = self.predictor.loss
        return {
            "least_squares_loss": loss.least_squares,
            "lowest_loss": loss.lowest,
            "constant_loss": loss.constant,
            "lambda_min": loss.lambda_min,
            "lambda_max": loss.lambda_max,
            "condition_number": loss.condition_number,
            "target_excess": self.predictor.target,
            "samples_of_mini_batches": len(self.predictor.drawn.rows),
            "order": self.order,
            "digits": self.digits,
        }

    def facts_of(self, row: PredictedOutcome) -> dict[str, Any]:
        """Return the values of a row for programs."""
        names, best = ("largest_stable_lr", "asymptotic_lr", "lr", "epochs", "floor"), self.best_of(row)
        return {
            **{name: getattr(row, name) for name in names},
            "best_lr": None if best is None else best.lr,
            "best_for": None if best is None else best.purpose,
            "growth_within_epoch": row.growth,
        }

    def best_of(self, row: PredictedOutcome) -> BestRate | None:
        """Return the best learning rate for the batch size of a row, the one that ``lr="best"`` stands for.

        It is the fastest to the target within the epochs of the run, or else that with the lowest loss at their end.

        Args:
            row: One of ``rows``.
        """
        return next(best for each, best in zip(self.rows, self.best, strict=True) if each is row)

    @property
    def headline(self) -> str:
        """One line that describes the training set."""
        loss = self.predictor.loss
        return (
            f"{loss.n_samples} training samples, Hessian's eigenvalues {loss.lambda_min:.6g} to {loss.lambda_max:.6g} "
            f"(condition number {loss.condition_number:.4g}), least-squares loss {loss.least_squares:.6g}"
            + (f"; weight_decay {loss.weight_decay:g} leads to {loss.lowest:.6g}" if loss.weight_decay else "")
        )

    @property
    def columns(self) -> dict[str, list[str]]:
        """The columns of the table."""
        return {
            "largest stable lr": [f"{row.largest_stable_lr:.4g}" for row in self.rows],
            "best lr": ["-" if best is None else f"{best.lr:g}" for best in self.best],
            "best for": ["" if best is None else best.in_short for best in self.best],
            "lr": [f"{row.lr:g}" for row in self.rows],
            "epochs": [epochs_in_words(row) for row in self.rows],
            "floor": ["" if row.floor == math.inf else f"{row.floor:.3g}" for row in self.rows],
        }

    @property
    def explanations(self) -> list[str]:
        """The meaning of the columns, and the conditions of the statements, as lines."""
        return [
            "best lr  by theory, as for lr best: the lr that reaches the target (see epochs) first, or if none does",
            "         within the epochs of the run, the lr with the lowest train loss at their end",
            *(["         (-: every lr diverges, or the search takes over two seconds)"] if None in self.best else []),
            f"epochs   until the train loss is {self.predictor.target:.3g} above {self.predictor.reference}",
            "floor    distance above that loss at which the noise of the batches, or rounding, keeps the run"
            if self.predictor.schedule is None
            else "floor    how far above that loss the run ends; its largest lr must stay below the largest stable one",
            *self._notes(),
        ]

    @property
    def advice(self) -> str:
        """One sentence that says what to do."""
        return advice(self.predictor, self.configured)

    @property
    def why_no_map(self) -> str:
        """Empty unless the learning rate changes: the map is of constant ones."""
        return "" if self.predictor.schedule is None else "its learning rate changes, and a map is for constant ones"

    def plot(self) -> Figure:
        """Draw the map of outcomes with the configured run on it.

        Raises:
            InputError: There is no map.
        """
        if self.why_no_map:
            raise InputError(
                f"cannot draw a map of outcomes, because {self.why_no_map}; use to_dict(), or sweep to train many "
                "settings"
            )
        row, epochs = self.configured, self.predictor.max_epochs
        length = "without a last epoch" if epochs == math.inf else f"of {epochs:.4g} epoch{'s' * (epochs != 1)}"
        lines = [f"{self.title}: outcome of a run {length}", _HOLDS_FOR[self.order]]
        if (rule := self.predictor.rule).momentum:
            kind = ", Nesterov's" if rule.nesterov else ""
            lines.append(f"momentum {rule.momentum:g}{kind}")
        if row.rounding:
            lines.append("rounding, which keeps this run at its floor, is not included")
        found = OutcomeMap.of(self.predictor, row.variant.batch_size)
        return draw_map(found, row.variant.batch_size, row.lr, row.verdict, "\n".join(lines))

    def _notes(self) -> list[str]:
        """Return notes on rounding, and the conditions of the statements on mini-batches."""
        drawn, n = self.predictor.drawn, self.variant.train_samples
        if n > 1 and not self.predictor.can_predict(Variant.of(1, n)):
            directions = len(self.predictor.loss.eigenvalues)
            notes = [f"Mini-batches: no prediction, because these data vary in too many directions ({directions:,})."]
        elif self.predictor.knows_the_order:
            notes = [
                "Mini-batches: epochs, floor, verdict and best lr are exact for the sequential order; largest stable "
                "lr is that for samples drawn with replacement.",
            ]
        elif self.order == "with_replacement":
            notes = ["Mini-batches: expected values, for samples drawn with replacement."]
        else:
            lower = "; shuffled samples have a lower floor" if self.order == "shuffled" else ""
            notes = [f"Mini-batches: expected values, as if drawn with replacement{lower}."]
        if self.digits:
            where = "minimum with weight decay" if self.predictor.loss.weight_decay else "least-squares solution"
            shown = "; ".join(f"{_shown(by_name)} in {precision}" for precision, by_name in self.digits.items())
            notes = [
                f"digits   correct digits of the {where} at the end of a batch run, limited by rounding:",
                f"         {shown}",
                *notes,
            ]
        if len(self.rows) > 1 and drawn.is_thinned:
            notes.append(
                f"Mini-batches: estimated from {len(drawn.rows):,} of the {drawn.n_samples:,} training samples."
            )
        return notes


def _shown(digits: Mapping[str, float]) -> str:
    """Return the parameters with their numbers of digits; if there are many, only the one with the fewest."""
    if len(digits) <= _SHOWN_PARAMETERS:
        return ", ".join(f"{name} {max(0.0, value):.0f}" for name, value in digits.items())
    worst = min(digits, key=digits.__getitem__)
    return f"{worst} {max(0.0, digits[worst]):.0f}, the fewest of {len(digits)} parameters,"
