"""Signatures of compiled functions that are called by their address, so that each is compiled where it is first used.

Letters: N samples, D features, K outputs, E epochs.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba.core import types

from gd_lightning.engine.compiling import Signature
from gd_lightning.engine.kernels.structures import (
    Array,
    Calls,
    HeldOut,
    Network,
    Rule,
    Samples,
    Saved,
    Scratch,
    Span,
    State,
)

_ROWS, _LAYERS = np.empty(0, np.int64), np.empty((0, 7), np.int64)
_RULE = Rule(0, 1.0, 0.0, 0, 0.0, False, 0.0, 0.0, 0.0, 0.0, False)
_SPAN = Span(0, 0, 1, 1, 0, 1, True, False, 0, 1, 0.0, False)


def _empty(dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """Return an empty row and an empty matrix."""
    return np.empty(0, dtype), np.empty((0, 0), dtype)


def _scratch(dtype: np.dtype[Any]) -> Scratch:
    row, _ = _empty(dtype)
    return Scratch(row, row, row, row, row)


def _network(dtype: np.dtype[Any]) -> Network:
    return Network(_LAYERS, _empty(dtype)[0], _ROWS, Calls())


def _of_update(dtype: np.dtype[Any]) -> tuple[Any, ...]:
    row, matrix = _empty(dtype)
    samples, state, saved = Samples(matrix, matrix, _ROWS, row), State(row, row, row, _ROWS), Saved(row, matrix, matrix)
    return samples, _network(dtype), state, row, _RULE, _SPAN, saved, _scratch(dtype)


def _of_losses(dtype: np.dtype[Any]) -> tuple[Any, ...]:
    row, matrix = _empty(dtype)
    return Samples(matrix, matrix, _ROWS, row), _network(dtype), row, _RULE, _scratch(dtype)


def _of_errors(dtype: np.dtype[Any]) -> tuple[Any, ...]:
    row, matrix = _empty(dtype)
    return HeldOut(matrix, matrix, 1, np.empty((0, 0))), _network(dtype), row, _RULE, _scratch(dtype), 0


UPDATE = Signature(_of_update, numba.typeof((0, 0, False)))
"""Makes updates, one after the other.

Args:
    samples: The training samples.
    network: The layers.
    state: Parameters and momentum buffers, changed in place.
    lrs: Learning rates, shape (updates,), or (1,) for all.
    rule: Loss, penalties and settings of the optimiser.
    span: The range of updates, and which of them are saved.
    saved: Arrays that receive losses, parameters and gradients.
    scratch: Uninitialised working memory.

Returns:
    Number of updates made, number of updates saved, and whether divergence is suspected.
"""

LOSSES = Signature(_of_losses, types.float64)
"""Returns the loss at parameters theta, summed in float64 over outputs and samples in stored order.

Args:
    samples: The samples.
    network: The layers.
    theta: The parameters.
    rule: The loss.
    scratch: Uninitialised working memory.
"""

ERRORS = Signature(_of_errors)
"""Sums the errors into a row of ``held_out.sums``, batch by batch, as they are validated; see ``prediction_errors.py``.

Args:
    held_out: The samples.
    network: The layers.
    theta: The parameters.
    rule: The loss.
    scratch: Uninitialised working memory.
    at: The row.
"""

ACTIVATION = Signature(lambda dtype: (*2 * (_empty(dtype)[0],), 0, 0, 0, dtype.type(0)))
"""See ``activations.py``."""

PRODUCT = Signature(lambda dtype: 3 * (_empty(dtype)[0], 0) + 7 * (0,))
"""See ``products.py``."""

DOTS = Signature(lambda dtype: 3 * (_empty(dtype)[0], 0) + 4 * (0,))
"""See ``products.py``."""
