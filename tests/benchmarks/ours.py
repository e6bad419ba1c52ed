"""The same updates by this package, through Lightning's Trainer."""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger

from gd_lightning import HistoryRecorder, RegressionDataModule, RegressionModule
from gd_lightning.engine import why_not_fused
from gd_lightning.module.engine_choice import FEWEST_FUSED_UPDATES, EngineChoice
from tests.benchmarks.cases import SEED, Case, Prepared, Run, Side, every_case, flat, torch_optimizer
from tests.benchmarks.trainer import seconds_inside


def prepare(
    case: Case,
    engine: EngineChoice,
    recorded: bool = True,
    tensorboard: bool = False,
    read: bool = False,
    by_default: bool = False,
) -> Prepared:
    """Return what fits a case.

    Args:
        case: What is trained.
        engine: Name of the engine.
        recorded: Whether the loss of every update is recorded in the history.
        tensorboard: Whether the history goes to files and TensorBoard, too.
        read: Whether the time has every column of the history in it, which is else computed where it is read.
        by_default: Whether what the recorder records is left to it: rows at the ends of epochs.
    """
    optimizer = None if case.optimizer == "sgd" else {"class_path": "torch.optim.Adam"}

    def run() -> Run:
        torch.manual_seed(SEED)  # the start is drawn from it
        module = RegressionModule(lr=case.lr, hidden_sizes=list(case.hidden), engine=engine, optimizer=optimizer)
        data = RegressionDataModule(case.problem, batch_size=case.batch_size, order="sequential")
        recorder = HistoryRecorder() if by_default else HistoryRecorder(every_n_updates=1)
        with tempfile.TemporaryDirectory() as directory:
            logger = TensorBoardLogger(directory, default_hp_metric=False) if tensorboard else False
            seconds = seconds_inside(module, data, case.epochs, [recorder] if recorded else [], logger)
        begun = time.perf_counter()
        losses = np.asarray(recorder.history["batch_loss"][1:]) if recorded and not by_default else None
        if read:
            seconds += time.perf_counter() - begun
        assert module.network is not None
        return Run(seconds, flat(module.network), losses)

    return run


def _side(name: str, engine: EngineChoice, takes: Callable[[Case], bool] = every_case, **options: Any) -> Side:
    return Side(
        f"ours, {name}",
        functools.partial(prepare, engine=engine, **options),
        takes=takes,
        package="numba" if engine == "fused" else "torch",
        fewest=FEWEST_FUSED_UPDATES if engine == "auto" else 1,  # before, auto is autograd
    )


def more_epochs(side: Side) -> Side:
    """Return a side whose time is that of further epochs: a third of a long fit and its beginning are left out."""

    def prepare_both(case: Case) -> Prepared:
        short, long = side.prepare(case), side.prepare(replace(case, epochs=3 * case.epochs))

        def run() -> Run:
            begun = short()
            return replace(begun, seconds=(long().seconds - begun.seconds) / 2)

        return run

    return replace(side, name=f"{side.name}, further epochs", prepare=prepare_both)


def can_be_fused(case: Case) -> bool:
    """Whether the fused engine has the optimiser of a case."""
    return not why_not_fused(network := case.network(), torch_optimizer(case, network))


AUTO = _side("auto", "auto")
AUTO_FURTHER = more_epochs(AUTO)
AUTO_READ = _side("auto, history read", "auto", read=True)
FUSED = _side("fused", "fused", can_be_fused)
FUSED_NOT_RECORDED = _side("fused, not recorded", "fused", can_be_fused, recorded=False)
FUSED_BY_DEFAULT = _side("fused, recorded by epochs", "fused", can_be_fused, by_default=True)
AUTOGRAD = _side("autograd", "autograd")
AUTOGRAD_NOT_RECORDED = _side("autograd, not recorded", "autograd", recorded=False)
AUTOGRAD_TENSORBOARD = _side("autograd, TensorBoard", "autograd", tensorboard=True)
