"""The same updates by others, each as its own documentation would have them.

Letters: N samples, D features, B batch.
"""

from __future__ import annotations

import os
import tempfile
import time
from importlib.util import find_spec

import numpy as np
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, TensorDataset

from tests.benchmarks.by_jax import jax_scan, of_one_thread, with_adam, with_sgd
from tests.benchmarks.cases import Case, Prepared, Run, Side, flat, torch_optimizer
from tests.benchmarks.trainer import seconds_inside


def plain_pytorch(case: Case) -> Prepared:
    """A loop over slices; the losses are kept as tensors, and read at the end."""
    x, y = case.data()

    def run() -> Run:
        network = case.network()
        optimizer = torch_optimizer(case, network)
        losses = []
        start = time.perf_counter()
        for _ in range(case.epochs):
            for i in range(0, len(x), case.batch_size):
                optimizer.zero_grad()
                loss = mse_loss(network(x[i : i + case.batch_size]), y[i : i + case.batch_size])
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
        read = torch.stack(losses).double().numpy()
        return Run(time.perf_counter() - start, flat(network), read)

    return run


class PlainModule(LightningModule):
    """What Lightning's first page shows."""

    def __init__(self, case: Case, logs: bool) -> None:
        super().__init__()
        self.network, self.case, self.logs = case.network(), case, logs

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss = mse_loss(self.network(batch[0]), batch[1])
        if self.logs:
            self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch_optimizer(self.case, self.network)


def plain_lightning(case: Case) -> Prepared:
    """Lightning without any logging."""

    def run() -> Run:
        module = PlainModule(case, logs=False)
        seconds = seconds_inside(module, _loader(case), case.epochs)
        return Run(seconds, flat(module.network))

    return run


def logging_lightning(case: Case) -> Prepared:
    """Lightning with ``self.log`` in every update, to TensorBoard."""

    def run() -> Run:
        module = PlainModule(case, logs=True)
        with tempfile.TemporaryDirectory() as directory:
            logger = TensorBoardLogger(directory)
            seconds = seconds_inside(module, _loader(case), case.epochs, logger=logger, log_every_n_steps=1)
        return Run(seconds, flat(module.network))

    return run


def _loader(case: Case) -> DataLoader[tuple[Tensor, ...]]:
    return DataLoader(TensorDataset(*case.data()), batch_size=case.batch_size)


def sgd_regressor(case: Case) -> Prepared:
    """scikit-learn's; its squared error has a factor 1/2, so its step is twice the learning rate."""
    from sklearn.linear_model import SGDRegressor

    x, y = (tensor.numpy() for tensor in case.data())
    weight, bias = (parameter.detach().double().numpy() for parameter in case.network().parameters())

    def run() -> Run:
        model = SGDRegressor(
            penalty=None, learning_rate="constant", eta0=2 * case.lr, max_iter=case.epochs, tol=None, shuffle=False
        )
        start = time.perf_counter()
        model.fit(x, y[:, 0], coef_init=weight[0], intercept_init=bias)
        seconds = time.perf_counter() - start
        return Run(seconds, np.concatenate([model.coef_, model.intercept_]).astype(np.float64))

    return run


def keras_fit(case: Case) -> Prepared:
    """``Model.fit``, compiled by JAX where that is there; a first epoch compiles, and is not counted."""
    os.environ.setdefault("KERAS_BACKEND", "jax" if find_spec("jax") else "torch")
    import keras

    widths = [*case.hidden, 1]
    activations = ["relu"] * len(case.hidden) + [None]
    layers = [keras.layers.Dense(width, activation=name) for width, name in zip(widths, activations, strict=True)]
    model = keras.Sequential([keras.Input((case.n_features,)), *layers])
    jit = keras.backend.backend() == "jax"  # of torch, it would need a C++ compiler
    model.compile(optimizer=keras.optimizers.SGD(case.lr), loss="mse", jit_compile=jit)
    x, y = (tensor.numpy() for tensor in case.data())
    parameters = [parameter.detach().numpy() for parameter in case.network().parameters()]
    start_weights = [theta.T for theta in parameters]  # its kernels are of shape (in, out)

    def fit(epochs: int) -> float:
        model.set_weights(start_weights)
        start = time.perf_counter()
        model.fit(x, y, batch_size=case.batch_size, epochs=epochs, shuffle=False, verbose=0)
        return time.perf_counter() - start

    fit(1)

    def run() -> Run:
        seconds = fit(case.epochs)
        return Run(seconds, np.concatenate([theta.T.ravel() for theta in model.get_weights()]).astype(np.float64))

    return run


def _is_stochastic_and_linear(case: Case) -> bool:
    return case.batch_size == 1 and not case.hidden and case.optimizer == "sgd"


PLAIN_PYTORCH = Side("plain PyTorch", plain_pytorch)
PLAIN_LIGHTNING = Side("plain Lightning", plain_lightning)
LOGGING_LIGHTNING = Side("Lightning, logging", logging_lightning)
SGD_REGRESSOR = Side("SGDRegressor", sgd_regressor, "sklearn", _is_stochastic_and_linear)
JAX_SCAN = Side("jax.lax.scan", jax_scan, "jax", with_sgd)
JAX_ONE_THREAD = Side("jax.lax.scan, one thread", of_one_thread, "jax", with_sgd)
OPTAX = Side("Optax", jax_scan, "optax", with_adam)
OPTAX_ONE_THREAD = Side("Optax, one thread", of_one_thread, "optax", with_adam)
KERAS_FIT = Side("Keras", keras_fit, "keras", with_sgd)  # its Adam has another form of epsilon

COMPETITORS = (
    *(PLAIN_PYTORCH, PLAIN_LIGHTNING, LOGGING_LIGHTNING, SGD_REGRESSOR),
    *(JAX_SCAN, JAX_ONE_THREAD, OPTAX, OPTAX_ONE_THREAD, KERAS_FIT),
)
