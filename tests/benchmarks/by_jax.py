"""The same updates by JAX in its best form, and by Optax: with all threads, or in a process of its own with one.

Letters: N samples, D features, B batch.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np

from tests.benchmarks.cases import Case, Prepared, Run


def with_sgd(case: Case) -> bool:
    return case.optimizer == "sgd"


def with_adam(case: Case) -> bool:
    return case.optimizer == "adam"


def _rule(case: Case) -> tuple[Any, Any]:
    """Return the functions of an optimiser: to its state, and to parameters and state after an update."""
    import jax

    if with_sgd(case):
        return lambda _: (), lambda parameters, slopes, state: (
            jax.tree.map(lambda theta, slope: theta - case.lr * slope, parameters, slopes),
            state,
        )
    import optax

    adam = optax.adam(case.lr)

    def step(parameters: Any, slopes: Any, state: Any) -> tuple[Any, Any]:
        changes, state = adam.update(slopes, state, parameters)
        return optax.apply_updates(parameters, changes), state

    return adam.init, step


def jax_scan(case: Case) -> Prepared:
    """All epochs in one call: ``jax.lax.scan`` over epochs and batches, which keeps the loss of every update.

    It is compiled ahead, and the parameters that it starts from are donated: they are updated in place.
    """
    import jax
    import jax.numpy as jnp

    tensors = [parameter.detach().numpy() for parameter in case.network().parameters()]
    full, short = divmod(case.problem.rows, case.batch_size)
    init, step = _rule(case)

    def loss_of(parameters: Any, batch: Any) -> Any:
        x, y = batch
        for weight, bias in parameters[:-1]:
            x = jax.nn.relu(x @ weight.T + bias)
        weight, bias = parameters[-1]
        return jnp.mean((x @ weight.T + bias - y) ** 2)

    def update(carried: Any, batch: Any) -> tuple[Any, Any]:
        parameters, state = carried
        loss, slopes = jax.value_and_grad(loss_of)(parameters, batch)
        return step(parameters, slopes, state), loss

    def train(parameters: Any, batches: Any, rest: Any) -> tuple[Any, Any]:
        def epoch(carried: Any, _: Any) -> tuple[Any, Any]:
            if full == 1:  # without a loop around it, and without a copy of its samples
                carried, loss = update(carried, [part[0] for part in batches])
                losses = loss[None]
            else:
                carried, losses = jax.lax.scan(update, carried, batches)
            if short:
                carried, loss = update(carried, rest)
                losses = jnp.append(losses, loss)
            return carried, losses

        (parameters, _), losses = jax.lax.scan(epoch, (parameters, init(parameters)), length=case.epochs)
        return parameters, losses.ravel()

    def start_parameters() -> Any:
        made = [jnp.array(tensor) for tensor in tensors]  # copies: they are given away
        return jax.block_until_ready(list(zip(made[::2], made[1::2], strict=True)))

    arrays = [jnp.asarray(tensor.numpy()) for tensor in case.data()]
    batches = [a[: full * case.batch_size].reshape(full, case.batch_size, a.shape[1]) for a in arrays]
    rest = [a[full * case.batch_size :] for a in arrays]
    compiled = jax.jit(train, donate_argnums=0).lower(start_parameters(), batches, rest).compile()

    def run() -> Run:
        parameters = start_parameters()
        start = time.perf_counter()
        parameters, losses = jax.block_until_ready(compiled(parameters, batches, rest))
        seconds = time.perf_counter() - start
        at_end = [np.asarray(tensor, dtype=np.float64).ravel() for layer in parameters for tensor in layer]
        return Run(seconds, np.concatenate(at_end), np.asarray(losses, dtype=np.float64))

    return run


def of_one_thread(case: Case) -> Prepared:
    """The same in another process, whose JAX has one thread; it waits while others have their turn."""
    pool = _process_of_one_thread()
    pool.submit(_prepare, case).result()
    return lambda: pool.submit(_run, case).result()


@functools.cache
def _process_of_one_thread() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_set_one_thread)


def _set_one_thread() -> None:
    """Let this process have one thread, before JAX is imported: it asks how many cores the process may use."""
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


@functools.lru_cache(maxsize=4)
def _prepared(case: Case) -> Prepared:
    return jax_scan(case)


def _prepare(case: Case) -> None:
    _prepared(case)


def _run(case: Case) -> Run:
    return _prepared(case)()
