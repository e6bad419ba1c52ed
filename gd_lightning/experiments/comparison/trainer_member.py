"""The members of a comparison in Python: runs with a Trainer and objects of their own."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from gd_lightning.callbacks import Forecast, GradientVariance, HistoryRecorder, StopOnDivergence
from gd_lightning.callbacks.loggers import end_runs
from gd_lightning.data import RegressionDataModule
from gd_lightning.errors import InputError
from gd_lightning.experiments.comparison.task import MemberResult
from gd_lightning.experiments.comparison.trial_update import make_one_update, trial_options
from gd_lightning.experiments.copies import made_by_functions, own_copy
from gd_lightning.experiments.lightning_messages import quiet_lightning
from gd_lightning.experiments.options import TRAINER_DEFAULTS, TRAINS_NOTHING
from gd_lightning.module import RegressionModule
from gd_lightning.module.library_errors import GivenClasses
from gd_lightning.module.trainer_options import make_trainer
from gd_lightning.random_numbers import own_generator
from gd_lightning.records.history import Outcome
from gd_lightning.tracking.run_directory import HISTORY
from gd_lightning.tracking.run_reader import FinishedRun


@dataclass(frozen=True)
class TrainerMember:
    """A run of :func:`compare`, with everything that is needed to train it.

    Args:
        name: Name of the run.
        options: ``problem``, and the options of ``data``, ``model`` and ``trainer``, of which copies are used.
        seed: Seed of the order, and of random initial weights.
        changed: The options that distinguish its variant, with names for objects.
        directory: Parent of the logger's directory; None: no files.
    """

    name: str
    options: Mapping[str, Any]
    seed: int
    changed: Mapping[str, Any]
    directory: str | Path | None

    def finished(self) -> MemberResult | None:
        """Return None: results are kept only in memory."""

    def claimed(self) -> AbstractContextManager[bool]:
        """Return that the member is claimed: no other process knows of it."""
        return nullcontext(True)

    def data_module(self) -> RegressionDataModule:
        """Return the data module, before its set-up."""
        copies = own_copy({name: self.options[name] for name in ("problem", "data")})
        return RegressionDataModule(copies["problem"], **copies["data"], seed=self.seed)

    def check(self) -> None:
        """Make one update, so that options that cannot be trained fail before anything is written.

        Raises:
            InputError: The options cannot be trained.
        """
        # A function that makes a logger would begin a run of the logger.
        trainer = {**self.options["trainer"], "logger": False}
        with own_generator(self.seed):
            options, added, module, data = self._made({**self.options, "trainer": trainer})
            with GivenClasses(self.options["model"], options, added).refusals_in_a_run():
                tried = make_trainer(trial_options(options, [HistoryRecorder(), *added, StopOnDivergence()]))
                make_one_update(tried, module, data)

    def train(self) -> MemberResult:
        """Train the member.

        Raises:
            KeyboardInterrupt: Training was interrupted.
        """
        # The report says which runs diverged.
        recorder, others = HistoryRecorder(), [Forecast(lambda _: None), StopOnDivergence(), GradientVariance()]
        with own_generator(self.seed), quiet_lightning():  # this run may be trained in a process of its own
            options, added, module, data = self._made(self.options)
            recorder.varied = self.changed
            module.fewest_fused_updates = 0  # all runs should have one engine, since their seconds are compared
            if self.directory is not None:
                logger = TensorBoardLogger(self.directory, "", self.name, default_hp_metric=False)
                options = {"logger": logger, **options}
            with GivenClasses(self.options["model"], options, added).refusals_in_a_run():
                trainer = make_trainer({"logger": False, **options, "callbacks": [recorder, *added, *others]})
                try:
                    trainer.fit(module, data)
                finally:
                    end_runs(trainer.loggers)
        if trainer.interrupted or recorder.history.outcome is Outcome.INTERRUPTED:
            raise KeyboardInterrupt
        if recorder.summary is None:
            raise InputError(TRAINS_NOTHING)
        given = {f"{name}.{key}": value for name in ("data", "model") for key, value in self.options[name].items()}
        settings = {**self.changed, **given, **self.changed, "data.seed": self.seed}
        run = FinishedRun(self.name, recorder.history, HISTORY, asdict(recorder.summary), settings)
        return MemberResult(run, functools.partial(_itself, module))

    def _made(
        self, options: Mapping[str, Any]
    ) -> tuple[dict[str, Any], list[Callback], RegressionModule, RegressionDataModule]:
        """Return the objects that the options define: Trainer options, callbacks, the module and the data."""
        copies = own_copy(options)
        trainer = {**TRAINER_DEFAULTS, **made_by_functions(copies["trainer"])}
        added = trainer.pop("callbacks", None) or []
        data = RegressionDataModule(copies["problem"], **copies["data"], seed=self.seed)
        callbacks = list(added) if isinstance(added, Sequence) else [added]
        return trainer, callbacks, RegressionModule(**copies["model"]), data


def _itself(module: RegressionModule) -> RegressionModule:
    return module
