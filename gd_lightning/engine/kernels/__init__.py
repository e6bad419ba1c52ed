"""Compiled updates of linear and multilayer-perceptron networks; importing this package imports Numba."""

from gd_lightning.engine.kernels.arithmetic import PLACES, SHORT, choose_loss, loss_of
from gd_lightning.engine.kernels.blocks import new_scratch
from gd_lightning.engine.kernels.dispatch import measuring, network_of, update_of, validating, without_records
from gd_lightning.engine.kernels.epochs import carry_out_epochs, carry_out_in_threads
from gd_lightning.engine.kernels.linear import BLOCK, sum_losses_often
from gd_lightning.engine.kernels.prediction_errors import sum_errors_once
from gd_lightning.engine.kernels.signatures import LOSSES, UPDATE
from gd_lightning.engine.kernels.structures import Epochs, HeldOut, Network, Rule, Samples, Saved, Scratch, Span, State
from gd_lightning.engine.kernels.updates import SGD

__all__ = [
    "BLOCK",
    "LOSSES",
    "PLACES",
    "SGD",
    "SHORT",
    "UPDATE",
    "Epochs",
    "HeldOut",
    "Network",
    "Rule",
    "Samples",
    "Saved",
    "Scratch",
    "Span",
    "State",
    "carry_out_epochs",
    "carry_out_in_threads",
    "choose_loss",
    "loss_of",
    "measuring",
    "network_of",
    "new_scratch",
    "sum_errors_once",
    "sum_losses_often",
    "update_of",
    "validating",
    "without_records",
]
