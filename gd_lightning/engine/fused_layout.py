"""The layout of a network's parameters in compiled code.

Letters: P parameters, L layers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

from gd_lightning.engine.fusible import ACTIVATIONS, parts_of


class Layout(NamedTuple):
    """A network in the form that the compiled code takes.

    Args:
        layers: See the kernels, shape (L, 7).
        shapes: Of the activations, the slope or alpha.
        places: Where the numbers lie in torch, shape (P,).
        units: U, all inputs of layers and the outputs of the last one.
    """

    layers: NDArray[np.int64]
    shapes: list[float]
    places: NDArray[np.int64]
    units: int

    @property
    def is_linear(self) -> bool:
        """Whether it is a single layer."""
        return len(self.layers) == 1

    def read(self, arrays: list[NDArray[Any]]) -> NDArray[Any]:
        """Return the values of these arrays in the order of the compiled code, shape (P,)."""
        return np.concatenate([array.ravel() for array in arrays])[self.places]

    def write(self, numbers: NDArray[Any], arrays: list[NDArray[Any]]) -> None:
        """Write values in the order of the compiled code, shape (P,), into these arrays."""
        flat = np.empty_like(numbers)
        flat[self.places] = numbers
        at = 0
        for array in arrays:
            array[...] = flat[at : at + array.size].reshape(array.shape)
            at += array.size


def layout_of(network: nn.Module) -> Layout:
    """Return the layout of a network that can be fused."""
    layers: list[list[int]] = []
    shapes: list[float] = []
    places: list[NDArray[np.int64]] = []
    at = unit = 0
    parts = parts_of(network)
    for part in parts:
        if isinstance(part, nn.Linear):
            outputs, inputs = part.weight.shape
            # Loops over the longer side are fewer; a linear network's kernel has one loop only.
            is_wide = outputs > inputs and len(parts) > 1
            weight = np.arange(at, at + outputs * inputs).reshape(outputs, inputs)
            bias = np.arange(at + weight.size, at + weight.size + (0 if part.bias is None else outputs))
            layers.append([inputs, outputs, at, at + weight.size if len(bias) else -1, unit, is_wide, 0])
            shapes.append(0.0)
            places += [(weight.T if is_wide else weight).ravel(), bias]
            at, unit = at + weight.size + len(bias), unit + inputs
        else:
            layers[-1][-1] = ACTIVATIONS.index(type(part))
            shapes[-1] = float(getattr(part, "negative_slope", getattr(part, "alpha", 0.0)))
    return Layout(np.array(layers, np.int64), shapes, np.concatenate(places), unit + layers[-1][1])
