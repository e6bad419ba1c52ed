"""Updates in compiled code: plain SGD of linear and multilayer-perceptron networks on the CPU, without autograd.

Letters: N samples, D features, K outputs, P parameters, R kept updates, L layers.
"""

from __future__ import annotations

import importlib.util
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from gd_lightning.engine.stretch import Engine, Keep, Stretch, Trace
from gd_lightning.errors import InputError, ShapeError
from gd_lightning.models.regressors import LinearRegressor, MLPRegressor
from gd_lightning.objective import Loss

_LINEAR = (nn.Linear, LinearRegressor)
_SEQUENTIAL = (nn.Sequential, MLPRegressor)
_ACTIVATIONS = (
    nn.Identity, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Softplus, nn.Sigmoid, nn.Tanh,
)  # fmt: skip
"""In the order of the kernels' codes."""
_HOOKS = (
    "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks",
    "_post_accumulate_grad_hooks", "_optimizer_step_pre_hooks", "_optimizer_step_post_hooks",
)  # fmt: skip
_PARALLEL_FROM = 1 << 18
"""Features in a batch from which on threads pay."""


def why_not_fused(network: nn.Module, optimizer: Optimizer) -> str:
    """Return why updates cannot be fused, fit to follow "because"; "" if they can be.

    Args:
        network: What is trained.
        optimizer: What trains it.

    Example:
        >>> network = nn.Linear(1, 1)
        >>> why_not_fused(network, torch.optim.Adam(network.parameters()))
        'Adam is not plain SGD'
    """
    if importlib.util.find_spec("numba") is None:
        return "numba is not installed (pip install 'gd-lightning[fast]')"
    return _why_not_network(network) or _why_not_optimizer(network, optimizer)


def _why_not_network(network: nn.Module) -> str:
    if type(network) not in _LINEAR + _SEQUENTIAL:
        return f"{type(network).__name__} is neither linear nor a multilayer perceptron"
    parts = [network] if type(network) in _LINEAR else [part for part in network if not _is_nothing(part)]
    for part in parts:
        if isinstance(part, nn.Dropout):
            return "the network has dropout"
        if type(part) not in _LINEAR + _ACTIVATIONS:
            return f"the network has a layer {type(part).__name__}, which is neither linear nor a known activation"
        if isinstance(part, nn.GELU) and part.approximate != "none":
            return "its GELU is approximate"
        if isinstance(part, nn.Softplus) and (part.beta, part.threshold) != (1, 20):
            return "its Softplus has settings of its own"
    linear = [type(part) in _LINEAR for part in parts]
    if (
        not linear
        or not linear[0]
        or not linear[-1]
        or not all(a or b for a, b in zip(linear, linear[1:], strict=False))
    ):
        return "the network does not start and end with a linear layer, with at most one activation between two"
    parameters = list(network.parameters())
    if sum(len(list(part.parameters())) for part in parts) != len(parameters):
        return "layers share a parameter"
    modules = list(network.modules())
    if any(getattr(owner, hooks, None) for owner in (*modules, *parameters) for hooks in _HOOKS):
        return "a hook is registered on the network"
    if any("forward" in vars(module) for module in modules):
        return "a forward was replaced"
    if not all(parameter.requires_grad for parameter in parameters):
        return "a parameter is frozen"
    if any(parameter.device.type != "cpu" for parameter in parameters):
        return f"the network is on {parameters[0].device}, not on the CPU"
    dtypes = {parameter.dtype for parameter in parameters}
    if len(dtypes) > 1 or not dtypes <= {torch.float32, torch.float64}:
        return f"the parameters are {' and '.join(sorted(map(str, dtypes)))}, neither float32 nor float64"
    return ""


def _is_nothing(part: nn.Module) -> bool:
    return type(part) is nn.Dropout and part.p == 0


def _why_not_optimizer(network: nn.Module, optimizer: Optimizer) -> str:
    if type(optimizer) is not SGD:
        return f"{type(optimizer).__name__} is not plain SGD"
    if any(getattr(optimizer, hooks, None) for hooks in _HOOKS):
        return "a hook is registered on the optimiser"
    group, *others = optimizer.param_groups
    own = list(network.parameters())
    if others or len(group["params"]) != len(own) or any(a is not b for a, b in zip(group["params"], own, strict=True)):
        return "the optimiser does not have exactly the network's parameters, in one group"
    for setting in ("dampening", "maximize", "differentiable"):
        if group[setting]:
            return f"SGD has {setting}"
    return ""


