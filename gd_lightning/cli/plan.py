"""``plan``: what the options of a run will come to, said before it is trained."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from gd_lightning.affine import parameter_names
from gd_lightning.data import RegressionDataModule
from gd_lightning.errors import InputError
from gd_lightning.models import LinearRegressor
from gd_lightning.module import RegressionModule
from gd_lightning.theory import LinearLoss, Outlook, Outlooks, Rounding, Verdict
from gd_lightning.tracking.summary import aligned
from gd_lightning.variants import BatchSize, Variant

_FEW = (10, 100)  # mini-batches that are shown beside the configured one, where they are smaller than the training set
_SAFE = 0.8  # of a limit: an advice that is not on the edge
_SHOWN_PARAMETERS = 12
_ENOUGH = 10_000  # samples that the digits are estimated from


class PlanOptions:
    """Where the subcommand's own options are found; there is no Trainer."""

    def plan(self, json: bool = False) -> None:
        """Say before training which learning rates are stable for which batch sizes, and how far they lead.

        Args:
            json: Print JSON for programs instead of a table.
        """


def plan(module: RegressionModule, data: RegressionDataModule, max_epochs: float) -> Plan:
    """Make a plan.

    Args:
        module: With the learning rate that is asked about; its network is made for the data.
        data: With the batch size that is asked about.
        max_epochs: How many epochs the run would have.

    Raises:
        InputError: Nothing can be said of these options.
    """
    module.configure_for(data)
    network = _quadratic(module)
    layer, (x, y), start = module.standardize, (data.train.x, data.train.y), network.affine()
    outlooks = Outlooks(
        LinearLoss.of(x if layer is None else layer(x), y, bias=start.bias is not None),
        start,
        max_epochs,
        momentum=module.hparams["momentum"],
        sequential=data.order == "sequential",
        drop_last=data.drop_last,
        nesterov=module.hparams["nesterov"],
    )
    rows = [outlooks.of(size, module.hparams["lr"]) for size in _batch_sizes(data.variant)]
    return Plan(outlooks, data.variant, rows, data.order, _digits(module, data, outlooks, rows[0]))


def _digits(
    module: RegressionModule, data: RegressionDataModule, outlooks: Outlooks, batch: Outlook
) -> dict[str, dict[str, float]]:
    """Return how many digits of each parameter rounding leaves batch gradient descent, by precision and name."""
    lr, samples = batch.lr if batch.verdict is not Verdict.DIVERGES else batch.best_lr, data.train_in(torch.float64)
    rows = torch.linspace(0, len(samples) - 1, min(len(samples), _ENOUGH)).long()
    momentum = (outlooks.momentum, outlooks.nesterov)
    rounding = Rounding(outlooks.loss, *samples.take(rows), lr, *momentum, layer=module.standardize)
    has_bias = outlooks.start.bias is not None or module.standardize is not None
    features, targets = data.problem.feature_names, data.problem.target_names
    names = parameter_names(data.in_features, data.out_features, has_bias, features, targets)
    return {
        name: dict(zip(names, (round(digits, 1) for digits in rounding.digits(dtype).tolist()), strict=True))
        for name, dtype in (("float32", torch.float32), ("float64", torch.float64))
    }


def _quadratic(module: RegressionModule) -> LinearRegressor:
    """Return the network, where the loss of the module is quadratic in its parameters, and descended by SGD."""
    options = module.hparams
    reasons = {
        f"the network {type(module.network).__name__}": not isinstance(module.network, LinearRegressor),
        f"model.loss {options['loss']}": options["loss"] != "mse",
        "another optimizer than SGD": options["optimizer"],
        "an lr_scheduler": options["lr_scheduler"],
        "model.weight_decay": options["weight_decay"],
        "model.l1": options["l1"],
    }
    for what, is_given in reasons.items():
        if is_given:
            raise InputError(
                f"cannot plan for {what}, because the statements hold for a linear regressor, the mean squared error "
                "and SGD; leave it out"
            )
    if options["momentum"] >= 1:
        raise InputError(
            f"cannot plan for model.momentum {options['momentum']:g}, because no velocity fades; use one below 1"
        )
    assert isinstance(module.network, LinearRegressor)
    return module.network


