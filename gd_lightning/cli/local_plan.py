"""``plan`` where the loss is not quadratic: what holds at the start, and is said to hold only there."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import nn

from gd_lightning.data import RegressionDataModule
from gd_lightning.data.samples import Samples
from gd_lightning.errors import InputError
from gd_lightning.module import RegressionModule, has_least_squares, own_method
from gd_lightning.theory import LocalCurvature, LocalOutlook, LocalVerdict, NetworkLoss, drawn_evenly
from gd_lightning.theory.advice import SAFE, rounded
from gd_lightning.tracking.summary import aligned
from gd_lightning.variants import BatchSize, Variant

# A product with the Hessian takes some N P multiplications, and a sharpness some dozen products. Where that would take
# minutes, samples are drawn: of 100,000 samples, 5,000 gave the sharpness of a 10-64-64-1 network to six thousandths.
_NUMBERS, _FEWEST = 5 * 10**7, 1000
_JACOBIANS = 4096  # of single samples' outputs
_NUMBERS_OF_JACOBIANS = 10**9
_AT_ONCE = 2**18  # numbers of the widest layer that are computed at a time
_JACOBIANS_AT_ONCE = 2**21  # numbers of them


def local_plan(module: RegressionModule, data: RegressionDataModule, sizes: Iterable[BatchSize]) -> LocalPlan:
    """Make a plan of the start.

    Args:
        module: With its network made, and the learning rate that is asked about.
        data: With the batch size that is asked about.
        sizes: The batch sizes to show, largest first, the configured one among them.

    Raises:
        InputError: Nothing can be said of these options.
    """
    options, network = module.hparams, module.network
    assert network is not None
    if obstacle := module.needs_whole_batches:
        raise InputError(f"cannot plan for this network, because {obstacle}; leave it out")
    shapes = [parameter.shape for parameter in network.parameters()]
    widest = max([data.in_features, data.out_features, *(size for shape in shapes for size in shape)])
    taken = _thinned(data.train, max(_FEWEST, _NUMBERS // max(1, sum(shape.numel() for shape in shapes))))
    loss = NetworkLoss(
        _predictor_of(module),
        module.summed_loss,
        lambda: taken.pieces(max(1, _AT_ONCE // widest)),
    )
    outputs, numbers = data.out_features, data.out_features * loss.n_parameters
    drawn = _thinned(taken, max(1, min(_JACOBIANS // outputs, _NUMBERS_OF_JACOBIANS // numbers)))
    curvature = LocalCurvature.of(
        loss,
        drawn.pieces(max(1, _JACOBIANS_AT_ONCE // numbers)),
        options["weight_decay"],
        options["momentum"],
        options["nesterov"],
    )
    n, lr = len(data.train), options["lr"]
    rows = [curvature.outlook(Variant.of(size, n, data.drop_last), lr) for size in sizes]
    return LocalPlan(curvature, data.variant, rows, (len(taken), len(drawn)), _notes(module))


def _predictor_of(module: RegressionModule) -> nn.Module:
    """Return what predicts, without the parts of a module that only measure."""
    assert module.network is not None
    if own_method(module, RegressionModule, ("forward",)):
        return module
    return module.network if module.standardize is None else nn.Sequential(module.standardize, module.network)


def _thinned(samples: Samples, most: int) -> Samples:
    """Return all samples, or where they are more, some that are drawn evenly."""
    rows = drawn_evenly(len(samples), most)
    return samples if rows is None else samples.subset(rows)


def _notes(module: RegressionModule) -> list[str]:
    """Say what the options have to do with the statements."""
    options, notes = module.hparams, []
    if has_least_squares(module):
        notes.append(
            "The Hessian of a linear regressor with the squared error is the same everywhere: what is said of the full "
            "batch holds for the whole run."
        )
    if options["loss"] == "mae":
        notes.append("mae has no curvature but that of the network: its gradient stays large to the end.")
    if options["loss"] == "huber":
        notes.append("huber has no curvature beyond huber_delta: the sharpness grows as samples come closer.")
    if options["weight_decay"]:
        notes.append("weight_decay is part of sharpness and beta.")
    if options["l1"]:
        notes.append("l1 has no curvature, and is left out.")
    if options["dropout"]:
        notes.append("dropout is left out; its noise makes large learning rates less stable.")
    return notes


@dataclasses.dataclass(frozen=True)
class LocalPlan:
    """What is said of the start of a run and of its neighbours with other batch sizes.

    Args:
        curvature: Where the statements come from.
        variant: The configured batches.
        rows: One outlook a batch size, among them the configured one.
        samples: From how many samples the sharpness was taken, and from how many of these what is said of single ones.
        notes: What the options have to do with the statements.
    """

    curvature: LocalCurvature
    variant: Variant
    rows: list[LocalOutlook]
    samples: tuple[int, int]
    notes: list[str]

    @property
    def configured(self) -> LocalOutlook:
        """The row of the options as they are."""
        return next(row for row in self.rows if row.variant.batch_size == self.variant.batch_size)

    def as_json(self, map_file: Path | None) -> str:
        """Return it for programs; null stands for infinity: no limit, or a noise without a gradient."""
        found = self.curvature
        content = {
            "local": True,
            "train_loss": found.loss,
            "gradient_norm": found.gradient_norm,
            "sharpness": found.sharpness,
            "largest_sample_curvature": found.sample_curvature,
            "gradient_noise_scale": _finite(found.noise_scale),
            "critical_batch_size": found.bounds.critical_batch_size if found.has_limit else None,
            "samples_of_sharpness": self.samples[0],
            "samples_of_noise": self.samples[1],
            "notes": self.notes,
            "rows": [_as_dict(row, row is self.configured) for row in self.rows],
            "advice": self.advice(),
            "map": None if map_file is None else str(map_file),
        }
        return json.dumps(content, indent=2, allow_nan=False)

    def table(self, title: str) -> str:
        """Return it for a terminal."""
        found = self.curvature
        plain = ", without momentum" if found.momentum else ""
        header = ["", "batch_size", "updates an epoch", "local limit of lr", "half of it", "lr", "verdict"]
        cells = [header, *(_cells(row, row is self.configured) for row in self.rows)]
        lines = [
            f"{title}: {self.variant.train_samples} training samples; local statements, at the start: train loss "
            f"{found.loss:.6g}, sharpness {found.sharpness:.6g}, beta {found.sample_curvature:.6g}, noise scale "
            f"{found.noise_scale:.4g}",
            "",
            aligned(cells),
            "",
            "sharpness    largest eigenvalue of the Hessian of the train loss; beta is that of a single sample's loss",
            "local limit  below it, errors do not grow where the curvature is that of the start",
            f"half of it   shrinks the error in the sharpest direction most{plain}",
            "noise scale  of the gradient, in samples: far below it larger batches save updates, far above hardly any",
            "The limit moves with the parameters. Above it a run may diverge, or settle where the loss is flatter.",
            *self._mini_batches(),
            *self._estimates(),
            *self.notes,
            "",
            self.advice(),
        ]
        return "\n".join(lines)

    def _mini_batches(self) -> list[str]:
        """Say what the statements on mini-batches hold for."""
        if not self.curvature.has_limit or len(self.rows) == 1:
            return []
        bound = "that of theory.Interpolation" if self.curvature.momentum else "2 B / (beta + (B - 1) sharpness)"
        return [f"Mini-batches: a guide, {bound}, as if drawn with replacement; a larger lr can be stable, too."]

    def _estimates(self) -> list[str]:
        """Say of what the samples are too many."""
        n, (of_sharpness, of_noise) = self.variant.train_samples, self.samples
        estimated = [("train loss and sharpness", of_sharpness), ("beta and noise scale", of_noise)]
        return [
            f"Estimated from {count:,} of the {n:,} training samples: {what}." for what, count in estimated if count < n
        ]

    def advice(self) -> str:
        """Return one sentence that says what to do."""
        row, batch = self.configured, f"batch_size {self.variant.batch_size}"
        if row.verdict is LocalVerdict.NO_LIMIT:
            return (
                "No local limit exists, because the train loss curves upward in no direction at the start; train with "
                "a small lr, and watch the first epochs."
            )
        if row.verdict is LocalVerdict.STABLE:
            return (
                f"lr {row.lr:g} is below {row.limit:.4g}, the local limit for {batch} at the start: train, and watch, "
                "because the limit moves."
            )
        safe = f"use lr {rounded(SAFE * row.limit)}"
        larger = self.curvature.smallest_stable_batch_size(row.lr, self.variant)
        safe += f" or batch_size {larger}" if larger is not None else ""
        if row.verdict is LocalVerdict.PERHAPS_UNSTABLE:
            return (
                f"lr {row.lr:g} is above {row.limit:.4g}, the local guide for {batch} at the start, and may be too "
                f"large for its noise; {safe}, or watch the first epochs."
            )
        full = self.rows[0].limit
        return (
            f"lr {row.lr:g} is above {full:.4g}, the local limit for all samples at the start: the run may diverge, or "
            f"settle where the loss is flatter; {safe} to be stable here, or watch the first epochs."
        )


def _cells(row: LocalOutlook, is_configured: bool) -> list[str]:
    unlimited = row.limit == math.inf
    return [
        f"{'> ' if is_configured else ''}{row.variant.name}",
        str(row.variant.batch_size),
        str(row.variant.updates_per_epoch),
        "none" if unlimited else f"{row.limit:.4g}",
        "" if unlimited else f"{row.half:.3g}",
        f"{row.lr:g}",
        str(row.verdict),
    ]


def _as_dict(row: LocalOutlook, is_configured: bool) -> dict[str, Any]:
    return {
        "variant": row.variant.name,
        "batch_size": row.variant.batch_size,
        "configured": is_configured,
        "updates_per_epoch": row.variant.updates_per_epoch,
        "local_limit_lr": _finite(row.limit),
        "half_of_limit_lr": _finite(row.half),
        "lr": row.lr,
        "verdict": str(row.verdict),
    }


def _finite(value: float) -> float | None:
    return None if value == math.inf else value
