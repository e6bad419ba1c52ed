"""Weights, checkpoints and continued runs of a ``LightningModule`` whose network is made for the data (layer 4)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from gd_lightning.errors import InputError
from gd_lightning.lightning_internals import judge_as_without_stop
from gd_lightning.models import Standardize
from gd_lightning.module.checkpoints import (
    check_callbacks,
    check_optimizers,
    checkpoint_path,
    drop_functions,
    refuse_other_options,
    sizes_in,
)
from gd_lightning.module.network import NetworkFactory, NetworkModule
from gd_lightning.module.resume import resume_position, save_position, settle_position
from gd_lightning.tracking.checkpoint_file import read_checkpoint
from gd_lightning.tracking.checkpoint_schema import check_checkpoint, check_continuable, damage_told
from gd_lightning.tracking.schema import MismatchError

_GIVEN_NETWORK, _COLUMNS = "given_network", "gd_lightning_columns"  # keys of checkpoints
_Module = TypeVar("_Module", bound="CheckpointedModule")


class WeightsError(InputError, RuntimeError):
    """Weights do not fit a module; torch raises a RuntimeError where they do not."""


class CheckpointedModule(NetworkModule):
    """A module that is saved to checkpoints, rebuilt from them, and continues a run exactly.

    Args:
        network: See :class:`~gd_lightning.RegressionModule`.
    """

    def __init__(self, network: nn.Module | NetworkFactory | None) -> None:
        super().__init__(network)
        self._resumed_from: dict[str, Any] | None = None
        self._stop_metrics: dict[str, Tensor] | None = None  # metrics when the run stopped within an epoch

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
        if mismatch := _weights_mismatch(self.state_dict(), state_dict, strict):
            raise WeightsError(f"cannot load these weights, because {mismatch}; give weights of such a model")
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
        checkpoint[_GIVEN_NETWORK] = None if not self.given_network else type(self.network).__name__
        checkpoint[_COLUMNS] = None if self.column_names is None else list(self.column_names)
        save_position(self.trainer, checkpoint, self._stop_metrics)
        drop_functions(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make network and standardising layers, in the precision of the checkpoint, so that its tensors can be loaded.

        Raises:
            InputError: The network was passed in, and is missing now; or a run is continued with other options; or the
                checkpoint is damaged.
        """
        if self._trainer is not None:  # without a Trainer, load_from_checkpoint has checked the checkpoint
            self._check_for_trainer(checkpoint)
        match checkpoint.get(_COLUMNS):
            case [list(features), list(targets)]:
                self.column_names = features, targets
        given = checkpoint.get(_GIVEN_NETWORK)
        if given is not None and not self.given_network:
            raise InputError(
                f"cannot load this checkpoint, because it contains a network of your own, {given}; give network="
            )
        # A subclass need not take the sizes as arguments; they are known all the same.
        sizes = sizes_in(checkpoint)
        if self._makes_network and any(self.hparams[name] not in (None, size) for name, size in sizes.items()):
            # The network and its layers were made for the columns of the current data.
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
        with damage_told(checkpoint_path(self._trainer)):
            if mismatch := _weights_mismatch(self.state_dict(), state, self.strict_loading):
                raise MismatchError(mismatch)
        if self.trainer.precision == "64-true":
            self.double()  # Lightning loads before it converts, which would round the weights of a given network

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


def _weights_mismatch(own: Mapping[str, Any], given: Mapping[str, Any], strict: bool) -> str:
    """Return how weights differ from those of a module, as a part of a sentence; "" if they match.

    Args:
        own: ``state_dict()`` of the module.
        given: The weights.
        strict: Whether all weights must be given, and no others.
    """
    for name, value in own.items():
        if name not in given:
            if strict:
                return f"the weights {name} are missing"
        elif isinstance(value, Tensor):
            other = given[name]
            if not isinstance(other, Tensor):
                return f"the weights {name} are not a tensor"
            if other.shape != value.shape:
                return f"the weights {name} are of shape {tuple(other.shape)}, and the model has {tuple(value.shape)}"
            if other.is_floating_point() != value.is_floating_point() or other.is_complex() != value.is_complex():
                return f"the weights {name} are of type {other.dtype}, and the model has {value.dtype}"
    return f"the model has no weights {next(iter(set(given) - set(own)))}" if strict and set(given) - set(own) else ""
