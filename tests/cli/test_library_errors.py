"""Whose an error is follows from where code that options name was entered, and from the class of the error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import csv_logs
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from torch import nn

from gd_lightning.callbacks import LossBelow
from gd_lightning.errors import InputError
from gd_lightning.module.library_errors import GivenClasses, refusals_of
from tests.conftest import CommandLine

HERE = "tests.cli.test_library_errors"
BORING = "lightning.pytorch.demos.boring_classes.ManualOptimBoringModel"


class Raises(Callback):
    """Somebody's own callback: raises what it is told, as it is made or in a hook."""

    def __init__(self, kind: str, hook: str = "on_train_epoch_end") -> None:
        self.kind, self.hook = kind, hook
        if hook == "__init__":
            self._raise()

    def _raise(self) -> None:
        errors: dict[str, Exception] = {
            "error": ZeroDivisionError("in a callback"),
            "InputError": InputError("cannot do that; do this"),
            "OSError": OSError(28, "No space left on device"),
            "MemoryError": MemoryError("Unable to allocate 9 PiB"),
            "Misconfiguration": MisconfigurationException("so not"),
        }
        raise errors[self.kind]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.hook == "on_fit_start":
            self._raise()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.hook == "on_train_epoch_end":
            self._raise()


# What is raised, where, the exit code, and what is said of it.
ENDS = [
    ("error", "__init__", 2, "because Raises reports: in a callback (in _raise of test_library_errors.py, line "),
    ("error", "on_fit_start", 1, "because of an error in _raise of test_library_errors.py, line "),
    ("error", "on_train_epoch_end", 1, ", which is not part of this program (ZeroDivisionError: in a callback); the "),
    *(
        (kind, hook, code, message)
        for hook in ("__init__", "on_train_epoch_end")
        for kind, code, message in (
            ("InputError", 2, "gd_lightning: cannot do that; do this\n"),
            ("OSError", 1, "because of no space left on device"),
            ("MemoryError", 1, "because there is not enough memory"),
            ("Misconfiguration", 2, "because it reports: so not; " if hook != "__init__" else "Raises reports: so not"),
        )
    ),
]


@pytest.mark.parametrize(("kind", "hook", "code", "message"), ENDS)
def test_what_a_callback_of_ones_own_raises(
    command_line: CommandLine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    hook: str,
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    options = {"callbacks+": f"{HERE}.Raises", "callbacks.kind": kind, "callbacks.hook": hook}
    assert command_line("fit", *(f"--trainer.{name}={value}" for name, value in options.items())) == code
    assert message in command_line.err
    assert len(command_line.err.splitlines()) == 1
    assert bool([*tmp_path.rglob("traceback.txt")]) == (kind == "error" and hook != "__init__")
    if code == 2:
        assert [*tmp_path.rglob("*")] == []  # nothing is left


# What is taken away from whom, the options, the exit code, and what is said.
OTHERS: dict[str, tuple[Any, str, str, int, str]] = {
    "a library's callback refuses": (
        *(None, "", "--trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor=nothing"),
        *(2, "cannot use these options, because EarlyStopping reports: "),
    ),
    "a callback of this package has a fault": (
        *(LossBelow, "reason_to_end", "--trainer.callbacks+=LossBelow --trainer.callbacks.threshold=1"),
        *(1, "because of an internal error (TypeError: "),
    ),
    "a library's network cannot take the features": (
        *(None, "", f"--model.network={BORING}"),
        *(2, "cannot train ManualOptimBoringModel on these data, because it reports: "),
    ),
    "a library's network cannot take the features of a plan": (
        *(None, "", f"plan --model.network={BORING}"),
        *(2, "cannot train ManualOptimBoringModel on these data, because it reports: "),
    ),
    "a library's network cannot take the features of a sweep": (
        *(None, "", f"sweep --model.network={BORING}"),
        *(2, "cannot train ManualOptimBoringModel on these data, because it reports: "),
    ),
    "the program behind a logger fails": (
        *(ExperimentWriter, "log_metrics", "--trainer.logger=CSVLogger --trainer.logger.save_dir=."),
        *(1, "because csv_logs reports: "),
    ),
    "the program behind a logger does not begin": (
        *(csv_logs, "ExperimentWriter", "--trainer.logger=CSVLogger --trainer.logger.save_dir=."),
        *(2, "cannot log, because csv_logs reports: "),
    ),
}


@pytest.mark.parametrize("case", OTHERS)
def test_what_others_raise_while_a_run_is_on(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.chdir(tmp_path)
    of, name, options, code, message = OTHERS[case]
    if of is not None:
        monkeypatch.setattr(of, name, None)
    stage, *given = options.split() if not options.startswith("--") else ("fit", *options.split())
    assert command_line(stage, *given) == code, command_line.err
    assert message in command_line.err
    assert len(command_line.err.splitlines()) == 1
    if code == 2:
        assert [*tmp_path.rglob("*")] == []


@pytest.mark.parametrize("network", ["Linear", "Conv1d", "Bilinear", "RNN", "Embedding", "MultiheadAttention"])
def test_a_class_that_refuses_its_arguments_says_which_it_is(network: str) -> None:
    with pytest.raises(InputError, match=rf"cannot use these options, because {network} reports: "):
        GivenClasses().construct(getattr(nn, network), -1, "2", nothing=3)


def test_options_of_any_name_are_given_to_a_class() -> None:
    assert GivenClasses().construct(dict, kind=1, args=2, options=3) == {"kind": 1, "args": 2, "options": 3}


def _report(cause: Exception | None) -> None:
    """Raise what jsonargparse does of all types that an option can have."""
    try:
        raise TypeError("Does not validate\nSubtypes: 2") from cause
    except TypeError as error:
        raise ValueError("Problem with given class_path") from error


@pytest.mark.parametrize("cause", [InputError("cannot do that; do this"), FileNotFoundError("nowhere")])
def test_what_is_within_a_report_is_told_alone(cause: Exception) -> None:
    with pytest.raises(type(cause), match=str(cause)), refusals_of():
        _report(cause)


def test_a_report_is_a_refusal() -> None:
    with pytest.raises(InputError, match="cannot use these options: Problem with given class_path"), refusals_of():
        _report(None)
