"""Progress of long computations on a terminal: bars for runs, and a line for computations without countable steps.

Where standard error is not a terminal, nothing is written.
"""

from __future__ import annotations

import contextlib
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from gd_lightning.callbacks.chunk_rows import batch_loss, carried_out

_BAR = "{desc}{percentage:3.0f}%|{bar}| {n_fmt} of {total_fmt}{unit}, {rate_fmt}, {remaining} left{postfix}"
_NARROW = "{desc}{percentage:3.0f}%, {rate_fmt}, {remaining} left{postfix}"
_EVERY = 0.2  # seconds between two updates of the displayed loss
_WAIT = 2.0  # seconds after which a line says what is being computed


def progress_bar(total: float, unit: str, *, delay: float = 0.0, **options: Any) -> tqdm[Any]:
    """Return a bar with the number of steps a second and the time left, which only a terminal shows.

    Args:
        total: How many steps there are; ``inf`` if that is not known.
        unit: Name of a step, with a space before it.
        delay: Seconds after which the bar appears.
        options: Others of ``tqdm``.
    """
    is_known = math.isfinite(total)
    form = {"total": total, "bar_format": _BAR} if is_known else {}
    shown = {"unit": unit, "unit_scale": True, "dynamic_ncols": True, "leave": False, "delay": delay}
    return tqdm(disable=not _is_terminal(), **{**shown, **form, **options})


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


@contextlib.contextmanager
def waiting(what: str, delay: float = _WAIT) -> Iterator[Callable[[str], None]]:
    """Show on a terminal, after a delay, what is being computed and for how long.

    Args:
        what: Name of the computation.
        delay: Seconds after which the line appears.

    Yields:
        A function that is told what comes next.
    """
    if not _is_terminal():
        yield lambda _: None
        return
    parts, is_over, begun = [what], threading.Event(), time.time()

    def show() -> None:
        if is_over.wait(delay):
            return
        with tqdm(bar_format="{desc}, {elapsed}", leave=False, dynamic_ncols=True) as line:
            line.start_t = begun
            while not is_over.wait(_EVERY):
                line.set_description_str(": ".join(parts))

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield lambda part: parts.__setitem__(slice(1, None), [part])
    finally:
        is_over.set()
        thread.join()


class LongRunProgress(ProgressBar):
    """One progress bar over all updates of a run, with its losses, shown on a terminal after a delay.

    Args:
        delay: Seconds after which the bar appears.
    """

    max_chunk_seconds = math.inf

    def __init__(self, delay: float = 3.0) -> None:
        super().__init__()
        self.delay = delay
        self._bar: tqdm[Any] | None = None
        self._shown_at = 0.0

    def disable(self) -> None:
        """Disable the bar; Lightning calls this on all processes except the first."""
        self.delay = math.inf

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start counting."""
        if math.isfinite(self.delay):
            total = float(trainer.estimated_stepping_batches)
            self._bar = progress_bar(total, " updates", delay=self.delay, initial=trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count an update, or those of a chunk."""
        if self._bar is None or self._bar.disable:
            return
        carried = carried_out(outputs)
        if (now := time.monotonic()) - self._shown_at > _EVERY:
            self._shown_at = now
            last = carried[1].last_loss if carried is not None else batch_loss(outputs)
            _set_losses(self._bar, _losses(trainer.callback_metrics, last))
        self._bar.update(1 if carried is None else carried[1].updates)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the bar."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Remove the bar."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _losses(metrics: Mapping[str, Any], last: torch.Tensor | None) -> list[str]:
    """Write the newest train loss, which is known at the ends of epochs, and the loss of the last batch."""
    named = {"train loss": metrics.get("train_loss"), "batch loss": last}
    return [f"{name} {float(value):.4g}" for name, value in named.items() if isinstance(value, torch.Tensor)]


def _set_losses(bar: tqdm[Any], losses: list[str]) -> None:
    """Show losses in a bar: as many as fit on a line, and one on a narrow terminal, without what else there is."""
    facts = {**bar.format_dict, "ncols": None}  # without a width, the bar itself takes ten characters
    columns = bar.format_dict["ncols"] or math.inf
    forms = [bar.bar_format] if bar.bar_format is None else [_BAR, _NARROW]
    candidates = [(form, losses[:count]) for form in forms for count in range(len(losses), 0, -1)]

    def fits(form: str | None, shown: list[str]) -> bool:
        return len(bar.format_meter(**{**facts, "bar_format": form, "postfix": ", ".join(shown)})) <= columns

    fitting = (each for each in candidates if fits(*each))
    bar.bar_format, shown = next(fitting, candidates[-1] if candidates else (bar.bar_format, losses))
    bar.set_postfix_str(", ".join(shown), refresh=False)
