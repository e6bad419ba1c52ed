"""The results of a run, for programs (``summary.json``), for the terminal and for TensorBoard's Text tab."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from gd_lightning.escaping import in_one_line
from gd_lightning.records.history import BY_UPDATE, LEADING_COLUMNS, PREDICTED, History, Outcome
from gd_lightning.tracking.longer_training import longer_training
from gd_lightning.tracking.schema import VERSION
from gd_lightning.variants import Variant
from gd_lightning.versions import versions

Parameters = dict[str, float]
_ROSE = 1.2  # ratio of the last train loss to the first one, or to that of the best constant, above which it has risen
_RISE = "the train loss ended above its start; use a smaller lr"
_SUCH = ', such as --model.lr best (in Python lr="best"), or one that plan shows for the same options'
FINAL = "final_"
"""Prefix of columns measured at weights that a callback has set at the end of training."""


@dataclass(frozen=True)
class BestCheckpoint:
    """The checkpoint with the best monitored value of a run.

    Args:
        path: The checkpoint file, relative to the directory of the run if it is inside.
        monitor: The monitored quantity, such as val_loss.
        value: The best value, at the weights of this checkpoint.
        epoch: Epochs before it was written, with a fraction within an epoch.
        update: Optimiser steps before it was written.
    """

    path: str
    monitor: str
    value: float
    epoch: float
    update: int

    def __str__(self) -> str:
        return f"{self.monitor} {number(self.value)} after epoch {self.epoch:g}, in {self.path}"


@dataclass
class RunSummary:
    """A run in twenty lines; the attributes, and the versions of schema and program, are the keys of ``summary.json``.

    Args:
        variant: batch, mini-batch or stochastic; None, like the next two, for data without a length.
        batch_size: Samples per update.
        train_samples: N.
        updates: Optimiser steps.
        epochs: Epochs, with a fraction if the run ended within one.
        samples: Training samples processed.
        seconds: Seconds of training, without measurements.
        train_loss_first: Train loss before the first update.
        train_loss_last: Train loss at the final weights, those of ``parameters``.
        outcome: completed, converged, stopped, diverged or interrupted.
        reason: The reason for the end, in words.
        parameters: Final parameters of a linear regressor by name, in original units; else None.
        least_squares: The parameters with the smallest train loss, by name, in original units; else None.
        truth: The true parameters, if the problem knows them.
        engine: The engine of the updates: autograd or fused.
        engine_reason: The reason why the fused engine was not used; "" if it was.
        least_squares_loss: The smallest train loss that a linear regressor can reach.
        constant_loss: The train loss of the best constant prediction, where R2 is 0; known if the least-squares loss
            is.
        irreducible_loss: The variance of the noise, if the problem knows it.
        measures: Final values of everything else that was measured, such as val_loss.
        description: The variant in words, with the sizes of its batches.
        prediction: The prediction of theory before the run, in words; "" without one.
        largest_stable_lr: The limit of the learning rate by theory; None without one.
        predicted_floor: The predicted final train loss minus the least-squares loss; ``inf`` if divergence is
            predicted.
        train_loss_predicted: The predicted train loss at the end of the run; None without a prediction.
        averaged_loss_predicted: The predicted train loss of the average that ``WeightAveraging`` ends with after all
            epochs; None without one, or if the run ended before.
        measured_at: The update after which a value was measured, for values that do not belong to the last update.
        weights: Description of the final weights, such as "averaged by StochasticWeightAveraging"; "" for those of the
            last update.
        undetermined: Names of the parameters that the training data do not determine, since others make the same
            predictions.
        features: Names of the features; None without names.
        targets: Names of the targets; None without names.
        best_checkpoint: The best checkpoint that ``ModelCheckpoint`` has kept; None without one.
        advice: Advice for a train loss that ended above its start, or of a run without a prediction that still
            fell at the end; "" if it did neither, or if the run diverged.
    """

    variant: str | None
    batch_size: int | None
    train_samples: int | None
    updates: int
    epochs: float
    samples: int
    seconds: float
    train_loss_first: float | None
    train_loss_last: float | None
    outcome: str
    reason: str
    parameters: Parameters | None
    least_squares: Parameters | None
    truth: Parameters | None
    engine: str
    engine_reason: str = ""
    least_squares_loss: float | None = None
    constant_loss: float | None = None
    irreducible_loss: float | None = None
    measures: dict[str, float] = field(default_factory=dict)
    description: str = "gradient descent"
    prediction: str = ""
    largest_stable_lr: float | None = None
    predicted_floor: float | None = None
    train_loss_predicted: float | None = None
    averaged_loss_predicted: float | None = None
    measured_at: dict[str, int] = field(default_factory=dict)
    weights: str = ""
    undetermined: list[str] = field(default_factory=list)
    features: list[str] | None = None
    targets: list[str] | None = None
    best_checkpoint: BestCheckpoint | None = None
    advice: str = ""

    def __post_init__(self) -> None:
        """Compare the last train loss with the first one."""
        first, last = self.train_loss_first, self.train_loss_last
        if first is None or last is None or self.outcome == Outcome.DIVERGED:
            return
        # If a run starts at an optimum, the noise of its batches keeps the loss above it, but below that of a constant.
        if last > _ROSE * max(first, self.constant_loss or 0.0):
            self.advice = _RISE + _SUCH * (self.largest_stable_lr is not None)

    def as_dict(self) -> dict[str, object]:
        """Return the content of ``summary.json``."""
        return {"schema": VERSION, "versions": versions(), **asdict(self)}


def summarize(
    history: History, variant: Variant | None, weights: str = "", said: Mapping[str, Any] | None = None, **known: Any
) -> RunSummary:
    """Return the summary of a run from its history, its prediction, and facts about the problem.

    If a callback has replaced the weights at the end of training, the results are those at these weights, from the
    columns ``final_...`` of the history.

    Args:
        history: The history of the run.
        variant: The batches of the run; None for data without a length.
        weights: See :class:`RunSummary`.
        said: Fields of the summary that were predicted.
        known: Other fields of the summary, such as ``parameters`` and ``truth``.
    """
    special = {PREDICTED, BY_UPDATE, *(known.get("parameters") or {})}
    last, measures, earlier = _measured(history, bool(weights), special)
    summary = RunSummary(
        **_of_variant(variant),
        updates=int(history.last("update")),
        epochs=history.last("epoch"),
        samples=int(history.last("samples")),
        seconds=history.last("seconds"),
        train_loss_first=history.first("train_loss") if "train_loss" in history else None,
        train_loss_last=last,
        outcome=str(history.outcome),
        reason=history.reason,
        measures=measures,
        train_loss_predicted=history.in_last_row(PREDICTED),
        measured_at={name: int(history.series(name)[0][-1]) for name in earlier},
        weights=weights,
        **{"parameters": None, "least_squares": None, "truth": None, "engine": "autograd", **known},
        **(said or {}),
    )
    if not (summary.advice or summary.prediction):  # the prediction says when a run will have converged
        summary.advice = longer_training(history)
    return summary


def _of_variant(variant: Variant | None) -> dict[str, Any]:
    if variant is None:
        return dict.fromkeys(("variant", "batch_size", "train_samples"))
    sizes = {"batch_size": variant.batch_size, "train_samples": variant.train_samples}
    return {"variant": variant.name, **sizes, "description": str(variant)}


def _measured(
    history: History, is_replaced: bool, special: set[str]
) -> tuple[float | None, dict[str, float], list[str]]:
    """Return the last train loss, the last values of other measures, and which of them belong to earlier weights."""
    special |= set(LEADING_COLUMNS)
    names = [name for name in history.columns if name in history and name not in special and name[:5] != "grad_"]
    values = {name: history.last(name) for name in names}
    train_loss = history.last("train_loss") if "train_loss" in history else None
    final = {name.removeprefix(FINAL): value for name, value in values.items() if name.startswith(FINAL)}
    if is_replaced and final:
        return final.pop("train_loss", train_loss), final, []
    # After an update that ended no epoch, or no epoch with a validation, some values belong to earlier weights.
    known = [name for name in ("train_loss", *names) if name in history]
    earlier = [name for name in known if history.in_last_row(name) is None]
    return train_loss, {name: value for name, value in values.items() if not name.startswith(FINAL)}, earlier


def number(value: float | None) -> str:
    """Return a number with eight significant digits as text; "" for a missing one."""
    return "" if value is None else f"{value:.8g}"


def aligned(cells: Iterable[Sequence[str]]) -> str:
    """Lay out rows of cells as right-aligned columns, each row in one line."""
    rows = [[in_one_line(cell) for cell in row] for row in cells]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def run_card(summary: RunSummary, title: str) -> str:
    """Return the summary as Markdown."""
    lines = [f"## {title}", "", summary.description, "", "| run | |", "|---|---|"]
    lines += [f"| {label} | {value} |" for label, value in run_facts(summary)]
    if summary.parameters:
        lines += ["", "| parameter | fitted | least squares | truth |", "|---|---|---|---|"]
        lines += [f"| {' | '.join(row)} |" for row in parameter_rows(summary)]
        lines += ["", _not_determined(summary)] if summary.undetermined else []
    return "\n".join(lines)


def run_report(summary: RunSummary, title: str) -> str:
    """Return the summary for a terminal."""
    facts = run_facts(summary)
    width = max(len(label) for label, _ in facts)
    said = [in_one_line(f"{label.ljust(width)}  {value}") for label, value in facts]
    lines = [in_one_line(f"{title} by {summary.description}"), "", *said]
    if summary.parameters:
        header = ["", "fitted", "least squares", "truth"]
        lines += ["", aligned([header, *parameter_rows(summary)])]
        lines += [in_one_line(_not_determined(summary))] if summary.undetermined else []
    return "\n".join(lines)


def run_facts(summary: RunSummary) -> list[tuple[str, str]]:
    """Return the facts about a run, each with its label."""
    per_update = f" ({1e6 * summary.seconds / summary.updates:.3g} microseconds per update)" if summary.updates else ""
    engine = f"{summary.engine}{', because ' * bool(summary.engine_reason)}{summary.engine_reason}"
    facts = [("target", _columns(summary))] if summary.targets and summary.features else []
    facts += [
        ("updates", f"{summary.updates:,} in {summary.epochs:g} epochs, {summary.samples:,} samples"),
        ("training time", f"{summary.seconds:.3g} s{per_update}"),
        ("engine", engine),
        ("train loss", f"{number(summary.train_loss_first)} -> {_with_update(summary, 'train_loss')}"),
    ]
    if summary.least_squares_loss is not None:
        facts[-1] = (facts[-1][0], f"{facts[-1][1]}, least squares {number(summary.least_squares_loss)}")
    if summary.irreducible_loss is not None:
        facts[-1] = (facts[-1][0], f"{facts[-1][1]}, noise {number(summary.irreducible_loss)}")
    if summary.weights:
        facts.append(("weights", summary.weights))
    if summary.best_checkpoint is not None:
        facts.append(("best weights", str(summary.best_checkpoint)))
    if summary.prediction:
        at_the_end = summary.train_loss_predicted if summary.outcome != Outcome.DIVERGED else None
        facts.append(("predicted", "; ".join(filter(None, (number(at_the_end), summary.prediction)))))
    facts += [(name.replace("_", " "), _with_update(summary, name)) for name in summary.measures]
    facts.append(("ended", f"{summary.outcome}: {summary.reason}"))
    return [*facts, ("advice", summary.advice)] if summary.advice else facts


def _columns(summary: RunSummary) -> str:
    """Return which targets are predicted from which features, in words."""
    parts = []
    for names in (summary.targets or [], summary.features or []):
        hidden = len(names) - _SHOWN_PARAMETERS
        parts.append(", ".join(names[:_SHOWN_PARAMETERS]) + (f" and {hidden} more" if hidden > 0 else ""))
    return " from ".join(parts)


def _with_update(summary: RunSummary, name: str) -> str:
    """Return a final value as text, with the update at which it was measured if that is not the last one."""
    value = summary.train_loss_last if name == "train_loss" else summary.measures[name]
    at = summary.measured_at.get(name)
    return number(value) if at is None else f"{number(value)} (after update {at:,})"


_SHOWN_PARAMETERS = 12
_MARK = " (not determined)"


def _not_determined(summary: RunSummary) -> str:
    """Return a sentence on the parameters that the data do not determine."""
    shown = ", ".join(summary.undetermined[:_SHOWN_PARAMETERS]) + ", ..." * (
        len(summary.undetermined) > _SHOWN_PARAMETERS
    )
    return (
        f"The data do not determine {shown}: a feature is constant, or a combination of others, and other values make "
        "the same predictions on them. The least-squares solution shown is the one of smallest norm."
    )


def parameter_rows(summary: RunSummary) -> list[list[str]]:
    """Return the parameters of a linear regressor, each with its name, fitted value, least-squares value and truth."""
    names = list(summary.parameters or {})
    columns = [summary.parameters or {}, summary.least_squares or {}, summary.truth or {}]
    rows = [[name, *(number(column.get(name)) for column in columns)] for name in names[:_SHOWN_PARAMETERS]]
    for row in rows:
        row[2] += _MARK * (row[0] in summary.undetermined)
    hidden = len(names) - len(rows)
    return [*rows, [f"({hidden} more)", "", "", ""]] if hidden else rows
