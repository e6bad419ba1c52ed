"""The conditions on which the choice of an engine depends, compared at every epoch (layer 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from torch.optim import Optimizer

from gd_lightning.lightning_internals import callbacks_of, skips_backward
from gd_lightning.torch_internals import contents, has_global_hooks, has_gradient_hooks, has_hooks

_OPTIONS = ("loss", "huber_delta", "l1")
_SETTINGS = ("momentum", "dampening", "nesterov", "maximize", "differentiable", "weight_decay")
_TRAINED = ("network", "standardize", "standardize_targets")
_SIMPLE = frozenset((bool, int, float, str))


class Conditions:
    """The state of Trainer and module on which the choice of an engine depends, captured when it was made.

    Values that an engine reads at each call are not included: parameters, learning rates, momentum buffers.

    Args:
        trainer: The Trainer.
        module: The module that it trains.
        replaceable: Names of methods that may be replaced on the instance of the module.
    """

    def __init__(self, trainer: Trainer, module: LightningModule, replaceable: tuple[str, ...]) -> None:
        # References are held, so that a later object cannot get the same id.
        self._objects: list[object] = []
        self._values: list[object] = []
        self._add_trainer(trainer)
        self._add_module(vars(module), module.hparams, replaceable)
        for optimizer in trainer.optimizers:
            self._add_optimizer(optimizer)

    def hold(self, now: Conditions) -> bool:
        """Whether nothing has changed."""
        return self._values == now._values and list(map(id, self._objects)) == list(map(id, now._objects))

    def _add_trainer(self, trainer: Trainer) -> None:
        self._objects += [trainer.train_dataloader, *callbacks_of(trainer, Callback)]
        for config in trainer.lr_scheduler_configs:
            self._objects.append(config.scheduler)
            self._values += [config.interval, config.frequency, config.reduce_on_plateau]
        self._values += [
            trainer.accumulate_grad_batches,
            trainer.gradient_clip_val,
            skips_backward(trainer),
            torch.is_anomaly_enabled(),
            has_global_hooks(),
        ]

    def _add_module(self, own: Mapping[str, Any], options: Mapping[str, Any], replaceable: tuple[str, ...]) -> None:
        self._objects += [own[name] for name in replaceable if name in own]
        self._values += [own["_automatic_optimization"], has_hooks(own), *(options[name] for name in _OPTIONS)]
        modules, *_ = contents(own)
        parts = [modules.get(name, own.get(name)) for name in _TRAINED]
        while parts:
            part = parts.pop()
            self._objects.append(part)
            if part is not None:
                parts += self._add_part(vars(part))

    def _add_part(self, own: Mapping[str, Any]) -> list[nn.Module]:
        """Add a submodule of the network; returns its children."""
        modules, parameters, buffers = contents(own)
        self._objects += [own.get("forward"), *buffers.values(), *parameters.values()]
        self._values.append(has_hooks(own))
        # A network that can be fused has no dropout, so training and evaluation mode make no difference to it.
        self._values += [value for name, value in own.items() if type(value) in _SIMPLE and name != "training"]
        for parameter in parameters.values():
            if parameter is not None:
                self._values += [parameter.requires_grad, parameter.shape, parameter.dtype, parameter.device]
                self._values.append(has_gradient_hooks(parameter))
        return list(modules.values())

    def _add_optimizer(self, optimizer: Optimizer) -> None:
        own = vars(optimizer)
        self._objects += [optimizer, own.get("step")]
        self._values.append(has_hooks(own))
        for group in optimizer.param_groups:
            self._objects += group["params"]
            self._values += [group.get(name) for name in _SETTINGS]
