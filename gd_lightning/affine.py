"""Affine functions y = x W' + b: the parameters of linear regressors, true, fitted or by least squares (layer 0).

Letters: N samples, D features, K outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

RANK = 16 * torch.finfo(torch.float64).eps  # a singular value over the largest, for each row or column, that is 0


@dataclass(frozen=True)
class Affine:
    """The function x -> x W' + b.

    Args:
        weight: W, shape (K, D).
        bias: b, shape (K,); None for a function without intercept.

    Example:
        >>> line = Affine(torch.tensor([[2.0]]), torch.tensor([1.0]))
        >>> line(torch.tensor([[3.0]])).item()
        7.0
        >>> line.named()
        {'w': 2.0, 'b': 1.0}
    """

    weight: Tensor
    bias: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Evaluate at x of shape (N, D); returns (N, K) in the dtype and on the device of x."""
        y = x @ self.weight.to(x).T
        return y if self.bias is None else y + self.bias.to(x)

    def flat(self) -> Tensor:
        """All parameters as one float64 vector of shape (P,): the weights row by row, then the biases."""
        parts = [self.weight.flatten()] if self.bias is None else [self.weight.flatten(), self.bias]
        return torch.cat([part.detach().cpu().double() for part in parts])

    def named(self, features: Sequence[str] | None = None, targets: Sequence[str] | None = None) -> dict[str, float]:
        """Return the parameters by name: ``w`` and ``b`` for a line, else with the features' and targets' names.

        Args:
            features: Names of the features; None: numbers.
            targets: Names of the targets; None: numbers.
        """
        names = parameter_names(self.weight.shape[1], self.weight.shape[0], self.bias is not None, features, targets)
        return dict(zip(names, self.flat().tolist(), strict=True))

    def in_original_units(self, mean: Tensor, scale: Tensor) -> Affine:
        """Return this function of (x - mean) / scale as a function of x, in float64.

        Args:
            mean: Shape (D,).
            scale: Shape (D,).
        """
        weight = self.weight.detach().cpu().double() / scale.cpu().double()
        if self.bias is None and not mean.any():
            return Affine(weight)
        shift = weight @ mean.cpu().double()
        return Affine(weight, -shift if self.bias is None else self.bias.detach().cpu().double() - shift)

    def in_standardized_units(self, mean: Tensor, scale: Tensor) -> Affine:
        """Return this function of x as a function of (x - mean) / scale, in float64.

        It is the inverse of :meth:`in_original_units`.

        Args:
            mean: Shape (D,).
            scale: Shape (D,).
        """
        weight, center = self.weight.detach().cpu().double(), mean.cpu().double()
        if self.bias is None and not center.any():
            return Affine(weight * scale.cpu().double())
        bias = weight @ center if self.bias is None else self.bias.detach().cpu().double() + weight @ center
        return Affine(weight * scale.cpu().double(), bias)

    def times_plus(self, scale: Tensor, mean: Tensor) -> Affine:
        """Return the function with ``scale * value + mean`` as its value, in float64.

        It gives targets in original units where this one gives standardised ones.

        Args:
            scale: Scale of each output, shape (K,).
            mean: Mean of each output, shape (K,).
        """
        scale, mean = scale.cpu().double(), mean.cpu().double()
        weight = self.weight.detach().cpu().double() * scale[:, None]
        if self.bias is None:
            return Affine(weight, mean if mean.any() else None)
        return Affine(weight, self.bias.detach().cpu().double() * scale + mean)


def parameter_names(
    n_features: int,
    n_targets: int,
    bias: bool,
    features: Sequence[str] | None = None,
    targets: Sequence[str] | None = None,
) -> list[str]:
    """Name the parameters of an affine function in the order of :meth:`Affine.flat`, each with a name of its own.

    Example:
        >>> parameter_names(1, 1, True)
        ['w', 'b']
        >>> parameter_names(2, 1, True, features=["hours", "sleep"])
        ['w_hours', 'w_sleep', 'b']
        >>> parameter_names(2, 2, False, features=["a_b", "b"], targets=["y", "y_a"])
        ['w_y_a_b', 'w_y_b', 'w_y_a_a_b', 'w_y_a_b-2']
    """
    xs = [""] if n_features == 1 else [f"_{name}" for name in features or [str(i) for i in range(n_features)]]
    ys = [""] if n_targets == 1 else [f"_{name}" for name in targets or [str(i) for i in range(n_targets)]]
    return _distinct([f"w{y}{x}" for y in ys for x in xs] + [f"b{y}" for y in ys if bias])


def _distinct(names: list[str]) -> list[str]:
    """Return names, in which repeated ones get a number: feature b_c and target a make w_a_b_c."""
    if len(set(names)) == len(names):
        return names
    taken, found = set(names), list[str]()
    seen = set[str]()
    for name in names:
        own, number = name, 1
        while own in seen or (own != name and own in taken):
            number += 1
            own = f"{name}-{number}"
        seen.add(own)
        found.append(own)
    return found
