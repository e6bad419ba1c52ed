"""The estimator: the options of data and module as parameters, fitted without a Trainer.

Letters: N samples, D features, K targets.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_random_state
from torch import nn

from gd_lightning.data.order import ORDERS, Order
from gd_lightning.data.samples import split_rows
from gd_lightning.errors import InputError
from gd_lightning.losses import HUBER_DELTA, Loss
from gd_lightning.models import Activation, Scheme, Standardized, standardized_by
from gd_lightning.module.engine_choice import EngineChoice
from gd_lightning.module.library_errors import GivenClasses
from gd_lightning.module.options import OPTIONS, ClassSpec, plain_options
from gd_lightning.plain_numbers import as_python
from gd_lightning.records.history import History
from gd_lightning.sklearn.argument_checks import validated, validated_pair, validated_weights
from gd_lightning.sklearn.early_stopping import LowestLoss
from gd_lightning.sklearn.learner import Learner
from gd_lightning.sklearn.samples import WeightedSamples, standardization
from gd_lightning.sklearn.training import Epochs, train_epochs
from gd_lightning.variants import BatchSize, Variant

_PRECISIONS = {"64-true": torch.float64, "32-true": torch.float32}


class GradientDescentRegressor(MultiOutputMixin, RegressorMixin, BaseEstimator):  # type: ignore[misc]  # publishes no types
    """Regression by gradient descent, a linear function or a multilayer perceptron, for scikit-learn.

    It has the options of :class:`~gd_lightning.RegressionDataModule` and :class:`~gd_lightning.RegressionModule` by
    their names, and ends where :func:`~gd_lightning.fit` ends with the same options. Their defaults differ in
    ``precision`` and ``epochs``; and with ``engine`` auto, updates are compiled whenever possible, because an estimator
    is fitted many times.

    Args:
        batch_size: Samples per update: full, 1, or any number between; it is the algorithm.
        lr: Learning rate.
        epochs: Number of passes over the training samples in a fit.
        momentum: Momentum of SGD, as torch defines it.
        nesterov: Nesterov's form of the momentum.
        weight_decay: L2 penalty; adds weight_decay * theta to the gradient of every parameter.
        l1: L1 penalty; adds l1 * sum(abs(weights)) to the loss of every update.
        loss: A loss of :class:`~gd_lightning.RegressionModule`, such as mse, mae and huber.
        huber_delta: Absolute error at which the Huber loss becomes linear, in standard deviations of each target where
            targets are standardised.
        hidden_sizes: Widths of the hidden layers of a perceptron; empty for a linear function.
        activation: Activation of the hidden layers.
        bias: Whether layers have biases.
        dropout: Probability that a hidden unit is left out while training.
        initialization: auto, default, zero, normal, xavier, he, or given values of a linear function.
        network: Your own network, or a class or function that takes D and K and returns one.
        optimizer: Another optimiser of torch, by its name, or any imported class as {class_path: ..., init_args:
            {...}}.
        lr_scheduler: A scheduler of torch that is stepped at each epoch's end, in the same forms.
        order: shuffled, sequential, or with_replacement.
        drop_last: Leave out the last batch of an epoch where it would be shorter than the others.
        standardize: Bring each feature, or each target, to mean 0 and std 1: features, targets, both (or True), or none
            (or False). Coefficients, losses and predictions are in original units.
        val_size: Samples that are held out for validation, a fraction below 1 or a number of samples.
        early_stopping: End a fit whose loss no longer falls, with the weights of the lowest loss: the validation loss,
            or the train loss if no samples are held out.
        patience: With early_stopping, epochs without progress that end the fit.
        min_delta: The smallest decrease of the loss that counts as progress.
        average: Predict with the mean of the parameters after all updates (Polyak and Juditsky, Acceleration of
            stochastic approximation by averaging, 1992, https://doi.org/10.1137/0330046). The losses are those of the
            updates.
        random_state: Seed of split, order and initial weights, a generator that draws one, or None: another each time.
        precision: 64-true or 32-true, that of the weights and the updates.
        engine: autograd, fused, or auto.
        warm_start: Whether ``fit`` continues where the last one ended, with its optimiser, order and standardised
            units.

    Attributes:
        coef_: Coefficients of a linear function in original units, shape (D,), or (K, D) for targets of shape (N, K).
        intercept_: The intercept, or one for each target, shape (K,).
        n_iter_: Epochs of the last fit.
        loss_curve_: Train loss after each of them, without penalties.
        validation_curve_: Validation loss after each of them; empty if no samples are held out.
        best_epoch_: The epoch of the fit whose weights are used: with early_stopping, that of the lowest loss, else the
            last one.
        history_: A :class:`~gd_lightning.History` of the last fit.
        network_: The network, a torch module; its input are standardised features, and its output standardised
            targets, where ``standardize`` says so.
        n_features_in_: D.
        feature_names_in_: Names of the features, if X is a data frame.

    Example:
        >>> import numpy as np
        >>> X = np.arange(20.0).reshape(10, 2) % 7
        >>> model = GradientDescentRegressor(epochs=500).fit(X, X @ [1.0, -2.0] + 3.0)
        >>> model.coef_.round(6).tolist(), round(model.intercept_, 6)
        ([1.0, -2.0], 3.0)
    """

    def __init__(
        self,
        batch_size: BatchSize = "full",
        lr: float = 0.1,
        epochs: int = 100,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        l1: float = 0.0,
        loss: Loss = "mse",
        huber_delta: float = HUBER_DELTA,
        hidden_sizes: Sequence[int] = (),
        activation: Activation = "relu",
        bias: bool = True,
        dropout: float = 0.0,
        initialization: Scheme | Mapping[str, Any] = "auto",
        network: nn.Module | Callable[[int, int], nn.Module] | None = None,
        optimizer: str | ClassSpec | None = None,
        lr_scheduler: str | ClassSpec | None = None,
        order: Order = "shuffled",
        drop_last: bool = False,
        standardize: Standardized | bool = "both",
        val_size: float = 0.0,
        early_stopping: bool = False,
        patience: int = 10,
        min_delta: float = 0.0,
        average: bool = False,
        random_state: int | np.random.RandomState | None = 0,
        precision: str = "64-true",
        engine: EngineChoice = "auto",
        warm_start: bool = False,
    ) -> None:
        self.batch_size, self.lr, self.epochs = batch_size, lr, epochs
        self.momentum, self.nesterov, self.weight_decay, self.l1 = momentum, nesterov, weight_decay, l1
        self.loss, self.huber_delta, self.hidden_sizes, self.activation = loss, huber_delta, hidden_sizes, activation
        self.bias, self.dropout, self.initialization, self.network = bias, dropout, initialization, network
        self.optimizer, self.lr_scheduler, self.order, self.drop_last = optimizer, lr_scheduler, order, drop_last
        self.standardize, self.val_size, self.early_stopping = standardize, val_size, early_stopping
        self.patience, self.min_delta, self.average, self.random_state = patience, min_delta, average, random_state
        self.precision, self.engine, self.warm_start = precision, engine, warm_start

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> GradientDescentRegressor:  # noqa: N803
        """Train on samples.

        Args:
            X: Features, shape (N, D).
            y: Targets, shape (N,) or (N, K).
            sample_weight: Weights of the samples, shape (N,): the loss is the weighted mean, of a batch the mean of
                ``weight / mean weight`` times the loss of each sample. A sample of weight 0 is left out.

        Raises:
            InputError: A parameter is invalid, or the train loss diverges.
        """
        return self._fit(X, y, sample_weight, goes_on=self.warm_start and self.__sklearn_is_fitted__())

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> GradientDescentRegressor:  # noqa: N803
        """Train one more epoch on these samples; if they are fewer than ``batch_size``, it is one update.

        The first call standardises features and targets by its samples, and later ones take the same units.

        Args:
            X: Features, shape (N, D).
            y: Targets, shape (N,) or (N, K).
            sample_weight: See :meth:`fit`.

        Raises:
            InputError: A parameter is invalid, or the train loss diverges.
        """
        return self._fit(X, y, sample_weight, goes_on=self.__sklearn_is_fitted__(), is_partial=True)

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """Return predictions, with shape (N,) or (N, K) like the targets.

        Args:
            X: Features, shape (N, D).
        """
        if not self.__sklearn_is_fitted__():
            raise NotFittedError(f"cannot predict, because {type(self).__name__} is not fitted yet; call fit first")
        x = torch.tensor(validated(self, X, reset=False))
        predicted: NDArray[Any] = self._learner.predict(x).double().numpy()
        return predicted if self._has_columns else predicted[:, 0]

    @property
    def history_(self) -> History:
        """The history of the last fit: a row for its start and one for each epoch."""
        if not self.__sklearn_is_fitted__():
            raise AttributeError(f"{type(self).__name__} has no history before it is fitted")
        return self._curves.history(self._samples_per_epoch)

    @property
    def network_(self) -> nn.Module:
        """The network, with the parameters used for predictions."""
        if not self.__sklearn_is_fitted__():
            raise AttributeError(f"{type(self).__name__} has no network before it is fitted")
        return self._learner.predictor

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_learner")

    def _fit(self, x: Any, y: Any, weights: Any, goes_on: bool, is_partial: bool = False) -> GradientDescentRegressor:
        """Train a new network, or continue with the existing one."""
        self._check(is_partial)
        samples, self._has_columns = self._samples(x, y, weights, reset=not goes_on)
        seed = self.__dict__["_learner"].seed if goes_on else self._seed()
        train: WeightedSamples = samples
        held_out: WeightedSamples | None = None
        if self.val_size and not is_partial:
            rows, held, _ = split_rows(len(samples.x), self.val_size, 0, seed)
            train, held_out = samples.subset(rows), samples.subset(held)
        options = self._options(samples.x.shape[1], samples.y.shape[1])
        with GivenClasses(options, self.network).refusals_in_a_run():
            # If fit fails, the estimator counts as not fitted.
            learner: Learner = self.__dict__.pop("_learner") if goes_on else self._new_learner(options, train, seed)
            if goes_on:
                learner.change(options)
            epochs = self._epochs(len(train.x), seed, is_partial)
            train, held_out = learner.taken(train), None if held_out is None else learner.taken(held_out)
            if not goes_on:
                learner.try_training(train, epochs.variant, epochs.count)
            lowest = LowestLoss(learner.network, self.patience, self.min_delta) if self.early_stopping else None
            self._curves = train_epochs(learner, train, epochs, held_out, lowest, self.average)
        self._samples_per_epoch = epochs.variant.samples_per_epoch
        self._learner = learner
        self._note()
        return self

    def _check(self, is_partial: bool) -> None:
        """Refuse invalid parameters that the module does not check."""
        if self.order not in ORDERS:
            raise InputError(f"order {self.order!r} is unknown; use one of {', '.join(ORDERS)}")
        if self.precision not in _PRECISIONS:
            raise InputError(f"precision {self.precision!r} is unknown; use one of {', '.join(_PRECISIONS)}")
        for name in ("epochs", "patience"):
            if not isinstance(value := as_python(getattr(self, name)), int) or value < 1:
                raise InputError(f"cannot fit with {name} {value!r}; use a whole number from 1")
        if self.early_stopping and is_partial:
            raise InputError(
                "cannot stop a partial_fit early, because it is one epoch, and the next may have other samples; set "
                "early_stopping to False, or use fit"
            )
        if self.early_stopping and self.average:
            raise InputError(
                "cannot average with early_stopping, because the mean has no loss of its own to stop by; set one of "
                "them to False"
            )

    def _samples(self, x: Any, y: Any, weights: Any, reset: bool) -> tuple[WeightedSamples, bool]:
        """Return the samples that have a weight, and whether the targets are columns."""
        features, targets = validated_pair(self, x, y, reset)
        has_columns = targets.ndim == 2
        samples = WeightedSamples(torch.tensor(features), torch.tensor(targets if has_columns else targets[:, None]))
        if weights is None:
            return samples, has_columns
        given = torch.tensor(validated_weights(weights, len(features)))[:, None]
        rows = given[:, 0].nonzero()[:, 0]
        return samples._replace(weights=given / given[rows].mean()).subset(rows), has_columns

    def _seed(self) -> int:
        state = self.random_state
        if state is None or isinstance(state, np.random.RandomState):
            return int(check_random_state(state).randint(2**31 - 1))
        return int(state)

    def _options(self, in_features: int, out_features: int) -> dict[str, Any]:
        """Return the options of a module, checked."""
        given = {name: getattr(self, name, None) for name in OPTIONS}
        given |= {"hidden_sizes": list(self.hidden_sizes), "in_features": in_features, "out_features": out_features}
        return plain_options(given)

    def _new_learner(self, options: dict[str, Any], samples: WeightedSamples, seed: int) -> Learner:
        asked, centred = standardized_by(self.standardize, "both"), options["bias"]
        features, targets = (
            standardization(values, samples.weights, centred) if asked in ("both", part) else None
            for part, values in (("features", samples.x), ("targets", samples.y))
        )
        network = copy.deepcopy(self.network) if isinstance(self.network, nn.Module) else self.network
        return Learner(options, features, targets, network, seed, _PRECISIONS[self.precision])

    def _epochs(self, samples: int, seed: int, is_partial: bool) -> Epochs:
        size = self.batch_size
        if is_partial and size != "full":
            size = min(size, samples)
        variant = Variant.of(size, samples, self.drop_last and not is_partial)
        return Epochs(1 if is_partial else as_python(self.epochs), variant, self.order, seed, self.engine)

    def _note(self) -> None:
        """Set the attributes of a fitted estimator."""
        curves, affine = self._curves, self._learner.affine()
        self.n_iter_ = len(curves.epoch) - 1
        self.loss_curve_, self.validation_curve_ = curves.train_loss[1:], curves.val_loss[1:]
        self.best_epoch_ = curves.best
        if affine is None:
            return
        weight = affine.weight.double().numpy()
        bias = np.zeros(len(weight)) if affine.bias is None else affine.bias.double().numpy()
        self.coef_ = weight.copy() if self._has_columns else weight[0].copy()
        self.intercept_: NDArray[Any] | float = bias.copy() if self._has_columns else float(bias[0])
