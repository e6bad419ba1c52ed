"""The base of the ``LightningModule``, without a loss: its network, which is made for the data (layer 4).

Letters: B samples of a batch, D features, K outputs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from gd_lightning.affine import Affine
from gd_lightning.errors import InputError
from gd_lightning.lightning_internals import ModuleWithQuickHooks
from gd_lightning.losses import check_prediction, check_shapes
from gd_lightning.models import LinearRegressor, Standardize, from_seed, initialize
from gd_lightning.module.checkpoints import check_read_checkpoints
from gd_lightning.module.initial_weights import Start, in_original_units, plain_network, set_start
from gd_lightning.module.trainer_checks import check_early_copies, check_trainer, check_validation
from gd_lightning.random_numbers import start_seed
from gd_lightning.variants import Variant

NetworkFactory = Callable[[int, int], nn.Module]


class NetworkModule(ModuleWithQuickHooks):
    """A module whose network is made once data or a checkpoint provide the numbers of features and outputs.

    Its hyperparameters are those of :class:`~gd_lightning.RegressionModule`, which adds loss and training.

    Args:
        network: See :class:`~gd_lightning.RegressionModule`.
    """

    def __init__(self, network: nn.Module | NetworkFactory | None) -> None:
        super().__init__()
        if not (network is None or callable(network)):
            raise InputError(f"cannot use {network!r} as network; give a module, or a class or function that makes one")
        self.given_network = network is not None
        """Whether the network is one of the user's, or made by what is."""
        self._makes_network = not isinstance(network, nn.Module)
        self._make_network = None if isinstance(network, nn.Module) else network
        self._configured = False
        self._start: Start | None = None
        self.column_names: tuple[list[str], list[str]] | None = None
        """Names of the features and the targets that it was trained on, where the data have names."""
        self.network: nn.Module | None = network if isinstance(network, nn.Module) else None
        self.standardize: Standardize | None = None
        self.standardize_targets: Standardize | None = None
        """What standardises the targets that the network is trained on; predictions are in original units."""

    # The network

    def build_network(self, in_features: int, out_features: int) -> nn.Module:
        """Return the network; override this for your own network, and its checkpoints load without arguments.

        Args:
            in_features: D.
            out_features: K.

        Returns:
            A module from (B, D) to (B, K).
        """
        options = self.hparams
        if self._make_network is not None:
            _check_arguments(self._make_network)
            made = self._make_network(in_features, out_features)
            if not isinstance(made, nn.Module):
                raise InputError(
                    f"cannot train {made!r}, because it is not a module; let network return a torch.nn.Module"
                )
            return made
        return plain_network(options, in_features, out_features)

    def configure_model(self) -> None:
        """Make the network, unless it exists: Lightning calls this after the set-up of data and callbacks.

        Raises:
            InputError: The number of features is not known, or a callback copied the module before its network was
                made.
        """
        trainer = self._trainer
        late = self.network is None
        self.configure_for(getattr(trainer, "datamodule", None))
        if trainer is None:
            return
        check_read_checkpoints(trainer)
        if self.network is None:
            raise InputError(
                "cannot make the network, because the number of features is not known; train with a "
                "RegressionDataModule, or give in_features and out_features"
            )
        if late:
            check_early_copies(trainer, NetworkModule)

    def configure_for(self, data: Any) -> None:
        """Make the network for data, as a Trainer does before training.

        A RegressionDataModule calls this in its set-up, before that of the callbacks. A network with given sizes is
        made in the constructor; only the standardising layer and the initial weights are determined here.

        Args:
            data: A RegressionDataModule, or another that knows ``in_features`` and ``out_features``; None if the sizes
                were given.

        Raises:
            InputError: The sizes of network and data differ, the given initial weights do not fit, or the Trainer would
                change the algorithm of ``batch_size``.
        """
        self._take_sizes(data)
        trainer = self._trainer
        if trainer is None:
            self._configure(data)
            return
        fits = trainer.state.fn == "fit"
        if fits:
            check_trainer(trainer)
            if isinstance(variant := getattr(data, "variant", None), Variant):
                check_validation(trainer, variant)
        # Lightning sets the default dtype of the run around configure_model only.
        with trainer.precision_plugin.module_init_context():
            self._configure(data)
            if fits and not self.given_network:
                self.to(torch.get_default_dtype())  # the given network may have another precision
        layers = {"features": self.standardize, "targets": self.standardize_targets}
        for part in sorted(getattr(data, "standardized_parts", ())) if fits and self.network is not None else ():
            if layers[part] is None:
                raise InputError(
                    f"cannot standardize for this model, because its weights are for {part} that are not standardised; "
                    "set standardize to none, or make a new module"
                )

    def _take_sizes(self, data: Any) -> None:
        """Take D and K from data, and select columns of later data by the names that the weights belong to."""
        if self.column_names is None:
            self.column_names = getattr(data, "column_names", None)
        elif hasattr(data, "take_columns"):
            data.take_columns(*self.column_names)
        for name in ("in_features", "out_features"):
            there = getattr(data, name, None)
            if self.hparams[name] is None:
                self.hparams[name] = there
            elif there not in (None, self.hparams[name]):
                raise InputError(
                    f"cannot train a network of {name} {self.hparams[name]} on data with {there}; leave {name} out, or "
                    "make a new module for these data"
                )

    def _configure(self, data: Any) -> None:
        """Make network and standardising layer if missing, in the default dtype: Lightning sets it for the run."""
        dtype = torch.get_default_dtype()
        if self._start is not None and self.network is not None and self._start.is_left_by(self.network):
            # Weights that were loaded or set are for features that are not standardised.
            self._start, self._configured = None, True
        # Later data, such as a test set, do not change how this model standardises features.
        if not self._configured and hasattr(data, "standardization"):
            # Centring the features of a model without biases would force its prediction at their mean to 0.
            centred: dict[str, bool] = {} if self.hparams["bias"] else {"centred": False}
            self.standardize = data.standardization(**centred)
            if hasattr(data, "standardization_of_targets"):
                self.standardize_targets = data.standardization_of_targets(**centred)
        if self._start is not None and self.network is not None:
            self._start.draw_again(self.network, self._initialized_network)
        makes = self.network is None and None not in (self.hparams["in_features"], self.hparams["out_features"])
        if makes:
            self.network = from_seed(self._initialized_network, start_seed())
        if self.network is not None and (makes or self._start is not None):
            self.to(dtype)
            layers = self.standardize, self.standardize_targets
            set_start(self.network, self.hparams, *layers, getattr(data, "problem", None))
        for layer in (self.standardize, self.standardize_targets):
            if layer is not None:
                layer.to(dtype)
        if self.network is not None:
            check_network(self.network)
        is_settled = self.network is not None and (data is not None or self._trainer is not None)
        self._configured = self._configured or is_settled
        if self.network is None or is_settled:
            self._start = None
        elif makes or self._start is not None:
            self._start = Start(self.network)

    def _initialized_network(self) -> nn.Module:
        network = self.build_network(self.hparams["in_features"], self.hparams["out_features"])
        scheme = self.hparams["initialization"]
        if isinstance(scheme, str) and scheme != "auto":
            initialize(network, scheme)
        return network

    # Predictions

    def forward(self, x: Tensor) -> Tensor:
        """Predict from features x of shape (B, D); returns (B, K). Both are in original units.

        Of a model that standardises its targets, predictions are float64: in float32 those of targets with a mean far
        from 0 would lose digits.

        Raises:
            InputError: There is no network yet.
            ShapeError: The output of the network is not a tensor.
        """
        prediction = self.prediction_of_network(x)
        return prediction if self.standardize_targets is None else self.standardize_targets.original(prediction)

    def prediction_of_network(self, x: Tensor) -> Tensor:
        """Predict as the network does, which may be trained on standardised targets; see :meth:`forward`."""
        if self.network is None:
            raise InputError(
                "cannot predict before the network is made; train first, or give in_features and out_features"
            )
        prediction: Tensor = self.network(self.features_of_network(x))
        check_prediction(prediction)
        if self.standardize_targets is not None:
            check_shapes(prediction, prediction.new_empty(len(x), len(self.standardize_targets.scale)))
        return prediction

    def features_of_network(self, x: Tensor) -> Tensor:
        """Return the input of the network for features x of shape (N, D) in original units."""
        # Features may have another precision: float64 for standardising, or that of a picture drawn without a Trainer.
        if self.standardize is not None:
            return self.standardize.standardized(x).to(x.device, self._own_dtype(x))
        return x.to(self._own_dtype(x)) if x.is_floating_point() else x

    def targets_of_network(self, y: Tensor) -> Tensor:
        """Return targets y, or predictions, of shape (N, K) in original units, in the units of the network's output."""
        layer = self.standardize_targets
        return y if layer is None else layer.standardized(y).to(y.device, self._own_dtype(y))

    def _own_dtype(self, values: Tensor) -> torch.dtype:
        """Return the precision of the network; that of these values if it has no parameters."""
        assert self.network is not None
        return next((p.dtype for p in self.network.parameters() if p.is_floating_point()), values.dtype)

    def affine(self) -> Affine | None:
        """Return the parameters of a linear regressor in original units; None for other networks."""
        if not isinstance(self.network, LinearRegressor):
            return None
        return in_original_units(self.network.affine(), self.standardize, self.standardize_targets)

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the parameters with their names, as of any ``torch.nn.Module``.

        Raises:
            InputError: There is no network yet; an empty iterator would make callers fail silently.
        """
        empty = True
        for named in super().named_parameters(prefix, recurse, remove_duplicate):
            empty = False
            yield named
        if empty and recurse and self.network is None:
            raise InputError(
                "cannot use the parameters before the network is made; give the model in_features and out_features, or "
                "train with a RegressionDataModule first"
            )


def check_network(network: nn.Module) -> None:
    """Refuse a network that cannot be trained, whatever the data are.

    Raises:
        InputError: The network was compiled by torch.jit, or has no parameters, or they have no values or no sizes.
    """
    if isinstance(network, torch.jit.ScriptModule):  # its evaluation mode also differs from that of other modules
        raise InputError(
            f"cannot train {type(network).__name__}, because it was compiled by torch.jit, and its copies cannot be "
            "trained; give the network that it was made from"
        )
    if next(network.parameters(), None) is None:
        raise InputError(
            f"cannot train {type(network).__name__}, because it has no parameters; give a network with parameters"
        )
    if any(parameter.is_meta for parameter in network.parameters()):
        raise InputError(
            f"cannot train {type(network).__name__}, because its parameters are on the device meta, without values; "
            "give a network made on the CPU"
        )
    if any(map(is_lazy, network.parameters())):
        raise InputError(
            f"cannot train {type(network).__name__}, because it has parameters without sizes; give a network that "
            "knows them before it is called"
        )


def _check_arguments(make: NetworkFactory) -> None:
    """Refuse a class or function that does not take two numbers; one that tells no signature is called as it is."""
    try:
        signature = inspect.signature(make)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(1, 1)
    except TypeError as error:
        name = getattr(make, "__name__", type(make).__name__)
        raise InputError(
            f"cannot make a network by {name}, because it does not take the numbers of "
            f"features and outputs ({error}); give network a class or function that takes these two"
        ) from error