def work_of(network: nn.Module, batch_size: int) -> int:
    """Return how many multiplications with weights the predictions of an update take.

    Args:
        network: What is trained.
        batch_size: B.
    """
    return batch_size * sum(parameter.numel() for parameter in network.parameters() if parameter.ndim > 1)


class FusedEngine(Engine):
    """Carries out many updates in one call of compiled code (Numba), in the same precision as autograd would.

    Args:
        network: What is trained: recognised by :func:`why_not_fused`.
        optimizer: Its SGD; settings are read from it at each call, and momentum buffers are left in it.
        loss: Which loss is descended.
        huber_delta: Where the Huber loss turns linear.
        l1: Weight of the sum of absolute weights, biases left out, in what is descended.

    Raises:
        InputError: The updates cannot be fused.
    """

    name: ClassVar[str] = "fused"

    def __init__(
        self, network: nn.Module, optimizer: Optimizer, loss: Loss = "mse", huber_delta: float = 1.0, l1: float = 0.0
    ) -> None:
        reason = why_not_fused(network, optimizer)
        if reason:
            raise InputError(f"cannot fuse updates, because {reason}; use the autograd engine")
        # Only who makes this engine pays for the import of Numba, and needs it.
        from gd_lightning.engine import kernels

        self._kernels = kernels
        self._optimizer = optimizer
        self._loss, self._huber_delta, self._l1 = kernels.LOSSES.index(loss), float(huber_delta), float(l1)
        self._layers, self._shapes, self._places = _layout(network)
        in_place = bool((self._places == np.arange(len(self._places))).all())
        self._kernel_places = self._places[:0] if in_place else self._places

    def carry_out(self, stretch: Stretch) -> Trace:
        """Make the updates of a stretch; its rows, if there are any, are trusted to be rows of x."""
        keep, look = stretch.keep, stretch.look
        if not stretch.updates:
            return Trace(0, stretch.y.new_empty(0), suspicion=look.is_needed and look.suspicion)
        group = self._optimizer.param_groups[0]
        parameters: list[nn.Parameter] = group["params"]
        x, y, rows = self._samples(stretch, parameters[0].dtype)
        dtype = x.dtype
        theta = _flat([parameter.detach() for parameter in parameters])[self._places]
        buffers = _buffers(self._optimizer, parameters) if group["momentum"] else []
        velocity = _flat(buffers)[self._places] if buffers else np.empty(0, dtype)
        lrs = np.array([float(group["lr"])] if stretch.lrs is None else stretch.lrs, dtype)
        kept = _count(keep, stretch.updates)
        losses = np.empty(kept, dtype)
        kept_parameters = np.empty((kept if keep.parameters else 0, len(theta)), dtype)
        kept_gradients = np.empty((kept if keep.gradients else 0, len(theta)), dtype)
        arguments = (
            *(x, y, rows, theta, velocity, self._kernel_places, self._layers, np.array(self._shapes, dtype), lrs),
            *(self._span(stretch), self._rule(group), losses, kept_parameters, kept_gradients),
        )
        if len(self._layers) == 1 and stretch.variant.batch_size * x.shape[1] >= _PARALLEL_FROM:
            updates, kept, suspicion = self._in_threads(arguments)
        else:
            updates, kept, suspicion = self._kernels.carry_out(*arguments)
        self._write(theta, parameters)
        if buffers:
            self._write(velocity, buffers)
            for parameter, buffer in zip(parameters, buffers, strict=True):
                self._optimizer.state[parameter]["momentum_buffer"] = buffer
        if stretch.lrs is not None:
            group["lr"] = float(stretch.lrs[updates - 1])
        for parameter in parameters:
            parameter.grad = None
        # torch's schedulers warn unless they have seen a step.
        vars(self._optimizer)["_opt_called"] = True
        return Trace(
            updates,
            torch.from_numpy(losses[:kept]),
            torch.from_numpy(kept_parameters[:kept]) if keep.parameters and kept else None,
            torch.from_numpy(kept_gradients[:kept]) if keep.gradients and kept else None,
            suspicion,
        )

    def _samples(self, stretch: Stretch, dtype: torch.dtype) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]:
        """Give the kernels, which check nothing, arrays that they can read."""
        x, y, rows, samples = stretch.x, stretch.y, stretch.rows, stretch.variant.train_samples
        widths = int(self._layers[0, 0]), int(self._layers[-1, 1])
        if x.ndim != 2 or y.ndim != 2 or (x.shape[1], y.shape[1]) != widths or min(len(x), len(y)) < samples:
            raise ShapeError(
                f"a network from {widths[0]} features to {widths[1]} outputs cannot be trained on {samples} samples "
                f"with features of shape {tuple(x.shape)} and targets of shape {tuple(y.shape)}; they must be (N, D) "
                "and (N, K)"
            )
        if {x.dtype, y.dtype} != {dtype}:
            raise InputError(f"a network of {dtype} cannot be trained on {x.dtype} and {y.dtype}; convert the data")
        if rows is None:
            return x.contiguous().numpy(), y.contiguous().numpy(), np.empty(0, np.int64)
        if len(rows) < samples:
            raise InputError(f"{len(rows)} rows are no order of {samples} samples; give each sample once")
        return x.contiguous().numpy(), y.contiguous().numpy(), rows.contiguous().numpy()

    def _span(self, stretch: Stretch) -> object:
        keep, look, variant = stretch.keep, stretch.look, stretch.variant
        return self._kernels.Span(
            *(stretch.first, stretch.updates, variant.batch_size, variant.train_samples),
            *(keep.start, keep.every, keep.last),
            *(look.is_needed, look.start, look.every, float(look.bound), look.suspicion),
        )

    def _rule(self, group: dict[str, Any]) -> object:
        momentum, weight_decay = float(group["momentum"]), float(group["weight_decay"])
        return self._kernels.Rule(
            self._loss, self._huber_delta, self._l1, momentum, bool(group["nesterov"]), weight_decay
        )

    def _in_threads(self, arguments: tuple[Any, ...]) -> Any:
        """Use as many threads as torch does."""
        import numba

        before = numba.get_num_threads()
        numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
        try:
            return self._kernels.carry_out_large(*arguments)
        finally:
            numba.set_num_threads(before)

    def _write(self, numbers: NDArray[Any], tensors: list[Any]) -> None:
        flat = np.empty_like(numbers)
        flat[self._places] = numbers
        parts = torch.from_numpy(flat).split([tensor.numel() for tensor in tensors])
        with torch.no_grad():
            for tensor, part in zip(tensors, parts, strict=True):
                tensor.copy_(part.view_as(tensor))


