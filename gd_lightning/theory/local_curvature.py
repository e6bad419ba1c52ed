"""The curvature of any network's loss at given parameters, and the local limit of the learning rate.

All statements are local: they hold for the second-order Taylor expansion of the loss at these parameters, and for the
loss itself only near them. During training the curvature changes: above the limit of its start a network may diverge,
or converge where the loss is flatter; below it, it may diverge if large targets drive it far from the start. So a limit
is reported only after a trial of some updates confirms it.

Sources: Cohen, Kaur, Li, Kolter and Talwalkar, Gradient descent on neural networks typically occurs at the edge of
stability, ICLR 2021, https://arxiv.org/abs/2103.00065 (runs above the limit); Pearlmutter, Fast exact multiplication by
the Hessian, Neural Computation 6 (1994), https://doi.org/10.1162/neco.1994.6.1.147; Ma, Bassily and Belkin, The power
of interpolation, ICML 2018, https://arxiv.org/abs/1712.06559 (mini-batches); McCandlish, Kaplan, Amodei et al., An
empirical model of large-batch training, 2018, https://arxiv.org/abs/1812.06162 (noise scale).

Letters: N samples, D features, K outputs, B batch, P parameters that are trained, n samples of a piece.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor, nn

from gd_lightning.errors import InputError, StartError
from gd_lightning.micro_batches import Pair
from gd_lightning.random_numbers import generator_given_back
from gd_lightning.theory.critical_batch_size import Interpolation
from gd_lightning.theory.full_batch import largest_stable_lr
from gd_lightning.theory.numerics.krylov import largest_eigenvalues, leading_eigenpair
from gd_lightning.theory.numerics.searches import smallest_whole
from gd_lightning.update_rule import PLAIN, UpdateRule
from gd_lightning.variants import Variant

SummedLoss = Callable[[Tensor, Tensor], Tensor]
Pieces = Callable[[], Iterable[Pair]]

_MOST_PRODUCTS = 200  # with the Hessian, in search of its largest eigenvalue
_FEWEST_PRODUCTS = 10
_NUMBERS_KEPT = 2**27  # in the vectors of that search, which are all kept
_PRODUCTS_OF_SAMPLES = 60  # with the Hessian of each sample, in search of its largest eigenvalue
_FEW_PRODUCTS_OF_SAMPLES, _SHARPEST = 4, 32  # to find so many samples among which the sharpest one is


class LocalVerdict(str, Enum):
    """The outcome of a run by the curvature at its start."""

    STABLE = "stable here"
    """The learning rate is below the limit."""
    PERHAPS_UNSTABLE = "may be unstable here"
    """It is above the limit, but below what diverged in the trial; without one, errors shrink on average over all
    samples, and only the noise of the batches may let them grow."""
    UNSTABLE = "unstable here"
    """It is at least what diverged in the trial; or errors grow, as long as the curvature stays that of the start, and
    the run may settle where the loss is flatter."""
    NO_LIMIT = "no limit here"
    """The loss curves upward in no direction, so no learning rate is too large for its curvature."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class LocalOutcome:
    """The statements for a batch size at the start.

    Args:
        variant: The batches of an epoch.
        limit: The learning rate below which a run is stable here; ``inf`` without a limit.
        lr: The configured learning rate.
        verdict: The outcome.
        curvature_limit: The limit by the curvature at the start.
        diverging: The smallest learning rate that diverged in a trial, ``inf`` if none did; None without a trial.
    """

    variant: Variant
    limit: float
    lr: float
    verdict: LocalVerdict
    curvature_limit: float = math.inf
    diverging: float | None = None

    @property
    def half(self) -> float:
        """Half of the limit. Of that of the curvature: without momentum, where the sharpest error shrinks most."""
        return self.limit / 2

    @classmethod
    def tried(
        cls, variant: Variant, lr: float, curvature_limit: float, diverging: float, at_most: float = math.inf
    ) -> LocalOutcome:
        """Return the outcome if learning rates were tried.

        The limit is that of the curvature if the trial confirms it, that is, if it is between a third and 0.45 of the
        smallest learning rate that diverged. Else it is 0.4 of that: a longer run can diverge from less than half of
        it, and three times the limit is beyond it.

        Args:
            variant: The batches of an epoch.
            lr: The configured learning rate.
            curvature_limit: The limit by the curvature at the start; ``inf`` without one.
            diverging: The smallest learning rate that diverged; ``inf`` if none did.
            at_most: Another upper bound of the limit.

        Example:
            >>> [LocalOutcome.tried(Variant.of(1, 9), 0.1, found, 1.0).limit for found in (0.01, 0.35, 0.5)]
            [0.4, 0.35, 0.4]
        """
        is_borne_out = diverging / 3 <= curvature_limit <= 0.45 * diverging
        limit = min(curvature_limit if is_borne_out or diverging == math.inf else 0.4 * diverging, at_most)
        if limit == math.inf:
            verdict = LocalVerdict.NO_LIMIT
        elif lr >= diverging:
            verdict = LocalVerdict.UNSTABLE
        else:
            verdict = LocalVerdict.STABLE if lr < limit else LocalVerdict.PERHAPS_UNSTABLE
        return cls(variant, limit, lr, verdict, curvature_limit, diverging)