def _batch_sizes(configured: Variant) -> Iterator[BatchSize]:
    n = configured.train_samples
    yield "full"
    yield from sorted({configured.batch_size, *_FEW} & set(range(2, n)), reverse=True)
    if n > 1:
        yield 1


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is said of a run and of its neighbours with other batch sizes.

    Args:
        outlooks: Where the statements come from.
        variant: The configured batches.
        rows: One outlook a batch size, among them the configured one.
        order: The configured order of samples.
        digits: How many digits of each parameter rounding leaves batch gradient descent, by precision and name.
    """

    outlooks: Outlooks
    variant: Variant
    rows: list[Outlook]
    order: str
    digits: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)

    @property
    def configured(self) -> Outlook:
        """The row of the options as they are."""
        return next(row for row in self.rows if row.variant.batch_size == self.variant.batch_size)

    def as_json(self) -> str:
        """Return it for programs; null stands for infinity."""
        loss = self.outlooks.loss
        content = {
            "irreducible_loss": loss.irreducible,
            "lambda_min": loss.lambda_min,
            "lambda_max": loss.lambda_max,
            "condition_number": loss.condition_number,
            "target_excess": self.outlooks.target,
            "order": self.order,
            "digits": self.digits,
            "rows": [_as_dict(row, row is self.configured) for row in self.rows],
            "advice": self.advice(),
        }
        return json.dumps(content, indent=2, allow_nan=False)

    def table(self, title: str) -> str:
        """Return it for a terminal."""
        loss = self.outlooks.loss
        header = ["", "batch_size", "updates an epoch", "largest stable lr", "best lr", "lr"]
        header += ["epochs", "floor", "verdict"]
        cells = [header, *(_cells(row, row is self.configured) for row in self.rows)]
        lines = [
            f"{title}: {loss.n_samples} training samples, Hessian's eigenvalues {loss.lambda_min:.6g} to "
            f"{loss.lambda_max:.6g} (condition number {loss.condition_number:.4g}), irreducible loss "
            f"{loss.irreducible:.6g}",
            "",
            aligned(cells),
            "",
            f"epochs  until the train loss is {self.outlooks.target:.3g} above the irreducible loss",
            "floor   how far above it the noise of the batches keeps the train loss",
            *self._notes(),
            "",
            self.advice(),
        ]
        return "\n".join(lines)

    def _notes(self) -> list[str]:
        """Say what rounding leaves, and what the statements on mini-batches hold for."""
        notes = {
            "with_replacement": ["Mini-batches: expected values, for samples drawn with replacement."],
            "shuffled": [
                "Mini-batches: expected values, as if drawn with replacement; shuffled samples leave a lower floor."
            ],
            "sequential": [
                "Mini-batches: epochs, floor and verdict are exact for the sequential order; the two columns of lr are",
                "those for samples drawn with replacement.",
            ],
        }[self.order]
        if self.digits:
            shown = "; ".join(f"{_shown(by_name)} in {precision}" for precision, by_name in self.digits.items())
            notes = [
                "digits  of the least squares that rounding leaves a batch run, in the end:",
                f"        {shown}",
                *notes,
            ]
        rows, n = self.outlooks.drawn.n_samples, self.outlooks.loss.n_samples
        if rows < n:
            notes.append(f"Mini-batches: estimated from {rows:,} of the {n:,} training samples.")
        return notes

    def advice(self) -> str:
        """Return one sentence that says what to do."""
        row, batch = self.configured, f"batch_size {self.variant.batch_size}"
        if row.verdict is Verdict.DIVERGES:
            cure = f"use lr {_rounded(min(row.best_lr, _SAFE * row.largest_stable_lr))}"
            if row.lr < row.largest_stable_lr:
                return (
                    f"lr {row.lr:g} is too large for the sequential order: an error can grow {row.growth:.2g} times "
                    f"within an epoch; {cure}."
                )
            larger = self.outlooks.smallest_stable_batch_size(row.lr)
            cure += f" or batch_size {larger}" if larger is not None else ""
            limit = f"{row.largest_stable_lr:.4g}, the limit for {batch} on these data"
            return f"lr {row.lr:g} is above {limit}; {cure}."
        if row.verdict is Verdict.REACHES_ITS_FLOOR:
            smaller = _rounded(row.lr * self.outlooks.target / row.floor)
            return (
                f"With {batch}, lr {row.lr:g} ends {row.floor:.2g} above the irreducible loss, more than the target of "
                f"{self.outlooks.target:.2g}; use lr {smaller} for more epochs, let it fall, or take larger batches."
            )
        if row.verdict is Verdict.SLOW:
            # The noise grows with the learning rate: where the floor would pass the target, more is not faster.
            quiet = math.inf if row.floor == 0 else _SAFE * row.lr * self.outlooks.target / row.floor
            faster = min(row.best_lr, quiet)
            cure = f", or lr {_rounded(faster)}" if faster > row.lr / _SAFE else ""
            takes = f"lr {row.lr:g} takes {_epochs(row)} epochs, and the run has {self.outlooks.max_epochs:g}"
            return f"With {batch}, {takes}; use more epochs{cure}."
        return f"With {batch}, lr {row.lr:g} is there after {_epochs(row)} epochs: train."


def _cells(row: Outlook, is_configured: bool) -> list[str]:
    return [
        f"{'> ' if is_configured else ''}{row.variant.name}",
        str(row.variant.batch_size),
        str(row.variant.updates_per_epoch),
        f"{row.largest_stable_lr:.4g}",
        f"{row.best_lr:.3g}",
        f"{row.lr:g}",
        _epochs(row),
        "" if row.floor == math.inf else f"{row.floor:.3g}",
        str(row.verdict),
    ]


def _shown(digits: Mapping[str, float]) -> str:
    """Write about how many digits the parameters have; of many, the one with the fewest."""
    if len(digits) <= _SHOWN_PARAMETERS:
        return ", ".join(f"{name} {value:.0f}" for name, value in digits.items())
    worst = min(digits, key=digits.__getitem__)
    return f"{worst} {digits[worst]:.0f}, the fewest of {len(digits)} parameters,"


def _epochs(row: Outlook) -> str:
    if row.epochs < math.inf:
        return f"{row.epochs:,.0f}"
    return "more than 10,000" if row.verdict is Verdict.SLOW else "never"


def _as_dict(row: Outlook, is_configured: bool) -> dict[str, Any]:
    values = {
        "variant": row.variant.name,
        "batch_size": row.variant.batch_size,
        "configured": is_configured,
        "updates_per_epoch": row.variant.updates_per_epoch,
        "largest_stable_lr": row.largest_stable_lr,
        "best_lr": row.best_lr,
        "lr": row.lr,
        "epochs": row.epochs,
        "floor": row.floor,
        "verdict": str(row.verdict),
        "growth_within_epoch": row.growth,
    }
    return {name: None if value in (math.inf, -math.inf) else value for name, value in values.items()}


def _rounded(lr: float) -> str:
    """Write a learning rate with two digits, rounded down: an advice may not pass a limit."""
    digit = 10 ** (math.floor(math.log10(lr)) - 1)
    return f"{math.floor(lr / digit + 1e-9) * digit:.2g}"
