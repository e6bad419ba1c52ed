"""The curvature of any network's loss at one set of parameters, and what it says of learning rates there.

What is said is local: it holds for the quadratic function that touches the loss at these parameters, and for the loss
itself only near them. A network moves on to places of another curvature; above the limit of its start it may diverge,
or settle where the loss is flatter. Sources: Cohen, Kaur, Li, Kolter and Talwalkar, Gradient descent on neural networks
typically occurs at the edge of stability, ICLR 2021 (what becomes of a run above the limit); Pearlmutter, Fast exact
multiplication by the Hessian, Neural Computation 6 (1994); Ma, Bassily and Belkin, The power of interpolation, ICML
2018 (mini-batches); McCandlish, Kaplan, Amodei et al., An empirical model of large-batch training, 2018 (noise scale).

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

from gd_lightning.errors import InputError
from gd_lightning.micro_batches import Pair
from gd_lightning.theory.batch_size import Interpolation
from gd_lightning.theory.descent import largest_stable_lr
from gd_lightning.theory.krylov import largest_eigenvalue
from gd_lightning.variants import Variant

SummedLoss = Callable[[Tensor, Tensor], Tensor]
Pieces = Callable[[], Iterable[Pair]]

_MOST_PRODUCTS = 200  # with the Hessian, in search of its largest eigenvalue
_FEWEST_PRODUCTS = 10
_NUMBERS_KEPT = 2**27  # in the vectors of that search, which are all kept


class LocalVerdict(str, Enum):
    """What becomes of small errors, as long as the curvature stays that of the start."""

    STABLE = "stable here"
    """They shrink."""
    PERHAPS_UNSTABLE = "may be unstable here"
    """They shrink on average over all samples, but the noise of the batches may let them grow."""
    UNSTABLE = "unstable here"
    """They grow. It is not said that the run diverges: it may settle where the loss is flatter."""
    NO_LIMIT = "no limit here"
    """The loss curves upward in no direction, so no learning rate is too large for its curvature."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class LocalOutlook:
    """What is said of a batch size at the start.

    Args:
        variant: The batches of an epoch.
        limit: The learning rate below which it is stable here; ``inf`` where nothing limits it.
        lr: The learning rate that is asked about.
        verdict: What becomes of it.
    """

    variant: Variant
    limit: float
    lr: float
    verdict: LocalVerdict

    @property
    def half(self) -> float:
        """Half of the limit: without momentum, where the error in the sharpest direction shrinks most."""
        return self.limit / 2


