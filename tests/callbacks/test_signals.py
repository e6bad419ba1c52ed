"""A signal ends a run between two updates, or when it is finished, whenever it comes."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import LambdaCallback, ModelCheckpoint

from gd_lightning import HistoryRecorder, LastCheckpoint, LinearProblem, RegressionDataModule, RegressionModule, cli
from gd_lightning.callbacks import EndedBySignal, StopOnSignal, raise_for_signal
from gd_lightning.signals import ENDING, handled_by, name_of
from tests.conftest import TIMEOUT, CommandLine, MakeTrainer

UPDATES = 12  # 3 epochs of 4
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
HOOKS = {
    # Where the signal is sent, and after how many updates the run has ended then.
    "setup": None,
    "on_fit_start": None,
    "on_train_epoch_start": 4,  # behind a chunk of updates, which is the epoch
    "on_train_batch_start": 1,
    "on_before_optimizer_step": 1,
    "on_train_epoch_end": 8,
    "on_train_end": UPDATES,
}


def _send(number: int) -> Callable[..., None]:
    """Return a hook that sends a signal to this process the first time that it is called."""
    sent: list[int] = []

    def send(*_: Any, **__: Any) -> None:
        if not sent:
            sent.append(number)
            os.kill(os.getpid(), number)

    return send


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """See that each test leaves the handlers as they were; a signal that comes late is not to end pytest."""
    before = {number: signal.getsignal(number) for number in ENDING}
    with handled_by(raise_for_signal):
        yield
    assert {number: signal.getsignal(number) for number in ENDING} == before


@pytest.mark.parametrize("number", CODES, ids=name_of)
@pytest.mark.parametrize("hook", HOOKS)
def test_a_signal_ends_a_run_wherever_it_comes(
    make_trainer: MakeTrainer, tmp_path: Path, hook: str, number: int
) -> None:
    """Weights, record and checkpoint are those of the same update, and the signals are given back."""
    inside = {number: signal.getsignal(number) for number in ENDING}
    sender = LambdaCallback(**{hook: _send(number)})
    recorder = HistoryRecorder()
    callbacks: list[Callback] = [recorder, sender, StopOnSignal(), LastCheckpoint()]
    trainer = make_trainer(callbacks=callbacks, max_epochs=3, logs=True, enable_checkpointing=True)
    module, data = RegressionModule(lr=0.01), RegressionDataModule(LinearProblem(n_samples=20), batch_size=5)
    with pytest.raises(SystemExit) as ended:
        trainer.fit(module, data)
    if number == signal.SIGINT:
        assert isinstance(ended.value.__context__, KeyboardInterrupt)
    else:
        assert isinstance(ended.value, EndedBySignal)
        assert (ended.value.number, ended.value.code) == (number, CODES[signal.Signals(number)])
    updates = HOOKS[hook]
    if updates is not None:
        (path,) = tmp_path.rglob("last.ckpt")
        saved = torch.load(path, weights_only=True)
        assert saved["global_step"] == updates == recorder.history.last("update")
        for name, value in module.state_dict().items():
            assert torch.equal(saved["state_dict"][name], value)
        is_whole = hook == "on_train_end"
        assert str(recorder.history.outcome) == ("completed" if is_whole else "interrupted")
    if number == signal.SIGINT:  # Lightning ignores another one while it ends
        signal.signal(number, inside[signal.SIGINT])
    assert {number: signal.getsignal(number) for number in ENDING} == inside


@pytest.mark.filterwarnings("ignore:Checkpoint directory")  # which the continued run shares
def test_what_comes_behind_sees_the_update_that_a_signal_ends(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    """Else a checkpoint that is due there would be missing for ever: the continued run is behind that update."""
    data = RegressionDataModule(LinearProblem(n_samples=20), batch_size=5)
    sender = LambdaCallback(on_before_optimizer_step=_send(signal.SIGINT))
    for own in ([sender, StopOnSignal()], []):
        saves = ModelCheckpoint(tmp_path / "saved", "{step}", every_n_train_steps=1, save_top_k=-1)
        callbacks: list[Callback] = [*own, saves, LastCheckpoint()]
        trainer = make_trainer(callbacks=callbacks, max_epochs=2, logs=True, enable_checkpointing=True)
        last = next(tmp_path.rglob("last.ckpt"), None)
        with pytest.raises(SystemExit) if own else nullcontext():
            trainer.fit(RegressionModule(lr=0.01), data, ckpt_path=last, weights_only=True)
        steps = {int(path.stem.removeprefix("step=")) for path in (tmp_path / "saved").iterdir()}
        assert steps == ({1} if own else set(range(1, 9)))


def test_signals_that_are_ignored_or_handled_stay_so() -> None:
    """As in the background of a shell, by nohup, and in a program that has a handler of its own."""
    own: list[int] = []
    kept: dict[int, Any] = {signal.SIGINT: signal.SIG_IGN, signal.SIGTERM: lambda number, _: own.append(number)}
    before = {number: signal.signal(number, handler) for number, handler in kept.items()}
    try:
        with handled_by(raise_for_signal):
            assert all(signal.getsignal(number) is handler for number, handler in kept.items())
            os.kill(os.getpid(), signal.SIGTERM)
        assert own == [signal.SIGTERM]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


STAGES = {
    "parsing": "gd_lightning.cli.command.Command.parse_arguments",
    "data": "gd_lightning.data.RegressionDataModule.setup",
    "plan": "gd_lightning.cli.subcommands.plan.make_plan",
    "sweep": "gd_lightning.cli.subcommands.sweep.SweepTask.train",
    "compare": "gd_lightning.cli.subcommands.compare.CompareTask.results",
    "end": "gd_lightning.cli.subcommands.fit.print_run",
}


@pytest.mark.parametrize("number", CODES, ids=name_of)
@pytest.mark.parametrize("stage", STAGES)
def test_a_signal_ends_each_subcommand_in_one_line(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, stage: str, number: int
) -> None:
    monkeypatch.setattr(STAGES[stage], _send(number))
    subcommand = stage if stage in ("plan", "sweep", "compare") else "fit"
    assert command_line(subcommand, "--trainer.max_epochs", "1") == CODES[signal.Signals(number)]
    assert command_line.err == f"gd_lightning: ended by {name_of(number)}\n"


SENDING = """
import os, sys

