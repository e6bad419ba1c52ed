"""Compiled updates of linear and multilayer-perceptron networks; importing this package imports Numba."""

from gd_lightning.engine.kernels.arithmetic import PLACES, SHORT, choose_loss, loss_of
from gd_lightning.engine.kernels.blocks import network_of, new_scratch, sum_losses_of_network
from gd_lightning.engine.kernels.dispatch import carry_out
from gd_lightning.engine.kernels.epochs import carry_out_linear_epochs, carry_out_network_epochs
from gd_lightning.engine.kernels.errors import sum_errors, sum_errors_of_network
from gd_lightning.engine.kernels.linear import (
    BLOCK,
    carry_out_in_threads,
    carry_out_linear,
    sum_losses,
    sum_losses_often,
)
from gd_lightning.engine.kernels.network import carry_out_network
from gd_lightning.engine.kernels.structures import Epochs, HeldOut, Network, Rule, Samples, Saved, Scratch, Span, State
from gd_lightning.engine.kernels.updates import SGD

__all__ = [
    "BLOCK",
    "PLACES",
    "SGD",
    "SHORT",
    "Epochs",
    "HeldOut",
    "Network",
    "Rule",
    "Samples",
    "Saved",
    "Scratch",
    "Span",
    "State",
    "carry_out",
    "carry_out_in_threads",
    "carry_out_linear",
    "carry_out_linear_epochs",
    "carry_out_network",
    "carry_out_network_epochs",
    "choose_loss",
    "loss_of",
    "network_of",
    "new_scratch",
    "sum_errors",
    "sum_errors_of_network",
    "sum_losses",
    "sum_losses_of_network",
    "sum_losses_often",
]
