"""Many runs as one batched torch computation, on any device: members with the same batch size run in lock step.

Letters: M members, O orders, N samples, C columns of the design, K outputs, B batch, P parameters.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gd_lightning.engine.many.population import Ends, Members, Population, Progress, TrainingTask, say_nothing
from gd_lightning.engine.many.stacked import StackedNetwork, stacked
from gd_lightning.float64 import in_float64
from gd_lightning.losses import HUBER_DELTA, Loss
from gd_lightning.threads import one_thread_if

_WORTH_THREADS = 2**17  # outputs of the widest layer for all members, from which threads are used


class BatchedPopulation(Population):
    """Trains all members with the same batch size in lock step, with stacked parameters.

    Args:
        network: A chain of linear layers and activations; only its form is used.
        loss: The name of the loss.
        huber_delta: Absolute error at which the Huber loss becomes linear.

    Raises:
        InputError: The network is not a chain of linear layers and activations.
    """

    name: ClassVar[str] = "batched"
    numbers_at_once: int | None = None
    """Numbers of the widest layer computed at a time, over all members; None: 2^20 on a CPU, 2^26 on other devices."""
    numbers_in_orders: int = 2**27
    """Numbers held at a time of all samples, once in each order."""

    def __init__(self, network: nn.Module, loss: Loss = "mse", huber_delta: float = HUBER_DELTA) -> None:
        self._network = stacked(network, loss, huber_delta)

    @torch.no_grad()
    def train(
        self, task: TrainingTask, members: Members, progress: Progress = say_nothing, ends: Ends | None = None
    ) -> Ends:
        """Train all members to their ends."""
        ends = Ends.none(task, len(members)) if ends is None else ends
        design = self._network.design(task.x)
        at_once = max(1, self.numbers_in_orders // (design.numel() + task.y.numel()))
        for chosen in members.by_orders(at_once):
            self._train_together(task, members, chosen, design, ends, progress)
        return ends

    def _train_together(
        self,
        task: TrainingTask,
        members: Members,
        chosen: NDArray[np.int64],
        design: Tensor,
        ends: Ends,
        progress: Progress,
    ) -> None:
        """Train some members epoch by epoch; each order is computed once for all batch sizes."""
        orders, order_of = np.unique(members.order[chosen], return_inverse=True)
        samples, groups = torch.cat([design, task.y], dim=1), []
        for size in np.unique(members.batch_size[chosen]):
            here = members.batch_size[chosen] == size
            groups.append(
                _Group(self._network, task, members, chosen[here], order_of[here], design, ends, self.numbers_at_once)
            )
        for epoch in range(task.epochs):
            ordered = _in_orders(samples, [task.orders(int(seed), epoch, 1) for seed in orders])
            for group in groups:
                with one_thread_if(group.numbers < _WORTH_THREADS):
                    group.train_epoch(epoch, ordered, progress)
        for group in groups:
            group.leave()


def _in_orders(samples: Tensor, orders: list[Tensor | None]) -> Tensor:
    """Return the samples in each order, shape (O, N, C + K); O is 1 for the stored order."""
    if all(rows is None for rows in orders):
        return samples[None]
    stored_order = torch.arange(len(samples))
    rows = torch.stack([stored_order if each is None else each for each in orders])
    return samples[rows.to(samples.device)]


@dataclass(frozen=True)
class _State:
    """Settings and parameters of members, as tensors with one row per member."""

    lr: Tensor
    momentum: Tensor
    nesterov: Tensor
    weight_decay: Tensor
    l1: Tensor
    order_of: Tensor
    bound: Tensor
    theta: Tensor
    velocity: Tensor

    def __getitem__(self, rows: Tensor) -> _State:
        return _State(*(getattr(self, each.name)[rows] for each in fields(self)))


class _Group:
    """Members with the same batch size.

    Args:
        network: How predictions and gradients are computed.
        task: Data, starts, orders and limits that all members share.
        members: All members of the population.
        where: Indices of the members in the group.
        order_of: Index of the order of each of these.
        design: Input of the network, shape (N, C).
        ends: Receives the results.
        numbers_at_once: See :class:`BatchedPopulation`.
    """

    def __init__(
        self,
        network: StackedNetwork,
        task: TrainingTask,
        members: Members,
        where: NDArray[np.int64],
        order_of: NDArray[np.int64],
        design: Tensor,
        ends: Ends,
        numbers_at_once: int | None,
    ) -> None:
        self._numbers = numbers_at_once or (2**20 if design.device.type == "cpu" else 2**26)
        self._network, self._task, self._design, self._ends = network, task, design, ends
        self._where, own = where, members[where]
        self._variant = task.variant(own.batch_size[0])
        # A term that no member has is left out of the updates, which saves its time.
        self._has = {name: bool(getattr(own, name).any()) for name in ("momentum", "nesterov", "weight_decay", "l1")}
        self._is_weight = network.is_weight.to(design)

        def there(values: NDArray[Any], dtype: torch.dtype | None = None) -> Tensor:
            return torch.from_numpy(values).to(design.device, dtype)

        def column(values: NDArray[np.float64]) -> Tensor:
            return there(values, design.dtype)[:, None]

        theta = network.pack(task.starts.to(design)[there(own.start)])
        first = self._train_losses(theta)
        ends.losses[where, 0] = ends.last[where] = first
        self._state = _State(
            lr=column(own.lr),
            momentum=column(own.momentum),
            nesterov=there(own.nesterov)[:, None],
            weight_decay=column(own.weight_decay),
            l1=column(own.l1),
            order_of=there(order_of),
            bound=there(task.bounds(first)),
            theta=theta,
            velocity=torch.zeros_like(theta) if self._has["momentum"] else theta[:, :0],
        )
        self._views, self._made = network.views(theta), 0

    @property
    def numbers(self) -> int:
        """Numbers of the widest layer in an update of all members."""
        return len(self._where) * self._variant.batch_size * self._network.widest

    def train_epoch(self, epoch: int, ordered: Tensor, progress: Progress) -> None:
        """Make the updates of an epoch, and measure the train losses.

        Args:
            epoch: Index of the epoch, from 0.
            ordered: The samples in each order, shape (O, N, C + K), or in one for all.
            progress: Is told how many updates were made.
        """
        variant, checks = self._variant, set(self._task.checks(self._variant, self._made))
        newest = worst = self._zeros()
        for update in range(variant.updates_per_epoch):
            if not len(self._where):
                return
            newest = self._update(ordered[:, variant.samples_at(update) : variant.samples_at(update + 1)])
            self._made += 1
            if checks:
                worst = torch.maximum(worst, newest)  # torch.maximum keeps nan
            if update + 1 in checks:
                worst = self._look(worst, newest)
        progress(variant.updates_per_epoch * len(self._where))
        losses = self._train_losses(self._state.theta)
        self._ends.losses[self._where, epoch + 1] = losses
        self._leave_losses(losses, newest)

    def leave(self) -> None:
        """Store the parameters of the members that are still in the group."""
        self._ends.parameters[self._where] = self._network.unpack(self._state.theta).to(self._ends.parameters)

    def _update(self, batch: Tensor) -> Tensor:
        """Make an update of all members, from their batch in each order; returns their batch losses, shape (M,)."""
        state = self._state
        loss, gradient = self._descent(batch)
        if self._has["l1"]:
            gradient = gradient + state.l1 * (state.theta.sign() * self._is_weight)
        if self._has["weight_decay"]:
            gradient = gradient + state.weight_decay * state.theta
        if self._has["momentum"]:
            velocity = state.velocity.mul_(state.momentum).add_(gradient)
            if self._has["nesterov"]:
                gradient = torch.where(state.nesterov, gradient + state.momentum * velocity, velocity)
            else:
                gradient = velocity
        state.theta.addcmul_(state.lr, gradient, value=-1)
        return loss

    def _descent(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Return batch losses, shape (M,), and gradients, shape (M, P), in parts that fit in memory."""
        network, at_once = self._network, self._at_once()
        total = batch.shape[1] * self._task.y.shape[1]
        if batch.shape[1] <= at_once:
            return network.descent(self._views, *network.split(self._of_members(batch)), total)
        loss, gradient = self._zeros(), torch.zeros_like(self._state.theta)
        for part in batch.split(at_once, dim=1):
            more_loss, more_gradient = network.descent(self._views, *network.split(self._of_members(part)), total)
            loss, gradient = loss + more_loss, gradient + more_gradient
        return loss, gradient

    def _of_members(self, batch: Tensor) -> Tensor:
        """Return the batch of each member, from those in all orders."""
        return (
            batch.expand(len(self._where), -1, -1) if len(batch) == 1 else batch.index_select(0, self._state.order_of)
        )

    def _train_losses(self, theta: Tensor) -> NDArray[np.float64]:
        """Return the train losses, shape (M,)."""
        total = in_float64(torch.zeros(len(theta), device=theta.device))
        network, views = self._network, self._network.views(theta)
        for part in zip(*(values.split(self._at_once()) for values in (self._design, self._task.y)), strict=True):
            x, y = (values.expand(len(theta), -1, -1) for values in part)
            total += network.elements(in_float64(network.predictions(views, x)), in_float64(y)).sum(dim=(1, 2))
        losses: NDArray[np.float64] = (total / self._task.y.numel()).cpu().numpy()
        return losses

    def _at_once(self) -> int:
        """Return the number of samples processed at a time for all members."""
        return max(1, self._numbers // (max(1, len(self._where)) * self._network.widest))

    def _zeros(self) -> Tensor:
        return self._design.new_zeros(len(self._where))

    def _look(self, worst: Tensor, newest: Tensor) -> Tensor:
        """End members that have diverged within an epoch.

        A large batch loss is not proof of divergence, but a reason to measure the train loss.

        Args:
            worst: Largest batch loss of each member since the last check, shape (M,).
            newest: Latest batch loss of each member, shape (M,).

        Returns:
            The initial value of ``worst`` for the next check.
        """
        suspect = (~(worst.double() <= self._state.bound)).cpu().numpy()
        if suspect.any():
            losses = self._train_losses(self._state.theta)
            self._leave_losses(np.where(suspect, losses, self._ends.last[self._where]), newest)
        return self._zeros()

    def _leave_losses(self, losses: NDArray[np.float64], newest: Tensor) -> None:
        """Store train losses, and remove diverged members from the group, unless they are to continue."""
        network, ends, where = self._network, self._ends, self._where
        is_sound = (torch.from_numpy(losses).to(newest.device) <= self._state.bound) & newest.isfinite()
        ends.last[where], ends.updates[where] = losses, self._made
        ends.diverged[where] = ~is_sound.cpu().numpy()
        if not self._task.stops or bool(is_sound.all()):
            return
        ends.parameters[where] = network.unpack(self._state.theta).to(ends.parameters)
        self._where, self._state = where[~ends.diverged[where]], self._state[is_sound]
        self._views = network.views(self._state.theta)
