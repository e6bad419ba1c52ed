"""The same updates by this package, through Lightning's Trainer."""

from __future__ import annotations

import functools
import tempfile
import time
from dataclasses import replace

import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger

from gd_lightning import HistoryRecorder, RegressionDataModule, RegressionModule
from gd_lightning.module.engine_choice import EngineChoice
from tests.benchmarks.cases import SEED, Case, Prepared, Run, Side, flat
from tests.benchmarks.trainer import seconds_inside


def prepare(
    case: Case, engine: EngineChoice, recorded: bool = True, tensorboard: bool = False, read: bool = False
) -> Prepared:
    """Return what fits a case.

    Args:
        case: What is trained.
        engine: What carries out the updates.
        recorded: Whether the loss of every update is recorded in the history.
        tensorboard: Whether the history goes to files and TensorBoard, too.
        read: Whether the time has every column of the history in it, which is else computed where it is read.
    """

    def run() -> Run:
        torch.manual_seed(SEED)  # the start is drawn from it
        module = RegressionModule(lr=case.lr, hidden_sizes=list(case.hidden), engine=engine)
        data = RegressionDataModule(case.problem, batch_size=case.batch_size, order="sequential")
        recorder = HistoryRecorder(every_n_updates=1)
        with tempfile.TemporaryDirectory() as directory:
            logger = TensorBoardLogger(directory, default_hp_metric=False) if tensorboard else False
            seconds = seconds_inside(module, data, case.epochs, [recorder] if recorded else [], logger)
        begun = time.perf_counter()
        losses = np.asarray(recorder.history["batch_loss"][1:]) if recorded else None
        if read:
            seconds += time.perf_counter() - begun
        assert module.network is not None
        return Run(seconds, flat(module.network), losses)

    return run


def _side(
    name: str, engine: EngineChoice, *, recorded: bool = True, tensorboard: bool = False, read: bool = False
) -> Side:
    return Side(
        f"ours, {name}",
        functools.partial(prepare, engine=engine, recorded=recorded, tensorboard=tensorboard, read=read),
        package="numba" if engine == "fused" else "torch",
        fewest=1_000 if engine == "auto" else 1,  # before, auto is autograd
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


AUTO = _side("auto", "auto")
AUTO_FURTHER = more_epochs(AUTO)
AUTO_READ = _side("auto, history read", "auto", read=True)
FUSED = _side("fused", "fused")
FUSED_NOT_RECORDED = _side("fused, not recorded", "fused", recorded=False)
AUTOGRAD = _side("autograd", "autograd")
AUTOGRAD_NOT_RECORDED = _side("autograd, not recorded", "autograd", recorded=False)
AUTOGRAD_TENSORBOARD = _side("autograd, TensorBoard", "autograd", tensorboard=True)
