"""Runs and comparisons in motion: what of their histories and data an animation shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

from lightning.pytorch import LightningModule

from gd_lightning.affine import Affine, parameter_names
from gd_lightning.callbacks.pictures import as_columns
from gd_lightning.data import RegressionDataModule
from gd_lightning.float64 import Moments
from gd_lightning.linear_least_squares import least_squares_over
from gd_lightning.module import RegressionModule, has_least_squares
from gd_lightning.plots.interactive.animation import Animation
from gd_lightning.plots.interactive.animation_content import MOST_TRACKS, Line, LineLoss, SeveralFeatures, Track
from gd_lightning.plots.run_curves import DRAWN_SAMPLES
from gd_lightning.records.history import History
from gd_lightning.tracking.summary import RunSummary

Shown = Line | SeveralFeatures
"""What a linear regressor is fitted to."""

_PREDICTED = 200  # number of samples with several features whose predictions are shown


def animated(
    title: str, runs: Sequence[tuple[str, History]], data: Shown | None, least_squares: float | None
) -> Animation:
    """Return an animation of runs, of the first eight if there are more.

    Args:
        title: The title.
        runs: The name and the history of each run.
        data: The data of linear regressors; None for other models.
        least_squares: The smallest train loss that can be reached, if known.

    Raises:
        InputError: A run has no train loss against samples.
    """
    shown = runs[:MOST_TRACKS]
    tracks = [Track.of(label, history, data) for label, history in shown]
    left_out = f" (the first {len(shown)} of {len(runs)})" if len(shown) < len(runs) else ""
    lengths = {round(history["samples"][-1] / max(history["epoch"][-1], 1e-9)) for _, history in shown}
    per_epoch = lengths.pop() if len(lengths) == 1 else None
    return Animation(f"{title}{left_out}", tracks, data, least_squares, per_epoch)


def animated_run(title: str, history: History, summary: RunSummary, read_data: Callable[[], Shown | None]) -> Animation:
    """Return a single run in motion.

    Args:
        title: The name of its problem.
        history: Its history.
        summary: Its summary.
        read_data: Returns what a linear regressor is fitted to; called where parameters are recorded.

    Raises:
        InputError: The history has no train loss against samples.
    """
    label = summary.variant or "run"
    settings = [] if summary.batch_size is None else [f"batch_size {summary.batch_size}"]
    settings += [f"lr {history.last('lr'):g}"] if "lr" in history else []
    data = read_data() if any(name == "w" or name.startswith("w_") for name in history.columns) else None
    heading = ", ".join([f"{title}: {label} gradient descent" if summary.variant else title, *settings])
    return animated(heading, [(label, history)], data, summary.least_squares_loss)


def shown_data(data: RegressionDataModule, module: LightningModule) -> Shown | None:
    """Return the data of a linear regressor with one target; None for another model.

    Args:
        data: The data of a run.
        module: Its module.
    """
    samples, problem = data.train, data.problem
    affine = module.affine() if isinstance(module, RegressionModule) else None
    if samples.out_features != 1 or affine is None:
        return None
    if (count := samples.in_features) > 1:
        x, y = (part.double().cpu().numpy() for part in samples.take(slice(None, None, -(-len(samples) // _PREDICTED))))
        names = parameter_names(count, 1, affine.bias is not None, problem.feature_names, problem.target_names)
        return SeveralFeatures(x, y[:, 0], (problem.target_names or ["y"])[0], names)
    return _line(data, module, affine)


def _line(data: RegressionDataModule, module: LightningModule, affine: Affine) -> Line:
    samples = data.train
    x, y = as_columns(samples.take(slice(None, None, -(-len(samples) // DRAWN_SAMPLES))))
    problem, loss = data.problem, None
    if has_least_squares(module) and affine.bias is not None:
        best, least = least_squares_over(samples.pieces)
        moments = reduce(Moments.merged, (Moments.of(piece.double()) for piece, _ in samples.pieces()))
        values = best.named()
        loss = LineLoss(moments.mean.item(), moments.std.item(), values["w"], values["b"], least)
    true = problem.true_parameters
    truth = None if true is None or true.bias is None else (true.weight.item(), true.bias.item())
    feature, target = (problem.feature_names or ["x"])[0], (problem.target_names or ["y"])[0]
    return Line(x, y, feature, target, loss if loss is not None and loss.sd > 0 else None, truth)