def _layout(network: nn.Module) -> tuple[NDArray[np.int64], list[float], NDArray[np.int64]]:
    """Return the kernels' layers, shape (L, 7), the shapes of their activations, and where the numbers lie in torch."""
    layers: list[list[int]] = []
    shapes: list[float] = []
    places: list[NDArray[np.int64]] = []
    at = unit = 0
    parts = [network] if type(network) in _LINEAR else list(network.children())
    is_deep = sum(isinstance(part, nn.Linear) for part in parts) > 1
    for part in parts:
        if type(part) in _ACTIVATIONS:
            layers[-1][-1] = _ACTIVATIONS.index(type(part))
            shapes[-1] = float(getattr(part, "negative_slope", getattr(part, "alpha", 0.0)))
        elif isinstance(part, nn.Linear):
            outputs, inputs = part.weight.shape
            is_wide, has_bias, size = is_deep and outputs > inputs, part.bias is not None, outputs * inputs
            layers.append([inputs, outputs, at, at + size if has_bias else -1, unit, is_wide, 0])
            shapes.append(0.0)
            weight = np.arange(at, at + size).reshape(outputs, inputs)
            places += [(weight.T if is_wide else weight).ravel(), np.arange(at + size, at + size + outputs * has_bias)]
            at, unit = at + size + outputs * has_bias, unit + inputs
    return np.array(layers, np.int64), shapes, np.concatenate(places)


def _flat(tensors: list[Tensor]) -> NDArray[Any]:
    return torch.cat([tensor.reshape(-1) for tensor in tensors]).numpy()


def _buffers(optimizer: Optimizer, parameters: list[nn.Parameter]) -> list[Tensor]:
    """Return the momentum buffers; where there is none yet, zeros make the first step the gradient alone, as torch."""
    buffers = [optimizer.state[parameter].get("momentum_buffer") for parameter in parameters]
    return [
        torch.zeros_like(parameter, requires_grad=False) if buffer is None else buffer
        for parameter, buffer in zip(parameters, buffers, strict=True)
    ]


def _count(keep: Keep, updates: int) -> int:
    """Count the positions that are kept, without making a list of what can be millions."""
    positions = range(keep.start, updates, keep.every)
    return len(positions) + (keep.last and (not positions or positions[-1] != updates - 1))
