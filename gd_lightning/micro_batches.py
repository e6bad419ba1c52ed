"""Micro-batches: parts of a batch that bound the memory on the device without changing the update (layer 0).

Letters: B samples of a batch, D features, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Pair = tuple[Tensor, Tensor]


class MicroBatches:
    """A batch (x, y) whose parts are made, and brought to the device, one by one when they are asked for.

    The loss of an update over B samples is a mean over all of them. So each part contributes its *sum* divided by
    the B samples of the batch, however uneven the parts are.

    Args:
        take: Gives the samples from one position to another of the batch, x of shape (n, D) and y of shape (n, K).
        samples: B, or this process's share of it.
        size: The most samples of a part.
        device: The device to move the parts to; None: they stay on theirs.

    Example:
        >>> x = torch.arange(5.0)[:, None]
        >>> parts = MicroBatches(lambda start, stop: (x[start:stop], -x[start:stop]), samples=5, size=2)
        >>> [len(parts.part(i)[0]) for i in range(parts.count)]
        [2, 2, 1]
    """

    def __init__(
        self, take: Callable[[int, int], Pair], samples: int, size: int, device: torch.device | str | None = None
    ) -> None:
        self._take = take
        self.samples = samples
        self.size = size
        self.device = device

    @property
    def count(self) -> int:
        """Number of parts, at least one: a process without samples of a batch has one empty part."""
        return max(1, -(-self.samples // self.size))

    def part(self, index: int) -> Pair:
        """Make part ``index`` (from 0).

        Args:
            index: Index of the part, from 0.
        """
        start = index * self.size
        x, y = self._take(start, min(start + self.size, self.samples))
        return (x, y) if self.device is None else (x.to(self.device), y.to(self.device))

    def to(self, device: torch.device | str, **_: object) -> MicroBatches:
        """Return the same batch whose parts are brought to a device; Lightning calls this for each batch."""
        return MicroBatches(self._take, self.samples, self.size, device)
