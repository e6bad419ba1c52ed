"""The same updates by this package, through Lightning's Trainer."""

from __future__ import annotations

import functools
import tempfile

import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger

from gd_lightning import HistoryRecorder, RegressionDataModule, RegressionModule
from tests.benchmarks.cases import SEED, Case, Prepared, Run, Side, flat
from tests.benchmarks.trainer import seconds_inside


def prepare(case: Case, recorded: bool = True, tensorboard: bool = False) -> Prepared:
    """Return what fits a case.

    Args:
        case: What is trained.
        recorded: Whether the loss of every update is recorded in the history.
        tensorboard: Whether the history goes to files and TensorBoard, too.
    """

    def run() -> Run:
        torch.manual_seed(SEED)  # the start is drawn from it
        module = RegressionModule(lr=case.lr, hidden_sizes=list(case.hidden))
        data = RegressionDataModule(case.problem, batch_size=case.batch_size, order="sequential")
        recorder = HistoryRecorder(every_n_updates=1)
        with tempfile.TemporaryDirectory() as directory:
            logger = TensorBoardLogger(directory, default_hp_metric=False) if tensorboard else False
            seconds = seconds_inside(module, data, case.epochs, [recorder] if recorded else [], logger)
        assert module.network is not None
        losses = np.asarray(recorder.history["batch_loss"][1:]) if recorded else None
        return Run(seconds, flat(module.network), losses)

    return run


AUTOGRAD = Side("ours, autograd", prepare)
AUTOGRAD_TENSORBOARD = Side("ours, autograd, TensorBoard", functools.partial(prepare, tensorboard=True))
AUTOGRAD_NOT_RECORDED = Side("ours, autograd, not recorded", functools.partial(prepare, recorded=False))

OURS = (AUTOGRAD,)
