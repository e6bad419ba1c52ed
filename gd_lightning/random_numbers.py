"""Random numbers for threads that train at once, although torch has one global generator (layer 0)."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_one_at_a_time = threading.RLock()  # held by a run that uses torch's generator
_changing = threading.RLock()  # held while the seed and the owner of torch's generator change
_callers: list[int] = []  # seeds of torch's generator before the runs that use it
_start_seed: ContextVar[int | None] = ContextVar("start_seed", default=None)  # the seed of a thread


def start_seed() -> int:
    """Return the seed that a network starts from: this thread's own, else torch's as its caller has set it."""
    own = _start_seed.get()
    if own is not None:
        return own
    with _changing:
        return _callers[0] if _callers else torch.initial_seed()


@contextmanager
def starting_from(seed: int) -> Iterator[None]:
    """Let the networks that this thread makes start from a seed, and leave torch's generator to others.

    Where several threads train at once, ``torch.manual_seed`` of one of them is that of all.

    Args:
        seed: See ``torch.manual_seed``.

    Example:
        >>> from gd_lightning import RegressionModule
        >>> weights = []
        >>> for seed in (1, 2, 1):
        ...     module = RegressionModule(in_features=1, out_features=1)
        ...     with starting_from(seed):
        ...         module.configure_model()
        ...     weights.append(module.network.weight.item())
        >>> weights[0] == weights[2] != weights[1]
        True
    """
    token = _start_seed.set(seed)
    try:
        yield
    finally:
        _start_seed.reset(token)


@contextmanager
def own_generator(seed: int, devices: Sequence[torch.device] | None = None) -> Iterator[None]:
    """Give torch's generator to one run, seeded, and give it back as it was; other runs wait for their turn.

    Whatever a run draws, such as what dropout leaves out, follows from its seed alone. A fit in another thread that
    does not ask for the generator still starts from the seed of whoever started it; but Lightning saves torch's
    generator before the sanity check of each fit and sets it back afterwards, so that beside such a fit what a run
    draws, and the state that is given back, depend on who was first.

    Args:
        seed: See ``torch.manual_seed``; networks start from it, too.
        devices: GPUs whose generators are given back, too; None: all.
    """
    with _one_at_a_time:
        fork = torch.random.fork_rng(devices=devices)
        with _changing:
            _callers.append(torch.initial_seed())
            fork.__enter__()
            torch.manual_seed(seed)
        try:
            with starting_from(seed):
                yield
        finally:
            with _changing:
                fork.__exit__(None, None, None)
                _callers.pop()


@contextmanager
def generator_given_back(devices: Sequence[torch.device]) -> Iterator[None]:
    """Give torch's generator back as it was, whatever is drawn within; no run takes or returns it meanwhile.

    Args:
        devices: GPUs whose generators are given back, too.
    """
    with _changing, torch.random.fork_rng(devices=devices):
        yield


class DrawnFrom(TorchDispatchMode):
    """Lets this thread draw from generators of its own, with the numbers that torch's would give after ``manual_seed``.

    Args:
        seed: See ``torch.manual_seed``.

    Example:
        >>> state = torch.get_rng_state()
        >>> with DrawnFrom(3):
        ...     drawn = torch.rand(2)
        >>> torch.equal(drawn, torch.rand(2, generator=torch.Generator().manual_seed(3)))
        True
        >>> torch.equal(torch.get_rng_state(), state)
        True
    """

    def __init__(self, seed: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._seed = seed
        self._generators: dict[torch.device, torch.Generator] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Carry an operation out; one that draws takes a generator of its own."""
        kwargs = dict(kwargs or {})
        if torch.Tag.nondeterministic_seeded not in func.tags or kwargs.get("generator") is not None:
            return func(*args, **kwargs)
        generator = self._generator_of(args, kwargs)
        drawing = _with_generator(func)
        if drawing is not None:
            return drawing(*args, **{**kwargs, "generator": generator})
        with generator_given_back([]):  # this operation takes no generator: it uses that of torch
            torch.set_rng_state(generator.get_state())
            drawn = func(*args, **kwargs)
            generator.set_state(torch.get_rng_state())
        return drawn

    def _generator_of(self, args: Sequence[Any], kwargs: dict[str, Any]) -> torch.Generator:
        places = [value.device for value in args if isinstance(value, Tensor)]
        device = places[0] if places else torch.device(kwargs.get("device") or "cpu")
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self._seed)
        return self._generators[device]


def _with_generator(func: Any) -> Any:
    """Return the form of an operation that takes a generator; None where there is none."""
    if any(argument.name == "generator" for argument in func._schema.arguments):
        return func
    parts = func._overloadname.split("_")  # such as default, low, low_dtype
    name = "_".join([*(parts[:1] if parts[0] != "default" else []), "generator", *parts[1:]])
    return getattr(func.overloadpacket, name, None)
