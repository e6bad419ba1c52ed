"""Networks whose members are stacked: predictions, losses and gradients of all of them at once.

Letters: M members, N samples, D features, C columns of the design, K outputs, B batch, P parameters.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from gd_lightning.engine.fusible import LINEAR, parts_of, why_no_chain, why_not_parameters
from gd_lightning.errors import InputError
from gd_lightning.losses import HUBER_DELTA, Loss, forms_of


def stacked(network: nn.Module, loss: Loss = "mse", huber_delta: float = HUBER_DELTA) -> StackedNetwork:
    """Return the stacked form of a network, which computes many members at once.

    Args:
        network: A chain of linear layers and activations; only its form is used.
        loss: The name of the loss.
        huber_delta: Absolute error at which the Huber loss becomes linear.

    Raises:
        InputError: The network is not a chain of linear layers and activations.
    """
    if reason := why_not_stacked(network):
        raise InputError(f"cannot train many of {type(network).__name__} at once, because {reason}; use OneByOne")
    parts = parts_of(network)
    return (StackedLine if len(parts) == 1 else StackedChain)(parts, loss, huber_delta)


def why_not_stacked(network: nn.Module) -> str:
    """Return the reason, worded to follow "because", why members cannot be computed at once; "" if they can be.

    Args:
        network: The network to train.

    Example:
        >>> why_not_stacked(nn.Sequential(nn.Linear(1, 8), nn.Dropout(0.5), nn.Linear(8, 1)))
        'the network has dropout'
    """
    if reason := why_no_chain(network):
        return reason
    for part in parts_of(network):
        if getattr(part, "inplace", False):
            return f"its part {type(part).__name__} changes its input in place"
    if not any(type(part) in LINEAR for part in parts_of(network)):
        return "it has no linear layer"
    return why_not_parameters(network)


class StackedNetwork(ABC):
    """Computes predictions and gradients of a network for all members at once, from stacked parameters.

    Args:
        parts: The layers of the network.
        loss: The name of the loss.
        huber_delta: Absolute error at which the Huber loss becomes linear.
    """

    def __init__(self, parts: list[nn.Module], loss: Loss, huber_delta: float) -> None:
        self._parts, self._loss, self._delta = parts, forms_of(loss), huber_delta
        self._layers = [part for part in parts if isinstance(part, nn.Linear)]
        self._columns = self._layers[0].in_features
        self.widest = max(size for layer in self._layers for size in (layer.in_features, layer.out_features))
        shapes = [parameter.shape for layer in self._layers for parameter in layer.parameters()]
        self.is_weight = self.pack(torch.cat([torch.full((s.numel(),), float(len(s) > 1)) for s in shapes])[None])[0]

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each sample and output; arguments and result have the shape (M, B, K)."""
        return self._loss.elementwise(prediction, target, self._delta)

    def split(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Return design and targets of samples, from shape (M, B, C + K)."""
        return batch[..., : self._columns], batch[..., self._columns :]

    def design(self, x: Tensor) -> Tensor:
        """Return the input of the first layer, shape (N, C)."""
        return x

    def pack(self, parameters: Tensor) -> Tensor:
        """Return the stacked layout of parameters in the order of ``parameters()``, both of shape (M, P)."""
        return parameters.clone()

    def unpack(self, theta: Tensor) -> Tensor:
        """Return parameters in the order of ``parameters()``."""
        return theta

    @abstractmethod
    def views(self, theta: Tensor) -> list[Tensor]:
        """Return the parameters of all members as layers use them, sharing memory with theta of shape (M, P)."""

    @abstractmethod
    def predictions(self, views: list[Tensor], x: Tensor) -> Tensor:
        """Return predictions from x of shape (M, B, C), shape (M, B, K)."""

    @abstractmethod
    def descent(self, views: list[Tensor], x: Tensor, y: Tensor, total: int) -> tuple[Tensor, Tensor]:
        """Return the contribution of samples to the batch losses, shape (M,), and to the gradients, shape (M, P).

        Args:
            views: The parameters.
            x: Design, shape (M, B, C).
            y: Targets, shape (M, B, K).
            total: Samples times outputs of the whole batch.
        """


class StackedLine(StackedNetwork):
    """A linear layer with an explicit gradient, several times faster than autograd on small batches.

    A bias is the weight of a column of ones.
    """

    def __init__(self, parts: list[nn.Module], loss: Loss, huber_delta: float) -> None:
        layer = parts[0]
        assert isinstance(layer, nn.Linear)
        self._outputs, self._has_bias = layer.out_features, layer.bias is not None
        super().__init__(parts, loss, huber_delta)
        self._columns = layer.in_features + self._has_bias

    def design(self, x: Tensor) -> Tensor:
        """Return features, and a column of ones where there is a bias."""
        return torch.cat([x, torch.ones_like(x[:, :1])], dim=1) if self._has_bias else x

    def pack(self, parameters: Tensor) -> Tensor:
        """Place the bias of each output after its weights."""
        if not self._has_bias:
            return parameters.clone()
        weight = parameters[:, : -self._outputs].unflatten(1, (self._outputs, -1))
        return torch.cat([weight, parameters[:, -self._outputs :, None]], dim=2).flatten(1)

    def unpack(self, theta: Tensor) -> Tensor:
        """Put all weights before the biases."""
        if not self._has_bias:
            return theta
        together = theta.unflatten(1, (self._outputs, -1))
        return torch.cat([together[..., :-1].flatten(1), together[..., -1]], dim=1)

    def views(self, theta: Tensor) -> list[Tensor]:
        """Return the matrix of each member, shape (M, C, K), and a zero."""
        return [theta.unflatten(1, (self._outputs, -1)).transpose(1, 2), theta.new_zeros(1, 1, 1)]

    def predictions(self, views: list[Tensor], x: Tensor) -> Tensor:
        """Return predictions."""
        return torch.bmm(x, views[0])

    def descent(self, views: list[Tensor], x: Tensor, y: Tensor, total: int) -> tuple[Tensor, Tensor]:
        """Return losses and gradients."""
        matrix, zero = views
        error = torch.baddbmm(y, x, matrix, beta=-1)
        if self._loss.is_squared_error:
            norm, slope, factor = torch.linalg.vector_norm(error, dim=(1, 2)), error, 2 / total
            losses = torch.addcmul(zero[0, 0], norm, norm, value=1 / total)
        else:
            slope = self._loss.slope(error, self._delta)
            losses, factor = self.elements(error, zero.expand_as(error)).sum(dim=(1, 2)) / total, 1 / total
        # Scaling within the product is cheaper than scaling its result; beta=0, so the zero is not read.
        gradient = torch.baddbmm(zero, slope.transpose(1, 2), x, beta=0, alpha=factor)
        return losses, gradient.flatten(1)


class StackedChain(StackedNetwork):
    """Linear layers with activations in between, differentiated by one call of autograd for all members."""

    def views(self, theta: Tensor) -> list[Tensor]:
        """Return the weights of each layer, shape (M, in, out), and its biases, shape (M, 1, out), as leaves."""
        found, start = [], 0
        for layer in self._layers:
            for parameter in layer.parameters():
                part = theta[:, start : start + parameter.numel()].detach()
                start += parameter.numel()
                is_bias = parameter.ndim == 1
                view = part[:, None] if is_bias else part.unflatten(1, tuple(parameter.shape)).transpose(1, 2)
                found.append(view.requires_grad_())
        return found

    def predictions(self, views: list[Tensor], x: Tensor) -> Tensor:
        """Return predictions."""
        left = iter(views)
        for part in self._parts:
            if isinstance(part, nn.Linear):
                weight = next(left)
                x = torch.bmm(x, weight) if part.bias is None else torch.baddbmm(next(left), x, weight)
            else:
                x = part(x)
        return x

    def descent(self, views: list[Tensor], x: Tensor, y: Tensor, total: int) -> tuple[Tensor, Tensor]:
        """Return losses and gradients."""
        with torch.enable_grad():
            losses = self.elements(self.predictions(views, x), y).sum(dim=(1, 2)) / total
            slopes = torch.autograd.grad([losses], views, [torch.ones_like(losses)])
        return losses.detach(), torch.cat([slope.transpose(1, 2).flatten(1) for slope in slopes], dim=1)