class Sender:
    def find_spec(self, name, *_):
        if name == sys.argv[1]:
            os.kill(os.getpid(), int(sys.argv[2]))

sys.meta_path.insert(0, Sender())
from gd_lightning.cli import run
run()
"""


@pytest.mark.parametrize(("module", "number"), [("numpy", signal.SIGINT), ("torch", signal.SIGTERM)])
def test_a_signal_ends_the_program_while_it_is_loaded(tmp_path: Path, module: str, number: signal.Signals) -> None:
    """Python would raise an exception, which a library that is being imported may swallow or turn into another one."""
    ended = subprocess.run(
        [sys.executable, "-c", SENDING, module, str(int(number))],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert (ended.returncode, ended.stderr) == (CODES[number], f"gd_lightning: ended by {name_of(number)}\n")


@pytest.mark.parametrize(
    ("environment", "speaks"),
    [
        ({}, True),
        ({"LOCAL_RANK": "1"}, True),  # of no run with several
        ({"WORLD_SIZE": "2", "LOCAL_RANK": "0"}, True),
        ({"WORLD_SIZE": "2", "LOCAL_RANK": "1"}, False),
        ({"WORLD_SIZE": "4", "RANK": "2", "LOCAL_RANK": "0"}, False),
    ],
    ids=str,
)
@pytest.mark.parametrize("when", ["loaded", "left"])
@pytest.mark.parametrize("number", CODES, ids=name_of)
def test_of_several_processes_the_first_speaks_for_all_while_the_program_is_loaded_or_left(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    number: signal.Signals,
    when: str,
    environment: dict[str, str],
    speaks: bool,
) -> None:
    """The first process sends on what it has got, which may come when another one has ended its run already."""

    def exit_(code: int) -> NoReturn:
        raise SystemExit(code)

    def ended(*_: object) -> int:
        if when == "left":
            with handled_by(raise_for_signal):
                monkeypatch.delenv("WORLD_SIZE", raising=False)  # as Lightning does
        signal.raise_signal(number)
        raise AssertionError("the signal was ignored")

    for name, value in {"MPLBACKEND": "agg", **environment}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(atexit, "register", lambda _: None)
    monkeypatch.setattr(os, "_exit", exit_)
    monkeypatch.setattr(cli, "_main", ended)
    handlers = {each: signal.signal(each, signal.SIG_DFL) for each in ENDING}
    try:
        with pytest.raises(SystemExit) as raised:
            cli.run()
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)
    assert raised.value.code == CODES[number]
    assert capfd.readouterr() == ("", f"gd_lightning: ended by {name_of(number)}\n" if speaks else "")


SENT_LAST = """
import builtins, os, sys
from gd_lightning.signals import end_at_once

class Last:
    def __del__(self, kill=os.kill, process=os.getpid(), number=int(sys.argv[1])):
        kill(process, number)

end_at_once()
builtins.last = Last()
sys.exit(3)
"""


@pytest.mark.parametrize("number", CODES, ids=name_of)
def test_a_signal_behind_the_end_does_not_hide_the_exit_code(number: signal.Signals) -> None:
    ended = subprocess.run([sys.executable, "-c", SENT_LAST, str(int(number))], check=False, timeout=TIMEOUT)
    assert ended.returncode == 3


@pytest.mark.slow
@pytest.mark.parametrize("number", CODES, ids=name_of)
@pytest.mark.parametrize("subcommand", ["fit", "compare", "sweep", "plan", "test", "predict"])
def test_a_signal_ends_every_subcommand_at_every_moment(
    command_line: CommandLine, tmp_path: Path, subcommand: str, number: signal.Signals
) -> None:
    options = {
        "fit": ["--trainer.max_epochs", "-1"],
        "compare": ["--trainer.max_epochs", "100000"],
        "sweep": ["--trainer.max_epochs", "100000"],
        "plan": [],
    }
    if subcommand not in options:
        options[subcommand] = ["--ckpt_path", str(command_line.fit("--trainer.max_epochs", "1"))]
    for seconds in (0.3, 0.6, 1, 2, 3, 5):  # before that, it is Python that starts
        process = subprocess.Popen(
            [sys.executable, "-m", "gd_lightning", subcommand, *options[subcommand]],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        time.sleep(seconds)
        process.send_signal(number)
        _, err = process.communicate(timeout=TIMEOUT)
        is_at_its_end = process.returncode == 0 and subcommand in ("plan", "test", "predict")
        assert is_at_its_end or process.returncode == CODES[number], (seconds, err)
        said = [line for line in err.splitlines() if not line.startswith("updates are being compiled")]
        assert said in ([], [f"gd_lightning: ended by {name_of(number)}"])