@dataclass(frozen=True)
class LocalCurvature:
    """Curvature and noise at the start, and what follows for learning rates.

    Args:
        loss: The train loss.
        gradient_norm: |g|, of its gradient.
        sharpness: The largest eigenvalue of the Hessian of what is descended: of the loss, plus the weight decay.
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
        """Measure curvature and noise.

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
        variance = max(0.0, norms.mean().item() - squared)
        return cls(value, math.sqrt(squared), sharpness, sample_curvature, variance, rule)

    @property
    def noise_scale(self) -> float:
        """The simple gradient noise scale tr(S) / |g|^2, in samples; ``inf`` where the gradient is 0.

        It is about the critical batch size: far below it, twice the batch saves half of the updates; far above, none.
        Source: McCandlish et al., equation 2.9.
        """
        if self.variance == 0:
            return 0.0
        return math.inf if self.gradient_norm == 0 else self.variance / self.gradient_norm**2

    @property
    def has_limit(self) -> bool:
        """Whether the loss curves upward in some direction."""
        return self.sharpness > 0

    @property
    def bounds(self) -> Interpolation:
        """What holds for mini-batches.

        Some batch is as sharp as all samples: a beta of other samples than the sharpness may be below it, and counts as
        that.
        """
        return Interpolation(max(self.sample_curvature, self.sharpness), 0.0, self.sharpness)

    def limit(self, variant: Variant) -> float:
        """Return the learning rate below which a variant is stable here; ``inf`` where nothing limits it.

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
            variant: Its training samples are those that a batch can have.
        """
        n = variant.train_samples
        if self.limit(Variant.of("full", n)) <= lr:
            return None
        # The limit grows with the batch size.
        return int(smallest_whole(lambda size: self.limit(Variant.of(int(size), n)) > lr, 0, n))

    def outcome(self, variant: Variant, lr: float) -> LocalOutcome:
        """Return what is said of a variant at a learning rate."""
        limit = self.limit(variant)
        if not self.has_limit:
            verdict = LocalVerdict.NO_LIMIT
        elif lr >= largest_stable_lr(self.sharpness, self.rule):
            verdict = LocalVerdict.UNSTABLE
        else:
            verdict = LocalVerdict.STABLE if lr < limit else LocalVerdict.PERHAPS_UNSTABLE
        return LocalOutcome(variant, limit, lr, verdict, limit)


class _Sharpest:
    """The samples that seem to be the sharpest, of all that were added."""

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
        """Return the curvature of the sharpest one."""
        ((x, y, _),) = self._parts
        return self._loss.of_samples(x, y)[0].max().item()


