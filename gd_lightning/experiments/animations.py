"""Runs and comparisons in motion: what of their histories and data an animation shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

from lightning.pytorch import LightningModule

from gd_lightning.affine import least_squares_over
from gd_lightning.callbacks.pictures import as_columns
from gd_lightning.data import RegressionDataModule
from gd_lightning.float64 import Moments
from gd_lightning.module import RegressionModule, has_least_squares
from gd_lightning.plots.interactive.animation import Animation
from gd_lightning.plots.interactive.animation_content import MOST_TRACKS, Line, LineLoss, Track
from gd_lightning.plots.run_curves import DRAWN_SAMPLES
from gd_lightning.records.history import History
from gd_lightning.tracking.summary import RunSummary


def animated(
    title: str, runs: Sequence[tuple[str, History]], line: Line | None, least_squares: float | None
) -> Animation:
    """Return runs in motion, the first eight of more.

    Args:
        title: What is shown.
        runs: What each is called, and its history.
        line: What a line is fitted to; None where the models are none.
        least_squares: The smallest train loss that can be reached, if known.

    Raises:
        InputError: A run has no train loss against samples.
    """
    shown = runs[:MOST_TRACKS]
    tracks = [Track.of(label, history, line) for label, history in shown]
    left_out = f" (the first {len(shown)} of {len(runs)})" if len(shown) < len(runs) else ""
    lengths = {round(history["samples"][-1] / max(history["epoch"][-1], 1e-9)) for _, history in shown}
    per_epoch = lengths.pop() if len(lengths) == 1 else None
    return Animation(f"{title}{left_out}", tracks, line, least_squares, per_epoch)


def animated_run(title: str, history: History, summary: RunSummary, read_line: Callable[[], Line | None]) -> Animation:
    """Return a single run in motion.

    Args:
        title: The name of its problem.
        history: Its history.
        summary: Its summary.
        read_line: Returns what a line is fitted to; called where parameters are recorded.

    Raises:
        InputError: It has no train loss against samples.
    """
    label = summary.variant or "run"
    settings = [] if summary.batch_size is None else [f"batch_size {summary.batch_size}"]
    settings += [f"lr {history.last('lr'):g}"] if "lr" in history else []
    line = read_line() if "w" in history and "b" in history else None
    heading = ", ".join([f"{title}: {label} gradient descent" if summary.variant else title, *settings])
    return animated(heading, [(label, history)], line, summary.least_squares_loss)


def line_of(data: RegressionDataModule, module: LightningModule) -> Line | None:
    """Return what a line over one feature is fitted to; None where the model is none.

    Args:
        data: The data of a run.
        module: Its module.
    """
    samples = data.train
    affine = module.affine() if isinstance(module, RegressionModule) else None
    if (samples.in_features, samples.out_features) != (1, 1) or affine is None:
        return None
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
