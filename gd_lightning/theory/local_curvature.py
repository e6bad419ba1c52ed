"""The curvature of any network's loss at given parameters, and the local limit of the learning rate.

All statements are local: they hold for the second-order Taylor expansion of the loss at these parameters, and for the
loss itself only near them. During training the curvature changes: above the limit of its start a network may diverge,
or converge where the loss is flatter; below it, it may diverge if large targets drive it far from the start. So a limit
is reported only after a trial of some updates confirms it.

Sources: Cohen, Kaur, Li, Kolter and Talwalkar, Gradient descent on neural networks typically occurs at the edge of
stability, ICLR 2021, https://arxiv.org/abs/2103.00065 (runs above the limit); Ma, Bassily and Belkin, The power of
interpolation, ICML 2018, https://arxiv.org/abs/1712.06559 (mini-batches).

Letters: n samples of a piece.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from gd_lightning.errors import StartError
from gd_lightning.micro_batches import Pair
from gd_lightning.theory.critical_batch_size import Interpolation
from gd_lightning.theory.full_batch import largest_stable_lr
from gd_lightning.theory.gradient_noise_scale import gradient_noise_scale, gradient_variance
from gd_lightning.theory.local_outcome import LocalOutcome, LocalVerdict
from gd_lightning.theory.network_curvature import NetworkLoss
from gd_lightning.theory.numerics.searches import smallest_whole
from gd_lightning.update_rule import PLAIN, UpdateRule
from gd_lightning.variants import Variant

# Products per sample in the search for candidates, and number of candidates for the sharpest sample.
_FEW_PRODUCTS_OF_SAMPLES, _SHARPEST = 4, 32


@dataclass(frozen=True)
class LocalCurvature:
    """Curvature and noise at the start, and the resulting limits of learning rates.

    Args:
        loss: The train loss.
        gradient_norm: |g|, of its gradient.
        sharpness: The largest eigenvalue of the Hessian of the objective, which is the loss plus the weight decay.
        sample_curvature: beta, the largest curvature of a single sample's loss, plus the weight decay.
        variance: tr(S), of the covariance S of the samples' gradients.
        rule: How an update moves, but for its learning rate.

    Example:
        >>> start = LocalCurvature(1.0, 2.0, sharpness=0.5, sample_curvature=2.0, variance=12.0)
        >>> start.limit(Variant.of("full", 100)), start.limit(Variant.of(1, 100)), start.noise_scale
        (4.0, 1.0, 3.0)
    """

    loss: float
    gradient_norm: float
    sharpness: float
    sample_curvature: float
    variance: float
    rule: UpdateRule = PLAIN

    @classmethod
    def of(
        cls,
        loss: NetworkLoss,
        drawn: Iterable[Pair],
        rule: UpdateRule = PLAIN,
        hard: Iterable[Pair] = (),
    ) -> LocalCurvature:
        """Measure the curvature of the loss and the noise of its gradient.

        Weight decay adds ``weight_decay`` times the parameters to the gradient, so its part of the Hessian is
        ``weight_decay`` times the identity.

        Args:
            loss: The train loss.
            drawn: The samples of which the curvature and the noise of single ones are taken, piece by piece.
            rule: How an update moves, but for its learning rate.
            hard: Further samples of which the curvature is taken, piece by piece, and not the noise.

        Raises:
            StartError: The loss or the square of its gradient is not finite.
        """
        value, gradient = loss.gradient()
        squared = gradient.square().sum().item()
        if not (math.isfinite(value) and math.isfinite(squared)):
            raise StartError(
                f"the train loss is {value:g} there, and the square of its gradient {squared:g}",
                "scale the features and the targets, or choose another initialization",
            )
        sharpest = _Sharpest(loss)
        norms = torch.cat([sharpest.add(x, y) for x, y in drawn])
        for x, y in hard:
            sharpest.add(x, y)
        sharpness, sample_curvature = (each + rule.weight_decay for each in (loss.sharpness(), sharpest.curvature()))
        variance = gradient_variance(norms, squared)
        return cls(value, math.sqrt(squared), sharpness, sample_curvature, variance, rule)

    @property
    def noise_scale(self) -> float:
        """The gradient noise scale, in samples; ``inf`` where the gradient is 0."""
        return gradient_noise_scale(self.variance, self.gradient_norm**2)

    @property
    def has_limit(self) -> bool:
        """Whether the loss curves upward in some direction."""
        return self.sharpness > 0

    @property
    def bounds(self) -> Interpolation:
        """Bounds for mini-batches.

        Some batch is as sharp as all samples, so beta is at least the sharpness; an estimate of beta from other samples
        that is below the sharpness is raised to it.
        """
        return Interpolation(max(self.sample_curvature, self.sharpness), 0.0, self.sharpness)

    def limit(self, variant: Variant) -> float:
        """Return the learning rate below which a variant is stable at these parameters; ``inf`` without a limit.

        For the full batch it is 2 (1 + mu) / sharpness, with Nesterov's momentum 2 (1 + mu) / ((1 + 2 mu) sharpness).
        For mini-batches it is a guide: :meth:`Interpolation.largest_stable_lr`, whose bound is sure where the network
        is linear and fits all samples, and reached where they are alike.
        """
        if not self.has_limit:
            return math.inf
        if variant.name == "batch":
            return largest_stable_lr(self.sharpness, self.rule)
        return self.bounds.largest_stable_lr(variant.batch_size, self.rule)

    def smallest_stable_batch_size(self, lr: float, variant: Variant) -> int | None:
        """Return the smallest batch size whose limit is above a learning rate; None where there is none.

        Args:
            lr: The learning rate.
            variant: Provides the number of training samples.
        """
        n = variant.train_samples
        if self.limit(Variant.of("full", n)) <= lr:
            return None
        # The limit grows with the batch size.
        return int(smallest_whole(lambda size: self.limit(Variant.of(int(size), n)) > lr, 0, n))

    def outcome(self, variant: Variant, lr: float) -> LocalOutcome:
        """Return the statements for a variant at a learning rate."""
        limit = self.limit(variant)
        if not self.has_limit:
            verdict = LocalVerdict.NO_LIMIT
        elif lr >= largest_stable_lr(self.sharpness, self.rule):
            verdict = LocalVerdict.UNSTABLE
        else:
            verdict = LocalVerdict.STABLE if lr < limit else LocalVerdict.PERHAPS_UNSTABLE
        return LocalOutcome(variant, limit, lr, verdict, limit)


class _Sharpest:
    """Those samples that seem to have the largest curvature, among all that were added."""

    def __init__(self, loss: NetworkLoss) -> None:
        self._loss = loss
        self._parts: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """Add samples; returns the squared norms of their gradients, shape (n,)."""
        curvatures, squares = self._loss.of_samples(x, y, _FEW_PRODUCTS_OF_SAMPLES)
        parts = [*self._parts, (x, y, curvatures)]
        x, y, curvatures = (torch.cat(each) for each in zip(*parts, strict=True))
        rows = curvatures.topk(min(_SHARPEST, len(curvatures))).indices
        self._parts = [(x[rows], y[rows], curvatures[rows])]
        return squares

    def curvature(self) -> float:
        """Return the largest curvature of a sample."""
        ((x, y, _),) = self._parts
        return self._loss.of_samples(x, y)[0].max().item()
