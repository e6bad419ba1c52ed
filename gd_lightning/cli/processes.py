"""Several processes of one run: started by Lightning, or by torchrun."""

from __future__ import annotations

import os
from inspect import signature
from typing import Any

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Trainer

from gd_lightning.cli.first_process import RANKS
from gd_lightning.errors import InputError
from gd_lightning.lightning_internals import forks, options_of_ddp
from gd_lightning.torch_internals import store_of_the_run

_FAILURE = "gd_lightning_failure"  # a key of the store that the processes of a run share


def check_launcher() -> None:
    """Refuse an environment that gives this process a rank, but no number of processes.

    Raises:
        InputError: The number of processes is missing.
    """
    if "WORLD_SIZE" in os.environ:
        return
    for name in RANKS:
        if (rank := os.environ.get(name, "0")) != "0":
            raise InputError(
                f"cannot be the process of {name} {rank}, because no launcher sets the number of processes; remove the "
                f"variable {name}, or start the processes with torchrun"
            )


def check_strategy(trainer: Trainer, stage: str) -> None:
    """Refuse several processes that could not connect, or that could not share the objects of this program.

    Args:
        trainer: The Trainer.
        stage: The subcommand.

    Raises:
        InputError: There are several nodes without the address of the first one, so that they would wait for ever; or
            processes are spawned or forked; or the strategy has an unknown option.
    """
    strategy = trainer.strategy
    nodes = getattr(strategy, "num_nodes", 1)
    environment = getattr(strategy, "cluster_environment", None)
    if nodes > 1 and isinstance(environment, LightningEnvironment) and "MASTER_ADDR" not in os.environ:
        raise InputError(
            f"cannot train on {nodes} nodes, because the address of the first one is not known; start the processes "
            "with torchrun or a cluster's launcher, set MASTER_ADDR, or leave trainer.num_nodes out"
        )
    if forks(trainer):
        does = "train" if stage == "fit" else stage
        raise InputError(f"cannot {does} in processes that are spawned or forked; use --trainer.strategy ddp")
    known = set(signature(torch.nn.parallel.DistributedDataParallel).parameters)
    for name in set(options_of_ddp(strategy)) - known:
        raise InputError(f"cannot use {name} in trainer.strategy, because this option does not exist; leave it out")


def are_together() -> bool:
    """Whether this process is connected with the others of its run."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def first_failure(code: int, is_consequence: bool) -> int | None:
    """Ask the other processes of the run whether one of them failed before this one.

    Args:
        code: The exit code of this process, which has failed.
        is_consequence: Whether it failed because another process has ended.

    Returns:
        The exit code of the process that failed first and has printed the reason; None if that is this process, or if
        the other one was killed and could not print it.
    """
    if not are_together():
        return None
    store = store_of_the_run()
    mine = f"{torch.distributed.get_rank()} {code}"
    try:
        if is_consequence and not store.check([_FAILURE]):
            return None
        first = store.compare_set(_FAILURE, "", mine).decode()
    except (RuntimeError, OSError):  # the process that holds the store has ended
        return None
    return None if first == mine else int(first.split()[1])


def torchrun_defaults() -> dict[str, Any]:
    """Return the options of the Trainer that follow from the processes that torchrun has started.

    Raises:
        InputError: A variable of torchrun is set, but torchrun has not started this process.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ or os.environ.get("WORLD_SIZE") == "1":
        return {}
    local, world = (_count(name) for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
    return {"devices": local, "num_nodes": world // local, "strategy": "ddp"}


def _count(name: str) -> int:
    value = os.environ.get(name, "")
    if not (value.isdecimal() and int(value)):
        raise InputError(
            f"cannot be a process of torchrun, because the variable {name} is not a number of processes; remove "
            "TORCHELASTIC_RUN_ID, or start the processes with torchrun"
        )
    return int(value)


def check_against_torchrun(devices: Any) -> None:
    """Refuse a number of devices that differs from the number of processes that torchrun has started.

    Raises:
        InputError: The numbers differ.
    """
    started = torchrun_defaults().get("devices")
    if started is not None and str(devices).isdigit() and int(devices) != started:
        raise InputError(
            f"cannot train on {devices} devices, because torchrun has started {started} processes; leave "
            f"trainer.devices out, or give torchrun --nproc-per-node {devices}"
        )
