"""Results that runs on the same data share while they are trained one after the other (layer 0)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
from torch import Tensor

_Result = TypeVar("_Result")
_MOST_RESULTS = 32  # maximum number of results, each a few arrays as large as the data
_MOST_BYTES = 2**20  # maximum number of bytes of data: with more, training takes far longer than what can be shared

_results: ContextVar[dict[Hashable, Any] | None] = ContextVar("results", default=None)


@contextmanager
def results_shared(results: dict[Hashable, Any]) -> Iterator[None]:
    """Context in which :func:`shared` keeps results, and finds those of earlier contexts.

    Args:
        results: The results by their keys.
    """
    token = _results.set(results)
    try:
        yield
    finally:
        _results.reset(token)


def shared(key: Hashable | None, compute: Callable[[], _Result]) -> _Result:
    """Return a result that was computed before for the same key, or compute it.

    Args:
        key: All that the result depends on; None: it is computed.
        compute: Returns the result, which nobody may change.

    Example:
        >>> with results_shared({}):
        ...     [shared("sum", lambda: 1 + 1), shared("sum", lambda: 3), shared(None, lambda: 4)]
        [2, 2, 4]
    """
    results = _results.get()
    if key is None or results is None:
        return compute()
    if key not in results:
        results[key] = compute()
        while len(results) > _MOST_RESULTS:
            del results[next(iter(results))]
    found: _Result = results[key]
    return found


def content_of(*tensors: Tensor) -> Hashable | None:
    """Return a key that tensors have in common only if they are the same to the bit; None of many numbers.

    The key is also None if no results are shared.

    Args:
        tensors: The tensors, on the CPU; of others, the key is None.
    """
    if _results.get() is None or any(tensor.device.type != "cpu" for tensor in tensors):
        return None
    if sum(tensor.nbytes for tensor in tensors) > _MOST_BYTES:
        return None
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.digest(), tuple((tensor.dtype, tensor.shape) for tensor in tensors)