class NetworkLoss:
    """The train loss as a function of the parameters of a network, differentiable, in float64 and without dropout.

    It works on a copy: network, gradients and torch's generator stay as they are. At kinks (relu, mae) a derivative is
    the one that torch takes, so the Hessian is that of the smooth parts.

    Args:
        network: From x of shape (n, D) to predictions of shape (n, K), each sample by itself.
        summed_loss: From predictions and targets to the sum of the loss over samples and outputs, a sum of elements.
        pieces: Gives all samples, piece by piece, x of shape (n, D) and y of shape (n, K), each time it is called; what
            is in memory at once grows with n and not with N.

    Raises:
        InputError: No parameter of the network is trained.

    Example:
        >>> from gd_lightning.losses import summed_loss
        >>> x = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
        >>> loss = NetworkLoss(nn.Linear(1, 1, bias=False), summed_loss, lambda: [(x, 2 * x)])
        >>> round(loss.sharpness(), 9)
        15.0
    """

    def __init__(self, network: nn.Module, summed_loss: SummedLoss, pieces: Pieces) -> None:
        self._network = copy.deepcopy(network).cpu().double().eval()
        self._trained = {name: p for name, p in self._network.named_parameters() if p.requires_grad}
        self._summed_loss = summed_loss
        self._pieces = pieces
        if not self._trained:
            raise InputError("cannot plan for a network without parameters that are trained; give it some")

    @property
    def n_parameters(self) -> int:
        """P."""
        return sum(parameter.numel() for parameter in self._trained.values())

    def gradient(self) -> tuple[float, Tensor]:
        """Return the loss, a mean over samples and outputs, and its gradient, shape (P,)."""
        with _leaving_no_trace():
            total, count = torch.zeros(self.n_parameters + 1, dtype=torch.float64), 0
            for x, y in self._pieces():
                value = self._summed(x, y)
                total += torch.cat([value.detach().view(1), self._flat_gradient(value)])
                count += y.numel()
        return total[0].item() / count, total[1:] / count

    def hessian_product(self, vector: Tensor) -> Tensor:
        """Return the product of the Hessian with a vector, H v = d/dtheta (v' dL/dtheta), by two sweeps backward.

        Args:
            vector: v, shape (P,).

        Returns:
            Shape (P,).
        """
        with _leaving_no_trace():
            total, count = torch.zeros_like(vector), 0
            for x, y in self._pieces():
                slope = self._flat_gradient(self._summed(x, y), again=True) @ vector
                total += self._flat_gradient(slope)
                count += y.numel()
        return total / count

    def sharpness(self) -> float:
        """Return the largest eigenvalue of the Hessian, by Lanczos' method from a vector that is always the same.

        It is the largest one, not the largest in size: where the loss curves downward most, it is not what limits a
        learning rate.
        """
        return self.sharpest()[0]

    def sharpest(self) -> tuple[float, Tensor]:
        """Return the largest eigenvalue of the Hessian and its eigenvector, of length 1, shape (P,)."""
        start = torch.randn(self.n_parameters, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        most = min(_MOST_PRODUCTS, max(_FEWEST_PRODUCTS, _NUMBERS_KEPT // self.n_parameters))
        return leading_eigenpair(self.hessian_product, start, most)

    def of_samples(self, x: Tensor, y: Tensor, most: int = _PRODUCTS_OF_SAMPLES) -> tuple[Tensor, Tensor]:
        """Return the curvature of single samples' losses, and the squared norms of their gradients.

        With J = dz/dtheta the Jacobian of a sample's predictions z, shape (K, P), and l(z) the sum of its losses over
        outputs, its gradient is J' l' / K, and its Hessian (J' diag(l'') J + sum_k l'_k d^2 z_k / dtheta^2) / K: the
        Gauss-Newton matrix, and a part that grows with the residual. The curvature is the largest eigenvalue of that,
        so that no mean over samples is sharper than its sharpest sample.

        Args:
            x: Features, shape (n, D).
            y: Targets, shape (n, K).
            most: How many products with each sample's Hessian are made. Few are enough for a curvature that is too low,
                and tells which samples are among the sharpest.

        Returns:
            Curvatures and squared norms, both of shape (n,).
        """
        x, y = x.double(), y.double()
        theta = torch.cat([parameter.detach().flatten() for parameter in self._trained.values()])
        theta = theta.repeat(len(x), 1).requires_grad_()
        with _leaving_no_trace():
            gradients = _derivative(self._losses_of_samples(theta, x, y).sum() / y.shape[1], theta, again=True)

            def product(vectors: Tensor) -> Tensor:
                return _derivative((gradients * vectors).sum(), theta, retain=True)

            slopes = gradients.detach()
            # The gradient is close to the sharpest direction; what it is orthogonal to is in the random part.
            start = torch.randn(theta.shape, dtype=theta.dtype, generator=torch.Generator().manual_seed(0))
            start = start / start.norm(dim=1, keepdim=True) + torch.nn.functional.normalize(slopes)
            return largest_eigenvalues(product, start, most), slopes.square().sum(dim=1)

    def _losses_of_samples(self, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Return the loss of each sample, a sum over outputs, at parameters of its own, shape (n, P)."""
        sizes = [parameter.numel() for parameter in self._trained.values()]

        def loss(flat: Tensor, x: Tensor, y: Tensor) -> Tensor:
            parts = zip(self._trained.items(), flat.split(sizes), strict=True)
            values = {name: part.view(parameter.shape) for (name, parameter), part in parts}
            return self._summed_loss(torch.func.functional_call(self._network, values, (x[None],)), y[None])

        try:
            losses: Tensor = torch.func.vmap(loss)(theta, x, y)
        except RuntimeError:  # some layers, and what depends on a value, cannot be done for all samples at once
            losses = torch.stack([loss(*sample) for sample in zip(theta, x, y, strict=True)])
        return losses

    def _summed(self, x: Tensor, y: Tensor) -> Tensor:
        return self._summed_loss(self._network(x.double()), y.double())

    def _flat_gradient(self, value: Tensor, again: bool = False) -> Tensor:
        """Return the gradient of a value in all parameters, shape (P,); ``again``: to be differentiated once more."""
        if not value.requires_grad:  # such as the slope of what is linear in all parameters
            return torch.zeros(self.n_parameters, dtype=torch.float64)
        parts = torch.autograd.grad(value, list(self._trained.values()), create_graph=again, materialize_grads=True)
        return torch.cat([part.flatten() for part in parts])


def _derivative(value: Tensor, at: Tensor, again: bool = False, retain: bool = False) -> Tensor:
    """Return the derivative of a value, 0 where it does not depend on what it is derived at.

    Args:
        value: The value.
        at: Where.
        again: Whether the derivative is to be differentiated once more.
        retain: Whether the value is to be differentiated once more.
    """
    if not value.requires_grad:
        return torch.zeros_like(at)
    (derivative,) = torch.autograd.grad(
        value, at, create_graph=again, retain_graph=again or retain, materialize_grads=True
    )
    return derivative


@contextmanager
def _leaving_no_trace() -> Iterator[None]:
    """Differentiate whatever the caller has switched off, and give torch's generator back as it was."""
    with generator_given_back([]), torch.enable_grad():
        yield
