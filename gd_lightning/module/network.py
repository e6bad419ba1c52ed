"""The base of the ``LightningModule``, without a loss: its network, made for the data, and its checkpoints (layer 4).

Letters: B samples of a batch, D features, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from gd_lightning.affine import Affine
from gd_lightning.errors import InputError
from gd_lightning.lightning_internals import ModuleWithQuickHooks, judge_as_without_stop
from gd_lightning.losses import check_prediction, check_shapes
from gd_lightning.models import LinearRegressor, Standardize, from_seed, initialize
from gd_lightning.module.checkpoints import (
    check_callbacks,
    check_optimizers,
    check_read_checkpoints,
    checkpoint_path,
    drop_functions,
    refuse_other_options,
    sizes_in,
)
from gd_lightning.module.initial_weights import Start, in_original_units, plain_network, set_start
from gd_lightning.module.resume import resume_position, save_position, settle_position
from gd_lightning.module.trainer_checks import check_early_copies, check_trainer, check_validation
from gd_lightning.random_numbers import start_seed
from gd_lightning.tracking.checkpoint_file import read_checkpoint
from gd_lightning.tracking.checkpoint_schema import check_checkpoint, check_continuable, check_weights, weights_mismatch
from gd_lightning.variants import Variant

_GIVEN_NETWORK, _COLUMNS = "given_network", "gd_lightning_columns"  # keys of checkpoints
NetworkFactory = Callable[[int, int], nn.Module]
_Module = TypeVar("_Module", bound="NetworkModule")


class WeightsError(InputError, RuntimeError):
    """Weights do not fit a module; torch raises a RuntimeError where they do not."""


class NetworkModule(ModuleWithQuickHooks):
    """A module whose network is made once data or a checkpoint provide the numbers of features and outputs.

    Its hyperparameters are those of :class:`~gd_lightning.RegressionModule`, which adds loss and training.

    Args:
        network: As :class:`~gd_lightning.RegressionModule` takes it.
    """

    def __init__(self, network: nn.Module | NetworkFactory | None) -> None:
        super().__init__()
        if not (network is None or callable(network)):
            raise InputError(f"cannot use {network!r} as network; give a module, or a class or function that makes one")
        self._given_network = network is not None
        self._makes_network = not isinstance(network, nn.Module)
        self._make_network = None if isinstance(network, nn.Module) else network
        self._configured = False
        self._start: Start | None = None
        self.column_names: tuple[list[str], list[str]] | None = None
        """Names of the features and the targets that it was trained on, where the data have names."""
        self._resumed_from: dict[str, Any] | None = None
        self._stop_metrics: dict[str, Tensor] | None = None  # where the run stopped within an epoch
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
            made = self._make_network(in_features, out_features)
            if not isinstance(made, nn.Module):
                raise InputError(
                    f"cannot train {made!r}, because it is no module; let network return a torch.nn.Module"
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
            if fits and not self._given_network:
                self.to(torch.get_default_dtype())  # it may have trained in another precision
        layers = {"features": self.standardize, "targets": self.standardize_targets}
        for part in sorted(getattr(data, "standardized_parts", ())) if fits and self.network is not None else ():
            if layers[part] is None:
                raise InputError(
                    f"cannot standardize for this model, because its weights are those of {part} as they are; set "
                    "standardize to none, or make a new module"
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
            # Weights that were loaded or set belong to features that are not standardised.
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
        if self.network is not None and next(self.network.parameters(), None) is None:
            raise InputError(
                f"cannot train {type(self.network).__name__}, because it has no parameters; give a network that has "
                "some"
            )
        if self.network is not None and any(map(is_lazy, self.network.parameters())):
            raise InputError(
                f"cannot train {type(self.network).__name__}, because it has parameters without sizes; give a network "
                "that knows them before it is called"
            )
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
        # Features may come in another precision: in float64 to be standardised, or of a picture, outside of a Trainer.
        if self.standardize is not None:
            return self.standardize.standardized(x).to(x.device, self._own_dtype(x))
        return x.to(self._own_dtype(x)) if x.is_floating_point() else x

    def targets_of_network(self, y: Tensor) -> Tensor:
        """Return what the network is to return for targets y, or predictions, of shape (N, K) in original units."""
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

    # Weights and checkpoints

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

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load weights, also before training; later data then do not change the initial weights.

        Args:
            state_dict: State of a module with the same options.
            strict: Whether the names must match exactly, as in torch.
            assign: Whether to assign the tensors instead of copying their values, as in torch.

        Raises:
            WeightsError: The weights do not fit this module.
            InputError: The number of features is not known.
        """
        if self.network is None and any(name.startswith("network.") for name in state_dict):
            self.configure_for(None)
            if self.network is None:
                raise InputError(
                    "cannot load weights before the network is made; give the model in_features and out_features, or "
                    "use RegressionModule.load_from_checkpoint"
                )
        self._take_standardization(state_dict)
        self._start, self._configured = None, self.network is not None
        if mismatch := weights_mismatch(self.state_dict(), state_dict, strict):
            raise WeightsError(f"cannot load these weights, because {mismatch}; give those of such a model")
        return super().load_state_dict(state_dict, strict, assign)

    def _take_standardization(self, state: Mapping[str, Any]) -> None:
        """Make the standardising layers that the state contains; their values are loaded with the state."""
        for name in ("standardize", "standardize_targets"):
            mean, scale = state.get(f"{name}.mean"), state.get(f"{name}.scale")
            if getattr(self, name) is None and isinstance(mean, Tensor) and isinstance(scale, Tensor):
                setattr(self, name, Standardize(mean.clone(), scale.clone()))

    @classmethod
    def load_from_checkpoint(
        cls: type[_Module],
        checkpoint_path: Any,
        map_location: Any = None,
        hparams_file: Any = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        **kwargs: Any,
    ) -> _Module:
        """Return the module of a checkpoint, as Lightning does.

        Args:
            checkpoint_path: Path of a local checkpoint file, or an open file.
            map_location: Device of the tensors, as in ``torch.load``.
            hparams_file: A file with hyperparameters to use instead of the saved ones.
            strict: Whether the names of the weights must match exactly.
            weights_only: False for a trusted file with more than plain values and tensors.
            kwargs: Arguments that replace saved ones.

        Raises:
            InputError: The checkpoint cannot be read, or a required entry is missing or invalid.
        """
        if isinstance(checkpoint_path, (str, Path)) and weights_only is not False:
            check_checkpoint(read_checkpoint(Path(checkpoint_path)), Path(checkpoint_path))
        loaded = super().load_from_checkpoint(
            checkpoint_path, map_location, hparams_file, strict, weights_only, **kwargs
        )
        assert isinstance(loaded, cls)
        return loaded

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the position of the run, and whether the network was passed in, so that it cannot be rebuilt."""
        checkpoint[_GIVEN_NETWORK] = None if not self._given_network else type(self.network).__name__
        checkpoint[_COLUMNS] = None if self.column_names is None else list(self.column_names)
        save_position(self.trainer, checkpoint, self._stop_metrics)
        drop_functions(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make network and standardising layers, in the precision of the checkpoint, so that its tensors can be loaded.

        Raises:
            InputError: The network was passed in, and is missing now; or a run is continued with other options; or the
                checkpoint is damaged.
        """
        if self._trainer is not None:  # else load_from_checkpoint has checked it, and added what it was given
            self._check_for_trainer(checkpoint)
        match checkpoint.get(_COLUMNS):
            case [list(features), list(targets)]:
                self.column_names = features, targets
        given = checkpoint.get(_GIVEN_NETWORK)
        if given is not None and not self._given_network:
            raise InputError(
                f"cannot load this checkpoint, because it holds a network of your own, {given}; give network="
            )
        # A subclass need not take the sizes as arguments; they are known all the same.
        sizes = sizes_in(checkpoint)
        if self._makes_network and any(self.hparams[name] not in (None, size) for name, size in sizes.items()):
            # They were made for the columns that the data have now.
            self.network = self.standardize = self.standardize_targets = None
            self._configured = False
            data: Any = getattr(self._trainer, "datamodule", None)
            if _COLUMNS not in checkpoint and hasattr(data, "take_row_numbers"):
                self.column_names = None
                data.take_row_numbers()
        self.hparams.update(sizes)
        self.configure_model()
        state = checkpoint["state_dict"]
        self._take_standardization(state)
        floating = [p.dtype for name, p in state.items() if p.is_floating_point() and name.startswith("network.")]
        if self._trainer is None:
            if floating:
                self.to(floating[0])
            return
        check_weights(self.state_dict(), state, self.strict_loading, checkpoint_path(self._trainer))
        if self.trainer.precision == "64-true":
            self.double()  # Lightning loads before it converts, which rounds what a network that was given takes

    def _check_for_trainer(self, checkpoint: dict[str, Any]) -> None:
        """Check the checkpoint that a Trainer has read; if the run continues, prepare to resume it exactly."""
        path = checkpoint_path(self.trainer)
        check_checkpoint(checkpoint, path)
        check_callbacks(self.trainer, checkpoint)
        if self.trainer.state.fn == "fit":
            check_continuable(checkpoint, path)
            data = getattr(self.trainer, "datamodule", None)
            refuse_other_options(checkpoint, self.hparams, getattr(data, "hparams", {}))
            settle_position(checkpoint)
            self._resumed_from = checkpoint

    def on_fit_start(self) -> None:
        """Check the states of optimisers and schedulers in the checkpoint, now that these exist.

        Raises:
            InputError: A state belongs to another optimiser or scheduler, or is damaged.
        """
        if self._resumed_from is not None:
            check_optimizers(self.trainer, self._resumed_from)

    def on_train_start(self) -> None:
        """Resume exactly where the checkpoint was written, and set up metrics so that this run can be resumed, too."""
        self._stop_metrics = None
        judge_as_without_stop(self.trainer, self._note_metrics)
        if self._resumed_from is not None:
            resume_position(self.trainer, self._resumed_from)
            self._resumed_from = None

    def _note_metrics(self) -> None:
        self._stop_metrics = dict(self.trainer.callback_metrics)
