"""``plan`` for losses that are not quadratic: statements that hold only locally, at the start."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from matplotlib.figure import Figure

from gd_lightning.data import RegressionDataModule
from gd_lightning.data.samples import Samples
from gd_lightning.errors import InputError, StartError
from gd_lightning.experiments.lr_trial import Trial, Tried
from gd_lightning.experiments.plans.report import PlanForm
from gd_lightning.losses import forms_of
from gd_lightning.measures import mean_loss_over, unchanged
from gd_lightning.module import (
    RegressionModule,
    has_least_squares,
    is_squared_error,
    predicting_part,
    standardized_module,
    trained_loss_of,
)
from gd_lightning.theory import LocalCurvature, LocalOutcome, LocalVerdict, NetworkLoss, drawn_evenly
from gd_lightning.theory.advice import MUCH, SAFE, STANDARDIZE, rounded
from gd_lightning.update_rule import UpdateRule
from gd_lightning.variants import BatchSize, Variant

Begins = Callable[[str], object]
_FEWEST = 1000  # the smallest number of samples, however many parameters there are
_NUMBERS_OF_JACOBIANS = 10**7  # largest product of samples and parameters whose gradients are computed
_HOPELESS = 1e4  # ratio of the limits with and without standardised features from which only the first is advised
_FAR = 4  # factor by which lr must differ from the best one to be mentioned
_AT_ONCE = 2**18  # outputs of the widest layer that are computed at a time
_JACOBIANS_AT_ONCE = 2**20  # entries of Jacobians that are computed at a time


def local_plan(
    module: RegressionModule, data: RegressionDataModule, sizes: Iterable[BatchSize], begins: Begins = lambda _: None
) -> LocalPlan:
    """Make a plan for the start of a run, also on standardised features if these may help.

    Args:
        module: The module with its network and the configured learning rate.
        data: The data with the configured batch size.
        sizes: The batch sizes to show, largest first, including the configured one.
        begins: Called with the name of each part before it is computed.

    Raises:
        InputError: No plan can be made with these options.
    """
    sizes = list(sizes)
    # The limit of larger batches tells where to look for that of smaller ones.
    needed = sizes[
        : [Variant.of(size, len(data.train)).batch_size for size in sizes].index(data.variant.batch_size) + 1
    ]
    try:
        made = _plan_as_it_is(module, data, sizes, begins)
    except StartError as error:
        cure = _standardized(module, data, needed, begins)
        if cure is None:
            raise
        raise InputError(f"cannot plan from this start, because {error.cause}; use {cure.options()}") from error
    if made.curvature.has_limit:
        cure = _standardized(module, data, needed, begins)
        if cure is not None and cure.limit >= MUCH * made.configured.limit:
            return dataclasses.replace(made, standardized=cure)
    return made


@dataclasses.dataclass(frozen=True)
class Standardized:
    """The start of the same run on standardised features.

    Args:
        limit: The local limit of the learning rate for the configured batches.
        lr: The advised learning rate.
    """

    limit: float
    lr: str

    def options(self, instead: float | None = None) -> str:
        """Return the advice with the limit that then holds, and the present limit for comparison."""
        other = "" if instead is None else f" instead of {instead:.4g}"
        return f"{STANDARDIZE} and lr {self.lr}, since the limit is then {self.limit:.4g}{other}"


def _standardized(
    module: RegressionModule, data: RegressionDataModule, sizes: list[BatchSize], begins: Begins
) -> Standardized | None:
    """Plan on standardised samples; None if they already are, if little would change, or if no plan can be made."""
    if module.standardize is not None and module.standardize_targets is not None:
        return None
    centred = bool(module.hparams["bias"])
    other = data.standardized()
    layers = other.standardization(centred), other.standardization_of_targets(centred)
    assert layers[0] is not None
    assert layers[1] is not None
    if max(layer.largest_gain for layer in layers if layer is not None) < MUCH:
        return None
    try:
        made = _plan_as_it_is(standardized_module(module, (layers[0], layers[1]), data.problem), other, sizes, begins)
    except StartError:
        return None
    row = made.configured
    return None if row.limit == math.inf else Standardized(row.limit, rounded(made.safe_lr))


def _plan_as_it_is(
    module: RegressionModule, data: RegressionDataModule, sizes: list[BatchSize], begins: Begins
) -> LocalPlan:
    """Make a plan for the start, on unchanged features."""
    begins("curvature at the start")
    options, network = module.hparams, module.network
    assert network is not None
    if obstacle := module.needs_whole_batches:
        raise InputError(f"cannot plan for this network, because {obstacle}; leave it out")
    shapes = [parameter.shape for parameter in network.parameters()]
    widest = max([data.in_features, data.out_features, *(size for shape in shapes for size in shape)])
    taken = _thinned(data.train, max(_FEWEST, LocalPlan.most_numbers // max(1, sum(shape.numel() for shape in shapes))))
    loss = NetworkLoss(
        predicting_part(module),
        trained_loss_of(module),
        lambda: taken.pieces(max(1, _AT_ONCE // widest)),
    )
    drawn = _thinned(taken, max(1, min(LocalPlan.most_jacobians, _NUMBERS_OF_JACOBIANS // loss.n_parameters)))
    trial = Trial(module, taken, data.order, data.seed, data.drop_last)
    at_once = max(1, _JACOBIANS_AT_ONCE // loss.n_parameters)
    curvature = LocalCurvature.of(
        loss,
        drawn.pieces(at_once),
        UpdateRule.of(options),
        taken.subset(trial.hardest).pieces(at_once) if len(drawn) < len(taken) else (),
    )
    variants = [Variant.of(size, len(data.train), data.drop_last) for size in sizes]
    if has_least_squares(module) or not curvature.has_limit:
        rows, tried = [curvature.outcome(variant, options["lr"]) for variant in variants], None
    else:
        rows, tried = _try(trial, curvature, variants, begins)
    train_loss = curvature.loss
    if module.standardize_targets is not None:
        with unchanged(module, taken.device):
            train_loss = mean_loss_over(taken.pieces(), module, module.measured_loss)
    title, samples = type(data.problem).__name__, (len(taken), len(drawn))
    return LocalPlan(title, curvature, data.variant, rows, samples, _notes(module), train_loss, tried)


def _try(
    trial: Trial, curvature: LocalCurvature, variants: Iterable[Variant], begins: Begins
) -> tuple[list[LocalOutcome], list[Tried]]:
    """Return the local outcomes of variants, largest batches first, and the trials that they are based on."""
    options, rows, tried = trial.module.hparams, [], []
    guess, at_most, grows = curvature.limit(Variant.of("full", 1)), math.inf, math.inf
    for variant in variants:
        begins(f"trial of batch_size {variant.batch_size}")
        found, limit = trial.at(variant.batch_size, guess), curvature.limit(variant)
        if not is_squared_error(trial.module):
            at_most = min(at_most, limit)  # the gradient is bounded, so parameters can move far without diverging
        row = LocalOutcome.tried(variant, options["lr"], limit, found.diverging_lr, at_most)
        if variant.name == "batch" and row.limit == limit:
            grows = limit
        rows.append(dataclasses.replace(row, verdict=LocalVerdict.UNSTABLE) if options["lr"] >= grows else row)
        tried.append(found)
        at_most = row.limit  # a smaller batch is not more stable
        guess = guess if found.diverging_lr == math.inf else found.diverging_lr
    return rows, tried


def _thinned(samples: Samples, most: int) -> Samples:
    """Return all samples, or an evenly spaced subset if there are more than ``most``."""
    rows = drawn_evenly(len(samples), most)
    return samples if rows is None else samples.subset(rows)


def _notes(module: RegressionModule) -> list[str]:
    """Return notes on how the options affect the statements."""
    options, notes = module.hparams, []
    quadratic = has_least_squares(module)
    if quadratic:
        notes.append(
            "The Hessian of a linear regressor with the squared error is the same everywhere, so the row of the full "
            "batch holds for the whole run."
        )
    notes += filter(None, [forms_of(options["loss"]).curvature])
    if options["weight_decay"]:
        notes.append("weight_decay is part of sharpness and beta.")
    if options["l1"]:
        notes.append("l1 has no curvature, and is left out." if quadratic else "l1 is left out of the curvature.")
    if options["dropout"]:
        notes.append("dropout is left out of the curvature; its noise makes large learning rates less stable.")
    return notes


@dataclasses.dataclass(frozen=True, repr=False)
class LocalPlan(PlanForm[LocalOutcome]):
    """A plan that holds at the start of a run, for the configured batch size and others.

    Args:
        title: Title of the plan.
        curvature: The curvature that the statements are derived from.
        variant: The configured batches.
        rows: One predicted outcome per batch size, including the configured one.
        samples: Numbers of samples used for the sharpness, and for statements on single samples.
        notes: Sentences on how options affect the statements.
        train_loss: Train loss at the start, in the units of the targets.
        tried: Results of the trial for each row; None without a trial.
        standardized: The statements on standardised features, if the limit is far higher there; else None.
    """

    # A product with the Hessian takes some N P multiplications, and a sharpness some dozen products. Where that would
    # take minutes, samples are drawn: of 100,000, 5,000 gave the sharpness of a 10-64-64-1 network to six thousandths.
    most_numbers: ClassVar[int] = 5 * 10**7
    """The largest product of samples and parameters from which the train loss and the sharpness are computed."""
    most_jacobians: ClassVar[int] = 4096
    """The largest number of samples whose single gradients are computed."""

    title: str
    curvature: LocalCurvature
    variant: Variant
    rows: list[LocalOutcome]
    samples: tuple[int, int]
    notes: list[str]
    train_loss: float
    tried: list[Tried] | None = None
    standardized: Standardized | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """The values of the plan for programs, without the rows and the advice."""
        found, better = self.curvature, self.standardized
        names = ("best_lr", "samples", "updates")
        trials = [
            {"batch_size": row.variant.batch_size, **{name: getattr(tried, name) for name in names}}
            for row, tried in zip(self.rows, self.tried or [], strict=self.tried is not None)
        ]
        return {
            "local": True,
            "train_loss": self.train_loss,
            "gradient_norm": found.gradient_norm,
            "sharpness": found.sharpness,
            "largest_sample_curvature": found.sample_curvature,
            "gradient_noise_scale": found.noise_scale,
            "critical_batch_size": found.bounds.critical_batch_size if found.has_limit else None,
            "samples_of_sharpness": self.samples[0],
            "samples_of_noise": self.samples[1],
            "trial": None if self.tried is None else trials,
            "notes": self.notes,
            "standardized": None if better is None else {"local_limit_lr": better.limit, "lr": float(better.lr)},
        }

    def facts_of(self, row: LocalOutcome) -> dict[str, Any]:
        """Return the values of a row for programs."""
        return {
            "local_limit_lr": row.limit,
            "half_of_limit_lr": row.half,
            "curvature_limit_lr": row.curvature_limit,
            "diverging_lr": row.diverging,
            "lr": row.lr,
        }

    @property
    def headline(self) -> str:
        """One line that describes the training set."""
        found = self.curvature
        return (
            f"{self.variant.train_samples} training samples; local statements, at the start: train loss "
            f"{self.train_loss:.6g}, sharpness {found.sharpness:.6g}, beta {found.sample_curvature:.6g}, noise scale "
            f"{found.noise_scale:.4g}"
        )

    @property
    def columns(self) -> dict[str, list[str]]:
        """The columns of the table."""
        if self.tried is None:
            found = {"half of it": ["" if row.limit == math.inf else f"{row.half:.3g}" for row in self.rows]}
        else:
            found = {
                "diverged": [_or_none(tried.diverging_lr, 3) for tried in self.tried],
                "lowest loss": [_or_none(tried.best_lr, 3) for tried in self.tried],
            }
        limits = [_or_none(row.limit, 4) for row in self.rows]
        return {"local limit of lr": limits, **found, "lr": [f"{row.lr:g}" for row in self.rows]}

    @property
    def explanations(self) -> list[str]:
        """The meaning of the columns, and the conditions of the statements, as lines."""
        return [
            "sharpness    largest eigenvalue of the Hessian of the train loss; beta is that of a single sample's loss",
            *self._limits(),
            "noise scale  of the gradient, in samples: far below it larger batches save updates, far above hardly any",
            "The limit moves with the parameters. Above it a run may diverge, or settle where the loss is flatter.",
            *self._mini_batches(),
            *self._estimates(),
            *self.notes,
        ]

    def _limits(self) -> list[str]:
        """Return explanations of the columns of learning rates."""
        plain = ", without momentum" if self.curvature.rule.momentum else ""
        if self.tried is None:
            return [
                "local limit  below it, errors do not grow as long as the curvature is that of the start",
                f"half of it   shrinks the error in the sharpest direction fastest{plain}",
            ]
        return [
            "local limit  below it a run does not diverge: the limit by curvature at the start if a trial confirms it,",
            "             else 0.4 of the smallest lr that diverged in the trial",
            "diverged     the smallest lr that diverged in the trial, which is a run of some updates from this start",
            "lowest loss  the lr with the lowest final train loss in the trial",
        ]

    def _mini_batches(self) -> list[str]:
        """Return the conditions of the statements on mini-batches."""
        if self.tried is not None:
            updates = ", ".join(f"{tried.updates:,}" for tried in self.tried)
            return [
                f"Each lr was tried for {updates} updates in the rows of the table; longer runs may behave differently."
            ]
        if not self.curvature.has_limit or len(self.rows) == 1:
            return []
        bound = "that of theory.Interpolation" if self.curvature.rule.momentum else "2 B / (beta + (B - 1) sharpness)"
        return [f"Mini-batches: a guide, {bound}, as if drawn with replacement; a larger lr can be stable, too."]

    def _estimates(self) -> list[str]:
        """Return a note on the values that are estimated from a part of the samples."""
        n, (of_sharpness, of_noise) = self.variant.train_samples, self.samples
        estimated = [("train loss and sharpness", of_sharpness), ("beta and noise scale", of_noise)]
        for row, tried in zip(self.rows, self.tried or [], strict=False):
            estimated.append((f"the diverging lr at batch_size {row.variant.batch_size}", tried.samples))
        return [
            f"Estimated from {count:,} of the {n:,} training samples: {what}." for what, count in estimated if count < n
        ]

    @property
    def why_no_map(self) -> str:
        """The reason why there is no map of outcomes."""
        return "the statements hold only at the start"

    def plot(self) -> Figure:
        """Refuse to draw a map.

        Raises:
            InputError: There is no map.
        """
        raise InputError(
            f"cannot draw a map of outcomes, because {self.why_no_map}; use to_dict(), or sweep to train many settings"
        )

    @property
    def advice(self) -> str:
        """One sentence that says what to do."""
        row, batch = self.configured, f"batch_size {self.variant.batch_size}"
        if row.verdict is LocalVerdict.NO_LIMIT:
            return (
                "No local limit exists, because the train loss has no positive curvature at the start; train with "
                "a small lr, and watch the first epochs."
            )
        cure = "" if self.standardized is None else f"use {self.standardized.options(row.limit)}"
        is_all = self.standardized is not None and self.standardized.limit >= _HOPELESS * row.limit
        if row.verdict is LocalVerdict.STABLE:
            far = row.lr > _FAR * self._best_lr or row.lr * _FAR < self._best_lr < math.inf
            lowest = (
                f" In a trial, the final train loss was lowest at lr {min(self._best_lr, row.limit):.2g}."
                if far
                else ""
            )
            watch = f"train, and watch the loss, because the limit moves.{lowest}"
            rest = f"{cure}." if is_all else f"{cure}, or {watch}" if cure else watch
            joint = ";" if cure else ":"
            return f"lr {row.lr:g} is below {row.limit:.4g}, the local limit for {batch} at the start{joint} {rest}"
        safe = f"lr {rounded(self.safe_lr)}"
        safe += f" or batch_size {larger}" if (larger := self._stable_batch_size()) is not None else ""
        safe = f"{cure}, or {safe}" if cure else f"use {safe}"
        is_guide = self._trial is None and row.verdict is LocalVerdict.PERHAPS_UNSTABLE
        rest = f"{safe}{'' if is_guide else ' to be stable here'}, or watch the first epochs"
        return f"lr {row.lr:g} is above {self._complaint()}; {cure if is_all else rest}."

    def _complaint(self) -> str:
        """Return which limit the learning rate is above, and the consequence."""
        row, tried, batch = self.configured, self._trial, f"batch_size {self.variant.batch_size}"
        if tried is not None and (row.lr >= tried.diverging_lr or row.verdict is LocalVerdict.PERHAPS_UNSTABLE):
            too_large = "is too large" if row.verdict is LocalVerdict.UNSTABLE else "may be too large"
            diverged = f": lr {tried.diverging_lr:.3g} diverged in a trial" if tried.diverging_lr < math.inf else ""
            return f"{row.limit:.4g}, the local limit for {batch} at the start, and {too_large}{diverged}"
        if row.verdict is LocalVerdict.PERHAPS_UNSTABLE:
            return f"{row.limit:.4g}, the local guide for {batch} at the start, and may be too large for its noise"
        return (
            f"{self.rows[0].limit:.4g}, the local limit for all samples at the start: the run may diverge, or settle "
            "where the loss is flatter"
        )

    @property
    def safe_lr(self) -> float:
        """A learning rate well below the limit of the configured batches, at which the train loss fell in a trial."""
        return min(SAFE * self.configured.limit, self._best_lr)

    @property
    def _trial(self) -> Tried | None:
        return None if self.tried is None else self.tried[self.rows.index(self.configured)]

    @property
    def _best_lr(self) -> float:
        return math.inf if self._trial is None or self._trial.best_lr is None else self._trial.best_lr

    def _stable_batch_size(self) -> int | None:
        """Return the smallest batch size whose limit is known to be above the learning rate."""
        if self.tried is None:
            return self.curvature.smallest_stable_batch_size(self.configured.lr, self.variant)
        stable = [row.variant.batch_size for row in self.rows if row.verdict is LocalVerdict.STABLE]
        return min((size for size in stable if size > self.variant.batch_size), default=None)


def _or_none(value: float | None, digits: int) -> str:
    return "none" if value in (None, math.inf) else f"{value:.{digits}g}"
