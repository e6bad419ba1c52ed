"""The engine of a run, chosen again whenever a condition of the choice has changed (layer 4)."""

from __future__ import annotations

import math
from typing import Any, cast

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from gd_lightning.engine import (
    AutogradEngine,
    Chunk,
    Engine,
    EngineInMemory,
    EngineInUnits,
    EngineOnFile,
    FusedEngine,
    announcing_compilation,
)
from gd_lightning.losses import Loss, forms_of
from gd_lightning.micro_batches import Pair
from gd_lightning.models import Standardize
from gd_lightning.module.chunked_training import Chunks
from gd_lightning.module.engine_choice import REPLACEABLE, Decision, decide
from gd_lightning.module.engine_conditions import Conditions
from gd_lightning.module.metrics import ErrorSums
from gd_lightning.module.validation import Validation
from gd_lightning.threads import is_little

_CONVERTED_AT_ONCE = 65_536  # samples that are standardised in float64 at a time, which takes little memory


class RunEngine:
    """Holds the engine of a run while it trains, and plans the chunks that the loader yields.

    Args:
        trainer: The Trainer, which is about to train.
        module: A :class:`~gd_lightning.RegressionModule`.
        plain: The module class whose training step the engines implement.

    Raises:
        InputError: The fused engine is requested, but cannot carry out the updates.
    """

    def __init__(self, trainer: Trainer, module: LightningModule, plain: type[LightningModule]) -> None:
        self._trainer, self._module, self._plain = trainer, module, plain
        self._chunks: Chunks | None = None
        self._conditions: Conditions | None = None
        self.decision = self._choose(before=None)
        """The engine of the updates, and the reason for it."""

    @property
    def in_chunks(self) -> bool:
        """Whether updates are carried out in chunks instead of Lightning's loop."""
        return self._chunks is not None

    @property
    def is_valid(self) -> bool:
        """Whether the conditions of the choice are unchanged."""
        now = Conditions(self._trainer, self._module, REPLACEABLE)
        return self._conditions is not None and self._conditions.hold(now)

    def choose_again_if_changed(self) -> None:
        """Choose the engine again if a condition of the choice has changed."""
        if not self.is_valid:
            self.decision = self._choose(before=self.decision)

    def begin_epoch(self) -> None:
        """Choose the engine again if needed; with chunks, this happens when the first one is planned."""
        if getattr(self._trainer.train_dataloader, "chunk_source", None) is None:
            self.choose_again_if_changed()

    def _choose(self, before: Decision | None) -> Decision:
        self._conditions = Conditions(self._trainer, self._module, REPLACEABLE)
        fewest: Any = self._module.fewest_fused_updates
        decision = decide(self._trainer, self._module, self._plain, fewest, before)
        self._chunks = self._make_chunks(decision) if decision.in_chunks else None
        network, loader = cast("Any", self._module.network), cast("Any", self._trainer.train_dataloader)
        samples = getattr(getattr(loader, "variant", None), "batch_size", math.inf)
        # The fused engine chooses its number of threads itself.
        self.in_one_thread = decision.engine == "autograd" and is_little(network, samples)
        """Whether an update is so small that several threads would not be faster."""
        self._hand_out()
        return decision

    def _hand_out(self) -> None:
        loader: Any = self._trainer.train_dataloader
        if hasattr(loader, "chunk_source"):
            loader.chunk_source = self if self.in_chunks else None

    def _make_chunks(self, decision: Decision) -> Chunks:
        module = self._module
        loader: Any = self._trainer.train_dataloader
        (optimizer,), options = self._trainer.optimizers, module.hparams
        samples, network = loader.samples, cast("Any", module.network)
        take, taken = self._taken, lambda x, y: (x, y)
        if decision.engine == "autograd":
            losses: Any = module.losses_of_update
            engine: Engine = AutogradEngine(losses, optimizer, network.parameters())
        else:
            engine = FusedEngine(network, optimizer, options["loss"], options["huber_delta"], options["l1"])
            take, taken = self._as_network_takes_them, self._of_network
            layer = cast("Standardize | None", module.standardize_targets)
            if layer is not None:
                engine = in_units(engine, layer, options["loss"])
        if samples.mapped or samples.device != module.device:
            engine = EngineOnFile(engine, take, loader.variant.batch_size, samples.row_bytes)
            x, y = samples.lazily()
        else:
            x, y = samples.take(slice(None))
            layers = module.standardize, module.standardize_targets
            is_copied = any(layer is not None for layer in layers) or not (x.is_contiguous() and y.is_contiguous())
            if decision.engine == "fused" and is_copied:
                engine = EngineInMemory(engine, take, len(samples), _CONVERTED_AT_ONCE)
        numbers = sum(parameter.numel() for parameter in network.parameters())
        with announcing_compilation(rank_zero_info, decision.engine):
            return Chunks(self._trainer, engine, x, y, numbers, self._plain, taken, decision.one_by_one)

    def _taken(self, where: slice | Tensor) -> Pair:
        loader: Any = self._trainer.train_dataloader
        x, y = loader.samples.take(where)
        return x.to(self._module.device), y.to(self._module.device)

    def _as_network_takes_them(self, where: slice | Tensor) -> Pair:
        return self._of_network(*self._taken(where))

    def _of_network(self, x: Tensor, y: Tensor) -> Pair:
        module: Any = self._module
        return module.features_of_network(x).contiguous(), module.targets_of_network(y).contiguous()

    # The source of the loader's chunks of updates

    def next_chunk(self, rows: Tensor | None, update: int) -> Chunk | None:
        """Plan the chunk that begins at an update of the epoch; None if Lightning makes the remaining updates itself.

        Args:
            rows: The order of the epoch, shape (N,); None: the stored order.
            update: The first update, counted from the beginning of the epoch.
        """
        self.choose_again_if_changed()
        return None if self._chunks is None else self._chunks.next(rows, update)

    @property
    def end(self) -> int:
        """One past the last update that is made, or about to be made, counted from the beginning of the epoch."""
        return 0 if self._chunks is None else self._chunks.end

    # Methods that the module calls

    def carry_out(self, chunk: Chunk) -> dict[str, Any]:
        """Make the updates of a chunk, in the training step that Lightning makes of it.

        Returns:
            What a training step returns, and the chunk as callbacks asked for it, with its trace.
        """
        assert self._chunks is not None
        return self._chunks.carry_out(chunk)

    def train_loss(self) -> float | None:
        """Return the train loss at the current weights; None if a forward pass of the module is as fast."""
        loss = None if self._chunks is None else self._chunks.train_loss()
        return loss if loss is not None and self.is_valid else None

    @property
    def validation(self) -> Validation | None:
        """The validation of the run, if it can be computed from sums of errors; else None."""
        return self._chunks.validation if self._chunks is not None and self.is_valid else None

    def errors_of_validation(self, x: Tensor, y: Tensor) -> ErrorSums | None:
        """Return the sums of errors of a batch of validation, x (B, D) and y (B, K); None if compiled code has none."""
        if (validation := self.validation) is None:
            return None
        sums = validation.sums_of(x, y)
        return None if sums is None else ErrorSums.from_numbers(sums)

    def release(self) -> None:
        """Release the data, but keep the decision."""
        self._chunks = self._conditions = None
        self._hand_out()


def in_units(engine: Engine, layer: Standardize, loss: Loss) -> Engine:
    """Return an engine that reports in the units of targets what another one measures of standardised ones.

    Args:
        engine: Trains on standardised targets.
        layer: The layer that standardises them, all by one number.
        loss: The name of the loss.
    """
    return EngineInUnits(engine, layer.scale[0].item(), forms_of(loss).degree)
