"""What an animation shows: paths over the loss surface, fits over the data and loss curves, against samples.

Of several features, what is predicted is shown against what is true.

Letters: N samples, D features, of which each line has one; F frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gd_lightning.errors import InputError
from gd_lightning.escaping import in_one_line
from gd_lightning.records.history import History, Outcome

Values = NDArray[np.float64]

MOST_FRAMES = 120
MOST_TRACKS = 8
_LONGEST = 32  # maximum number of characters of a label
_ROWS = 1_500  # maximum number of points of a path or a curve: more would fall on one pixel of a frame


@dataclass(frozen=True)
class LineLoss:
    """The mean squared error of w x + b: ``least`` + (sd (w - w*))^2 + (mean (w - w*) + b - b*)^2.

    Args:
        mean: Mean of the feature.
        sd: Its standard deviation, with the divisor N.
        w: The weight of the least squares.
        b: Their bias.
        least: Their loss.

    Example:
        >>> LineLoss(mean=2.0, sd=1.0, w=2.0, b=0.0, least=0.0)(3.0, 0.0)  # at x = 1 and 3: the mean of 1 and 9
        5.0
    """

    mean: float
    sd: float
    w: float
    b: float
    least: float

    def __call__(self, w: Any, b: Any) -> Any:
        """Return the loss of lines."""
        with np.errstate(over="ignore", invalid="ignore"):
            return self.least + (self.sd * (w - self.w)) ** 2 + (self.mean * (w - self.w) + (b - self.b)) ** 2


@dataclass(frozen=True)
class Line:
    """The data that a line is fitted to.

    Args:
        x: Features that are drawn, shape (n,).
        y: Their targets, shape (n,).
        feature: Name of the feature.
        target: Name of the target.
        loss: The train loss of lines; None where it is not a mean squared error.
        truth: Weight and bias of the true line, if known.
    """

    x: Values
    y: Values
    feature: str
    target: str
    loss: LineLoss | None = None
    truth: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "feature", _fitting(self.feature))
        object.__setattr__(self, "target", _fitting(self.target))


@dataclass(frozen=True)
class SeveralFeatures:
    """The data of several features that linear regressors are fitted to.

    Args:
        x: Features of the samples that are drawn, shape (n, D).
        y: Their targets, shape (n,).
        target: Name of the target.
        parameters: Names of the parameters in a history: of the weights, and of the bias if there is one.
    """

    x: Values
    y: Values
    target: str
    parameters: Sequence[str]

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", _fitting(self.target))

    def predicted(self, history: History) -> tuple[Values, Values] | None:
        """Return the samples seen until some updates, and the predictions after them, shape (rows, n).

        None where its parameters are not recorded.
        """
        if not all(name in history for name in self.parameters):
            return None
        where = history.series(self.parameters[0], "samples")[0]
        kept = _kept(where)
        theta = np.stack([history.series(name)[1][kept] for name in self.parameters], axis=1)
        rows = np.column_stack([self.x, np.ones(len(self.x))])[:, : theta.shape[1]]
        with np.errstate(over="ignore", invalid="ignore"):
            return where[kept], theta @ rows.T


@dataclass(frozen=True)
class Track:
    """A run in an animation.

    Args:
        label: The name of the run.
        samples: Samples seen at each row of the path, ascending, shape (rows,).
        w: Weight there, shape (rows,); None where parameters are not recorded.
        b: Bias there, shape (rows,).
        loss_samples: Samples seen where the train loss is known, shape (m,).
        losses: The train loss there, shape (m,).
        diverged: Whether the run diverged.
        predicted: Predictions at each row for some samples of several features, shape (rows, n), or None.
    """

    label: str
    samples: Values
    w: Values | None
    b: Values | None
    loss_samples: Values
    losses: Values
    diverged: bool = False
    predicted: Values | None = None

    @classmethod
    def of(cls, label: str, history: History, data: Line | SeveralFeatures | None) -> Track:
        """Read a run.

        Args:
            label: The name of the run.
            history: Its history.
            data: The data of a linear regressor; None for another model.

        Raises:
            InputError: The history has no train loss against samples.
        """
        samples, losses = (
            history.curve("train_loss", "samples") if "train_loss" in history else (np.empty(0), np.empty(0))
        )
        if len(samples) < 2 or not np.isfinite(samples).all():
            raise InputError(
                f"cannot animate {label}, because it has no train loss against samples; train it with HistoryRecorder"
            )
        label, kept, diverged = _fitting(label), _kept(samples), history.outcome is Outcome.DIVERGED
        found = cls(label, samples, None, None, samples[kept], losses[kept], diverged)
        if isinstance(data, SeveralFeatures) and (predictions := data.predicted(history)) is not None:
            return replace(found, samples=predictions[0], predicted=predictions[1])
        if not isinstance(data, Line) or not ("w" in history and "b" in history):
            return found
        (where, w), (_, b) = history.series("w", "samples"), history.series("b", "samples")
        kept = _kept(where)
        found = replace(found, samples=where[kept], w=w[kept], b=b[kept])
        if data.loss is not None:
            found = replace(found, loss_samples=where[kept], losses=data.loss(w[kept], b[kept]))
        return found

    def row_at(self, seen: float) -> int:
        """Return the row of the path after some samples."""
        return max(0, rows_until(self.samples, seen) - 1)


def rows_until(samples: Values, seen: float) -> int:
    """Return how many rows of a path or a curve there are until some samples."""
    return int(np.searchsorted(samples, seen, side="right"))


def _fitting(name: str) -> str:
    """Return a name in one line that fits beside an axis."""
    name = in_one_line(name)
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def _kept(samples: Values) -> NDArray[np.int64]:
    """Return the indices of the kept rows, at evenly spaced numbers of samples."""
    if len(samples) <= _ROWS:
        return np.arange(len(samples))
    wanted = np.linspace(samples[0], samples[-1], _ROWS)
    return np.unique(np.searchsorted(samples, wanted, side="right") - 1)


@dataclass(frozen=True, repr=False)
class AnimationContent:
    """Content of an animation of runs, frame by frame in samples.

    Args:
        title: The title.
        tracks: The runs.
        data: The data of linear regressors; None for other models, of which only losses are shown.
        least_squares: The smallest train loss that can be reached, if known.
        per_epoch: Samples of an epoch, if they are the same for all runs.
    """

    title: str
    tracks: Sequence[Track]
    data: Line | SeveralFeatures | None = None
    least_squares: float | None = None
    per_epoch: int | None = None

    @property
    def note(self) -> str:
        """A description of the animation, and the reason for missing panels."""
        if self.several is not None:
            return "Predicted against true, and train loss."
        if self.shows_fits:
            return "Train loss, data and fit." if self.surface is None else "Path, data and fit, and train loss."
        return "Train loss alone: paths, fits and predictions need a linear regressor and its data."

    @property
    def line(self) -> Line | None:
        """The data of lines over one feature; None for other models."""
        return self.data if isinstance(self.data, Line) else None

    @property
    def several(self) -> SeveralFeatures | None:
        """The data whose predictions are shown; None where they are not."""
        is_known = all(track.predicted is not None for track in self.tracks)
        return self.data if isinstance(self.data, SeveralFeatures) and is_known else None

    @property
    def shows_fits(self) -> bool:
        """Whether lines are drawn over the data."""
        return self.line is not None and any(track.w is not None for track in self.tracks)

    @property
    def surface(self) -> LineLoss | None:
        """The loss over which paths are drawn; None without paths."""
        return self.line.loss if self.line is not None and all(track.w is not None for track in self.tracks) else None

    @cached_property
    def frames(self) -> list[int]:
        """The samples seen in each frame, shape (F,)."""
        end = max(float(track.samples[-1]) for track in self.tracks)
        return sorted({round(samples) for samples in np.linspace(0, end, MOST_FRAMES + 1)})

    @cached_property
    def ranges(self) -> dict[str, Any]:
        """The limits of all axes, which are the same in all frames; None for missing panels."""
        losses = np.concatenate([track.losses for track in self.tracks])
        start = self.tracks[0].losses[0]
        low, high = _bounds(losses, float(start), self.least_squares)
        shown: dict[str, Any] = dict.fromkeys(("w", "b", "x", "y", "true", "predicted"))
        shown |= {"loss": [low, high], "isLog": low > 0}
        if (several := self.several) is not None:
            shown["true"], shown["predicted"] = _with_margin(several.y, 0.05), _with_margin(several.y, 0.25)
        if self.line is not None:
            shown["x"], shown["y"] = _with_margin(self.line.x, 0.05), _with_margin(self.line.y, 0.25)
        if (loss := self.surface) is not None:
            for name, best in (("w", loss.w), ("b", loss.b)):
                counted = [getattr(track, name)[:1] for track in self.tracks]
                away = max(float(np.abs(values - best).max()) for values in counted)
                half = 1.35 * max(away, 0.05 * abs(best), 1e-3)
                shown[name] = [best - half, best + half]
        return shown

    def content(self) -> dict[str, Any]:
        """Return the animation as plain values, for a page."""
        line, several = self.line if self.shows_fits else None, self.several
        return {
            "note": self.note,
            "frames": self.frames,
            "ranges": self.ranges,
            "leastSquares": self.least_squares,
            "perEpoch": self.per_epoch,
            "line": None if line is None else _line_content(line),
            "several": None if several is None else {"target": several.target, "y": several.y.tolist()},
            "tracks": [
                {
                    "label": track.label,
                    "samples": track.samples.tolist(),
                    "w": None if track.w is None else _plain(track.w),
                    "b": None if track.b is None else _plain(track.b),
                    "lossSamples": track.loss_samples.tolist(),
                    "losses": _plain(track.losses),
                    "diverged": track.diverged,
                    "predicted": None if several is None else self._predicted_by_frame(track, several),
                }
                for track in self.tracks
            ],
        }

    def _predicted_by_frame(self, track: Track, several: SeveralFeatures) -> list[list[float | None]]:
        """Return the predictions in each frame, with the digits that are visible."""
        assert track.predicted is not None
        digits = 4 - math.floor(math.log10(float(np.ptp(several.y)) or 1.0))
        return [_plain(np.round(track.predicted[track.row_at(seen)], digits)) for seen in self.frames]


def _line_content(line: Line) -> dict[str, Any]:
    loss = None if line.loss is None else vars(line.loss)
    names = {"feature": line.feature, "target": line.target}
    return {**names, "x": line.x.tolist(), "y": line.y.tolist(), "truth": line.truth, "loss": loss}


def _plain(values: Values) -> list[float | None]:
    """Return numbers for JSON, which has no infinity."""
    return [value if math.isfinite(value) else None for value in values.tolist()]


def _bounds(losses: Values, start: float, least: float | None) -> tuple[float, float]:
    """Return limits for losses, cutting off those far above the start; the lower limit of a linear axis is 0."""
    scale = start if math.isfinite(start) and start > 0 else 1.0
    positive = losses[np.isfinite(losses) & (losses > 0)]
    if not len(positive):
        return 0.0, scale
    low = max(min(float(positive.min()), least or math.inf), 1e-9 * scale)
    return low / 1.6, 1.6 * min(max(float(positive.max()), scale), 1e3 * scale)


def _with_margin(values: Values, part: float) -> list[float]:
    low, high = float(values.min()), float(values.max())
    margin = part * (high - low) or 1.0
    return [low - margin, high + margin]
