"""The layout of a network's parameters in compiled code.

Letters: P parameters, L layers.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

from gd_lightning.engine.fusible import ACTIVATIONS, parts_of


class Layout(NamedTuple):
    """A network in the form that the compiled code takes.

    Args:
        layers: See the kernels, shape (L, 7).
        shapes: The slope or alpha of each activation.
        places: Positions of the numbers in torch's parameters, shape (P,).
        units: U, all inputs of layers and the outputs of the last one.
        saved_places: The same as ``places``; empty if they are 0, 1, 2 and so on.
    """

    layers: NDArray[np.int64]
    shapes: list[float]
    places: NDArray[np.int64]
    units: int
    saved_places: NDArray[np.int64]

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
    """Return the layout of a network that can be fused; networks of the same shape share one."""
    return _layout_of(tuple(map(_description, parts_of(network))))


def _description(part: nn.Module) -> tuple[int, int, bool] | tuple[int, float]:
    """Return outputs, inputs and whether there is a bias, of a layer; of an activation, its number and slope."""
    if isinstance(part, nn.Linear):
        outputs, inputs = part.weight.shape
        return outputs, inputs, part.bias is not None
    return ACTIVATIONS.index(type(part)), float(getattr(part, "negative_slope", getattr(part, "alpha", 0.0)))


@lru_cache(maxsize=4)  # those of large networks are large
def _layout_of(parts: tuple[tuple[int, int, bool] | tuple[int, float], ...]) -> Layout:
    layers: list[list[int]] = []
    shapes: list[float] = []
    places: list[NDArray[np.int64]] = []
    at = unit = 0
    for part in parts:
        if len(part) == 3:
            outputs, inputs, has_bias = part
            # Loops over the longer side are fewer; the kernel of a linear network has one loop in any case.
            is_wide = outputs > inputs and len(parts) > 1
            weight = np.arange(at, at + outputs * inputs).reshape(outputs, inputs)
            bias = np.arange(at + weight.size, at + weight.size + has_bias * outputs)
            layers.append([inputs, outputs, at, at + weight.size if has_bias else -1, unit, is_wide, 0])
            shapes.append(0.0)
            places += [(weight.T if is_wide else weight).ravel(), bias]
            at, unit = at + weight.size + len(bias), unit + inputs
        else:
            layers[-1][-1], shapes[-1] = part
    joined = np.concatenate(places)
    saved = joined[:0] if np.array_equal(joined, np.arange(len(joined))) else joined
    return Layout(np.array(layers, np.int64), shapes, joined, unit + layers[-1][1], saved)
