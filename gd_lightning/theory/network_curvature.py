"""The train loss of any network as a function of its parameters, with its gradient, Hessian and sharpness.

Source: Pearlmutter, Fast exact multiplication by the Hessian, Neural Computation 6 (1994),
https://doi.org/10.1162/neco.1994.6.1.147.

Letters: N samples, D features, K outputs, P parameters that are trained, n samples of a piece.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from gd_lightning.errors import InputError
from gd_lightning.micro_batches import Pair
from gd_lightning.random_numbers import generator_given_back
from gd_lightning.theory.numerics.krylov import largest_eigenvalues, leading_eigenpair

SummedLoss = Callable[[Tensor, Tensor], Tensor]
Pieces = Callable[[], Iterable[Pair]]

_MOST_PRODUCTS = 200  # largest number of products with the Hessian in the search for its largest eigenvalue
_FEWEST_PRODUCTS = 10
_NUMBERS_KEPT = 2**27  # maximum number of numbers in the vectors of this search, which are all kept in memory
_PRODUCTS_OF_SAMPLES = 60  # products with the Hessian of each sample in the search for its largest eigenvalue


class NetworkLoss:
    """The train loss as a function of the parameters of a network, differentiable, in float64 and without dropout.

    It works on a copy: network, gradients and torch's generator stay as they are. At kinks (relu, mae) a derivative is
    the one that torch takes, so the Hessian is that of the smooth parts.

    Args:
        network: Predicts, from x of shape (n, D), values of shape (n, K), for each sample independently.
        summed_loss: Returns the sum of the loss over samples and outputs, for predictions and targets.
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
        """Return the largest eigenvalue of the Hessian, by Lanczos' method from a fixed vector.

        It is the largest eigenvalue, not the one of largest absolute value: a direction in which the loss curves
        downward does not limit the learning rate.
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
        Gauss-Newton matrix, and a part that grows with the residual. The curvature is the largest eigenvalue of
        this Hessian, so that no mean over samples is sharper than its sharpest sample.

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
            # The gradient is close to the sharpest direction; the random part contains all other directions.
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
        except RuntimeError:  # vmap has no rule for some layers, nor for branches that depend on a value
            losses = torch.stack([loss(*sample) for sample in zip(theta, x, y, strict=True)])
        return losses

    def _summed(self, x: Tensor, y: Tensor) -> Tensor:
        return self._summed_loss(self._network(x.double()), y.double())

    def _flat_gradient(self, value: Tensor, again: bool = False) -> Tensor:
        """Return the gradient of a value in all parameters, shape (P,); ``again``: to be differentiated once more."""
        if not value.requires_grad:  # for example the gradient of a loss that is linear in all parameters
            return torch.zeros(self.n_parameters, dtype=torch.float64)
        parts = torch.autograd.grad(value, list(self._trained.values()), create_graph=again, materialize_grads=True)
        return torch.cat([part.flatten() for part in parts])


def _derivative(value: Tensor, at: Tensor, again: bool = False, retain: bool = False) -> Tensor:
    """Return the derivative of a value; 0 if the value does not depend on the variable.

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
    """Enable differentiation whatever the caller has disabled, and restore torch's generator afterwards."""
    with generator_given_back([]), torch.enable_grad():
        yield