@dataclass(frozen=True)
class LocalCurvature:
    """Curvature and noise at the start, and what follows for learning rates.

    Args:
        loss: The train loss.
        gradient_norm: |g|, of its gradient.
        sharpness: The largest eigenvalue of the Hessian of what is descended: of the loss, plus the weight decay.
        sample_curvature: beta, the largest curvature of a single sample's loss, plus the weight decay.
        variance: tr(S), of the covariance S of the samples' gradients.
        momentum: mu.
        nesterov: Whether the momentum is Nesterov's.

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
    momentum: float = 0.0
    nesterov: bool = False

    @classmethod
    def of(
        cls,
        loss: NetworkLoss,
        drawn: Iterable[Pair],
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        nesterov: bool = False,
    ) -> LocalCurvature:
        """Measure it.

        Weight decay adds ``weight_decay`` times the parameters to the gradient, so its part of the Hessian is
        ``weight_decay`` times the identity.

        Args:
            loss: The train loss.
            drawn: The samples of which the curvature and the noise of single ones are taken, piece by piece.
            weight_decay: Of torch's SGD.
            momentum: mu.
            nesterov: Whether the momentum is Nesterov's.

        Raises:
            InputError: The loss or its gradient is not finite.
        """
        value, gradient = loss.gradient()
        squared = gradient.square().sum().item()
        if not (math.isfinite(value) and math.isfinite(squared)):
            raise InputError(
                f"cannot plan from this start, because the train loss is {value:g} there, and its gradient "
                f"{math.sqrt(squared):g}; choose another initialization, or standardize the data"
            )
        largest, total, count = 0.0, 0.0, 0
        for x, y in drawn:
            curvatures, squares = loss.of_samples(x, y)
            largest, total, count = max(largest, curvatures.max().item()), total + squares.sum().item(), count + len(x)
        return cls(
            loss=value,
            gradient_norm=math.sqrt(squared),
            sharpness=loss.sharpness() + weight_decay,
            sample_curvature=largest + weight_decay,
            variance=max(0.0, total / count - squared),
            momentum=momentum,
            nesterov=nesterov,
        )

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

        No batch is less sharp than all samples: where the residuals add to the Hessian, beta may be below the
        sharpness, and counts as that.
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
            return largest_stable_lr(self.sharpness, self.momentum, self.nesterov)
        return self.bounds.largest_stable_lr(variant.batch_size, self.momentum, self.nesterov)

    def smallest_stable_batch_size(self, lr: float, variant: Variant) -> int | None:
        """Return the smallest batch size whose limit is above a learning rate; None where there is none.

        Args:
            lr: The learning rate.
            variant: Its training samples are those that a batch can have.
        """
        n = variant.train_samples
        if self.limit(Variant.of("full", n)) <= lr:
            return None
        low, high = 0, n  # the limit grows with the batch size
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.limit(Variant.of(middle, n)) > lr else (middle, high)
        return high

    def outlook(self, variant: Variant, lr: float) -> LocalOutlook:
        """Return what is said of a variant at a learning rate."""
        limit = self.limit(variant)
        if not self.has_limit:
            verdict = LocalVerdict.NO_LIMIT
        elif lr >= largest_stable_lr(self.sharpness, self.momentum, self.nesterov):
            verdict = LocalVerdict.UNSTABLE
        else:
            verdict = LocalVerdict.STABLE if lr < limit else LocalVerdict.PERHAPS_UNSTABLE
        return LocalOutlook(variant, limit, lr, verdict)


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
        >>> from gd_lightning.objective import summed_loss
        >>> x = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
        >>> loss = NetworkLoss(nn.Linear(1, 1, bias=False), summed_loss, lambda: [(x, 2 * x)])
        >>> round(loss.sharpness(), 9)
        15.0
    """

    def __init__(self, network: nn.Module, summed_loss: SummedLoss, pieces: Pieces) -> None:
        self._network = copy.deepcopy(network).double().eval()
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
        start = torch.randn(self.n_parameters, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        most = min(_MOST_PRODUCTS, max(_FEWEST_PRODUCTS, _NUMBERS_KEPT // self.n_parameters))
        return largest_eigenvalue(self.hessian_product, start, most)

    def of_samples(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the curvature of single samples' losses, and the squared norms of their gradients.

        With J = dz/dtheta the Jacobian of a sample's predictions z, shape (K, P), and l(z) the sum of its losses over
        outputs, the gradient is J' l' / K. The curvature is the largest eigenvalue of the Gauss-Newton matrix
        J' diag(l'') J / K: that of the Hessian where the network is as good as linear, or fits the sample. Both follow
        from J J', shape (K, K).

        Args:
            x: Features, shape (n, D).
            y: Targets, shape (n, K).

        Returns:
            Curvatures and squared norms, both of shape (n,).
        """
        x, y = x.double(), y.double()
        with _leaving_no_trace():
            prediction = self._network(x).detach().requires_grad_()
            slopes = _derivative(self._summed_loss(prediction, y), prediction, again=True)
            bends = _derivative(slopes.sum(), prediction)
            products = self._products(x)
        outputs, slopes = y.shape[1], slopes.detach()
        roots = (bends / outputs).clamp(min=0).sqrt()
        curvatures = torch.linalg.eigvalsh(roots[:, :, None] * products * roots[:, None, :])[:, -1]
        return curvatures, torch.einsum("nk,nkl,nl->n", slopes, products, slopes) / outputs**2

    def _products(self, x: Tensor) -> Tensor:
        """Return J J' of each sample, shape (n, K, K)."""
        values = {name: parameter.detach() for name, parameter in self._trained.items()}

        def predict(parameters: dict[str, Tensor], sample: Tensor) -> Tensor:
            prediction = torch.func.functional_call(self._network, parameters, (sample[None],))
            assert isinstance(prediction, Tensor)
            return prediction[0]

        def product(sample: Tensor) -> Tensor:
            jacobian = torch.func.jacrev(predict, chunk_size=1)(values, sample)
            rows = torch.cat([part.flatten(1) for part in jacobian.values()], dim=1)
            return rows @ rows.T

        try:
            return torch.func.vmap(product)(x)
        except RuntimeError:  # some layers, and what depends on a value, cannot be done for all samples at once
            return torch.stack([product(sample) for sample in x])

    def _summed(self, x: Tensor, y: Tensor) -> Tensor:
        return self._summed_loss(self._network(x.double()), y.double())

    def _flat_gradient(self, value: Tensor, again: bool = False) -> Tensor:
        """Return the gradient of a value in all parameters, shape (P,); ``again``: to be differentiated once more."""
        if not value.requires_grad:  # such as the slope of what is linear in all parameters
            return torch.zeros(self.n_parameters, dtype=torch.float64)
        parts = torch.autograd.grad(value, list(self._trained.values()), create_graph=again, materialize_grads=True)
        return torch.cat([part.flatten() for part in parts])


def _derivative(value: Tensor, at: Tensor, again: bool = False) -> Tensor:
    """Return the derivative of a value, 0 where it does not depend on what it is derived at."""
    if not value.requires_grad:
        return torch.zeros_like(at)
    (derivative,) = torch.autograd.grad(value, at, create_graph=again, materialize_grads=True)
    return derivative


@contextmanager
def _leaving_no_trace() -> Iterator[None]:
    """Differentiate whatever the caller has switched off, and give torch's generator back as it was."""
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        yield
