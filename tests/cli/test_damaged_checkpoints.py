"""A checkpoint that was damaged or edited anywhere: one line and exit code 2 and no new file, or the same result."""

from __future__ import annotations

import contextlib
import copy
import csv
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from gd_lightning import HistoryRecorder, InputError, RegressionDataModule, RegressionModule, SteepLine
from gd_lightning.cli.checkpoint_argument import find_run
from tests.conftest import CommandLine, MakeTrainer
from tests.damages import DELETED, Place, damaged, damages

SCHEMA = "gd_lightning_schema"
RUN = [
    *("--data.batch_size", "10", "--data.val_size", "20", "--model.hidden_sizes", "[3]", "--model.dropout", "0.1"),
    *(
        "--optimizer",
        "Adam",
        "--optimizer.lr",
        "0.01",
        "--trainer.max_steps",
        "25",
        "--trainer.max_time",
        "00:01:00:00",
    ),
    *("--lr_scheduler", "ReduceLROnPlateau", "--lr_scheduler.monitor", "train_loss"),
    *("--trainer.callbacks", "EarlyStopping", "--trainer.callbacks.monitor", "train_loss"),
    *("--trainer.callbacks.patience", "50", "--trainer.callbacks+", "LossPlateau"),
]
STAGES = {
    "fit": ["--trainer.max_steps", "-1", "--trainer.max_epochs", "5"],
    "test": [],
    "validate": [],
    "predict": [],
}
# What stands in a checkpoint and nowhere else, so that no use of it can do without.
NEEDED = ["state_dict", "hyper_parameters", "pytorch-lightning_version"]
NEEDED_TO_CONTINUE = [
    *("loops", "optimizer_states", "lr_schedulers", "callbacks"),
    *("gd_lightning_record", "gd_lightning_position", "gd_lightning_no_progress"),
]
# Lightning says so wherever a checkpoint has a state of another callback.
pytestmark = pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")


class Damaged:
    """Uses damaged checkpoints of one run, each in the place of the sound one.

    Args:
        command_line: Runs the commands.
        stage: Which of them.
        with_config: Whether the run still has its ``config.yaml``.
    """

    def __init__(self, command_line: CommandLine, stage: str, with_config: bool = True) -> None:
        self.command_line, self.stage = command_line, stage
        self.run = command_line.fit(*RUN)
        self.path = self.run / "checkpoints/last.ckpt"
        self.state: dict[str, Any] = torch.load(self.path, weights_only=True)
        if not with_config:
            (self.run / "config.yaml").unlink()
        self._kept = command_line.root / "kept"
        shutil.copytree(self.run, self._kept)
        assert self.use(self.state) == 0, command_line.err
        self._expected = self._result()

    def use(self, state: Any) -> int:
        """Run the command on a checkpoint of this content; returns its exit code."""
        shutil.rmtree(self.run)
        shutil.copytree(self._kept, self.run)
        torch.save(state, self.path)
        self._files = self._all_files()
        return self.command_line(self.stage, "--ckpt_path", self.run, *STAGES[self.stage])

    def refusal(self, state: Any, to_continue: bool = True) -> str:
        """Return why a run with this checkpoint is refused before anything is made of it; empty where it is not."""
        torch.save(state, self.path)
        try:
            find_run(str(self.run), self.command_line.root, to_continue)
        except InputError as error:
            return str(error)
        return ""

    def check(self, place: Place, kind: str) -> str:
        """Return what is wrong with the answer to a damage; empty where nothing is."""
        code = self.use(damaged(self.state, place, kind))
        lines = [line for line in self.command_line.err.splitlines() if line.startswith("gd_lightning: ")]
        if code == 2 and (len(lines) != 1 or "Traceback" in self.command_line.err):
            return f"not one line: {self.command_line.err}"
        if code == 2 and self._all_files() != self._files:
            return f"another file: {set(self._all_files()) ^ set(self._files)}"
        if code == 0 and self._result() != self._expected:
            return "another result"
        return "" if code in (0, 2) else f"exit code {code}: {self.command_line.err}"

    def _all_files(self) -> list[str]:
        return sorted(str(path) for path in self.command_line.root.rglob("*"))

    def _result(self) -> Any:
        if self.stage != "fit":
            return self.command_line.out, [path.read_text() for path in self.run.glob("predictions*")]
        state = torch.load(self.path, weights_only=True)["state_dict"]
        with (self.run / "history.csv").open() as lines:
            rows = [{**row, "seconds": ""} for row in csv.DictReader(lines)]
        return {name: value.tolist() for name, value in state.items()}, rows


def _wrong(
    command_line: CommandLine, stage: str, with_config: bool, seed: int, cases: int | None, part: slice = slice(None)
) -> dict[str, str]:
    """Return what is wrong with the answers to a part of a sample of all damages; of all where there is no number."""
    use = Damaged(command_line, stage, with_config)
    chosen = sorted(damages(use.state), key=str)
    if cases is not None:
        chosen = random.Random(seed).sample(chosen, cases)
    answers = {f"{'.'.join(map(str, place))}: {kind}": use.check(place, kind) for place, kind in chosen[part]}
    return {name: answer for name, answer in answers.items() if answer}


@pytest.mark.parametrize(("stage", "with_config"), [("fit", True), ("fit", False), ("test", True)])
def test_a_sample_of_all_damages(command_line: CommandLine, stage: str, with_config: bool) -> None:
    assert _wrong(command_line, stage, with_config, seed=len(stage) + with_config, cases=6) == {}


PARTS = {"fit": 16, "test": 2, "validate": 2, "predict": 2}  # of a minute or so each, of more than 7,000 or of 1,000


@pytest.mark.slow
@pytest.mark.parametrize("with_config", [True, False])
@pytest.mark.parametrize(("stage", "part"), [(stage, part) for stage, count in PARTS.items() for part in range(count)])
def test_all_damages(command_line: CommandLine, stage: str, part: int, with_config: bool) -> None:
    cases = None if stage == "fit" else 1000
    found = _wrong(command_line, stage, with_config, seed=0, cases=cases, part=slice(part, None, PARTS[stage]))
    assert found == {}


# Lightning reads these wherever they are there.
TOLERATED_BY_NONE = {
    (name, kind) for name in ("loops", "callbacks") for kind in ("a number", "text", "a list", "a tensor")
}


def test_what_is_needed_is_asked_for(command_line: CommandLine) -> None:
    use = Damaged(command_line, "fit")
    for name in NEEDED + NEEDED_TO_CONTINUE:
        for kind in (DELETED, "a number", "text", "a list", "nothing", "a tensor"):
            state = damaged(use.state, (name,), kind)
            reason = use.refusal(state)
            assert name in reason or "it is not a checkpoint" in reason, (name, kind)
            assert bool(use.refusal(state, to_continue=False)) == (name in NEEDED or (name, kind) in TOLERATED_BY_NONE)


OLDER: list[tuple[Place, str]] = [
    (("loops", "fit_loop", "epoch_progress", "current", "processed"), "nan"),
    (("loops", "fit_loop", "epoch_loop.batch_progress", "is_last_batch"), "a list"),
    (("loops", "fit_loop", "state_dict", "combined_loader", 0, "samples"), "a mapping"),
    (("optimizer_states",), "an empty list"),
    (("optimizer_states", 0, "state"), "an empty mapping"),
    (("optimizer_states", 0, "state", 1, "exp_avg"), "another shape"),
    (("optimizer_states", 0, "state", 1, "exp_avg"), "text"),
    (("optimizer_states", 0, "param_groups", 0, "lr"), "nan"),
    (("optimizer_states", 0, "param_groups", 0, "betas"), "a number"),
    (("lr_schedulers", 0, "best"), "text"),
    (("lr_schedulers", 0, "last_epoch"), DELETED),
    (("epoch",), "text"),
    (("gd_lightning_record", "history", "columns", "update"), DELETED),
    (("gd_lightning_record", "history", "columns", "train_loss", 0), "another type"),
    (("gd_lightning_record", "history", "outcome"), "text"),
    (("gd_lightning_record", "every"), "a number"),
    (("gd_lightning_position", "generators", "cpu"), "a tensor"),
    (("gd_lightning_position", "callback_metrics", "train_loss"), "text"),
    (("gd_lightning_position", "limits"), "a list"),
    (("gd_lightning_no_progress", "0.0"), "a number"),
]


def test_an_older_checkpoint_is_read_and_checked(command_line: CommandLine) -> None:
    """One without the key that says what it holds: only the kinds that every checkpoint has are known."""
    use = Damaged(command_line, "fit")
    del use.state[SCHEMA]
    assert use.refusal(use.state) == ""
    assert use.use(use.state) == 0
    for place, kind in OLDER:
        if not use.refusal(damaged(use.state, place, kind)):  # optimisers and schedulers have to be made first
            assert use.use(damaged(use.state, place, kind)) == 2, (place, kind)


def test_an_option_that_is_lost_or_changed_is_refused_by_name(command_line: CommandLine) -> None:
    """In its place the default would be used, such as another split, order, batch size or penalty."""
    given = ["LinearProblem", "--data.problem.n_samples", "30", "--data.order", "sequential", "--data.seed", "3"]
    given += ["--data.val_size", "5", "--data.test_size", "6", "--data.batch_size", "4", "--data.drop_last", "true"]
    given += ["--data.standardize", "both", "--model.l1", "0.01", "--model.loss", "mae", "--trainer.max_epochs", "2"]
    run = command_line.fit("--data.problem", *given)
    path = run / "checkpoints" / "last.ckpt"
    state = torch.load(path, weights_only=True)
    (run / "config.yaml").unlink()
    options = [(part, name) for part in ("datamodule_hyper_parameters", "hyper_parameters") for name in state[part]]
    assert len(options) > 20
    changes = {"order": "shuffled", "val_size": 6, "test_size": 5, "seed": 4, "batch_size": 5, "loss": "mse"}
    problem = copy.deepcopy(state["datamodule_hyper_parameters"]["problem"])
    del problem["init_args"]["n_samples"]
    for part, name in options:
        before = state[part][name]
        others: list[Any] = [changes.get(name, 17), *([problem] if name == "problem" else [])]
        others += [] if before is None else [None]
        edited = [{**state[part], name: other} for other in others]
        edited.append({key: value for key, value in state[part].items() if key != name})
        for each in edited:
            torch.save({**state, part: each}, path)
            for to_continue in (True, False):
                with pytest.raises(InputError, match=rf"damaged or edited: {part}\.{name} is "):
                    find_run(str(run), command_line.root, to_continue)
            with pytest.raises(InputError, match=rf"{part}\.{name} is "):
                RegressionDataModule.load_from_checkpoint(path)
    # A checkpoint of an earlier version has no such text, and is used as it is.
    del state[SCHEMA]["options"]
    torch.save(state, path)
    assert command_line("fit", "--ckpt_path", run, "--trainer.max_epochs", "3") == 0, command_line.err


def test_a_checkpoint_of_a_later_version_is_refused_by_name(command_line: CommandLine) -> None:
    use = Damaged(command_line, "test")
    later = {**use.state, SCHEMA: {"version": 3, "other": "things"}}
    assert use.use(later) == 2
    assert "a later version of gd_lightning wrote it (schema 3, and this one knows 2)" in command_line.err
    assert command_line.err.count("\n") == 1
    for to_continue in (False, True):
        assert "a later version of gd_lightning" in use.refusal(later, to_continue)
    with pytest.raises(InputError, match="a later version of gd_lightning"):
        RegressionModule.load_from_checkpoint(use.path)


def test_limits_that_are_none_are_refused_where_no_config_has_them(command_line: CommandLine) -> None:
    use = Damaged(command_line, "predict", with_config=False)
    for kind in ("a number", "a tensor", "text", "a list"):
        assert use.use(damaged(use.state, ("gd_lightning_position", "limits"), kind)) == 2, kind
        assert "gd_lightning_position.limits" in command_line.err


def _callback_state(state: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (each for name, each in state["callbacks"].items() if name.startswith("EarlyStopping"))


def test_states_of_callbacks_are_checked(command_line: CommandLine) -> None:
    use = Damaged(command_line, "fit")
    del use.state[SCHEMA]
    (early_stopping,) = _callback_state(use.state)
    for name, value in {"wait_count": "text", "best_score": None, "patience": [1]}.items():
        before = early_stopping[name]
        early_stopping[name] = value
        assert use.use(use.state) == 2, (name, value)
        assert f".{name} is " in command_line.err
        early_stopping[name] = before


def test_values_that_contain_themselves_end_soon(command_line: CommandLine) -> None:
    use = Damaged(command_line, "test")
    loop: list[Any] = []
    loop.append(loop)
    wide: list[Any] = [1]
    for _ in range(60):
        wide = [wide, wide]
    for value in (loop, wide):
        for key in ("hyper_parameters", "callbacks", "RegressionDataModule", "gd_lightning_record"):
            use.refusal({**use.state, key: {"a": value}})
            assert use.refusal({**use.state, key: {"a": value}}, to_continue=False) or key == "gd_lightning_record"


def test_resuming_and_loading_in_python_end_in_one_line(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    def fit(checkpoint: Path | None, **options: Any) -> Any:
        trainer = make_trainer(max_epochs=3, callbacks=[HistoryRecorder()], **options)
        data = RegressionDataModule(SteepLine(), batch_size=10)
        trainer.fit(RegressionModule(lr=0.01, momentum=0.5), data, ckpt_path=checkpoint)
        return trainer

    path, edited = tmp_path / "run.ckpt", tmp_path / "edited.ckpt"
    fit(None).save_checkpoint(path)
    state = torch.load(path, weights_only=True)
    for place, kind in random.Random(0).sample(sorted(damages(state), key=str), 20):
        torch.save(damaged(state, place, kind), edited)
        for use in (fit, RegressionModule.load_from_checkpoint, RegressionDataModule.load_from_checkpoint):
            with contextlib.suppress(InputError):
                use(edited)
    edited.write_bytes(path.read_bytes()[:-100])
    for use in (fit, RegressionModule.load_from_checkpoint, RegressionDataModule.load_from_checkpoint):
        with pytest.raises(InputError, match=r"cannot (load|read) the checkpoint"):
            use(edited)


def test_weights_that_do_not_fit_are_named() -> None:
    module = RegressionModule(in_features=2, out_features=1)
    weights = module.state_dict()
    cases: dict[str, dict[str, Any]] = {
        r"network\.weight are missing": {"network.bias": torch.zeros(1)},
        r"network\.weight are of shape \(1, 3\), and the model has \(1, 2\)": {
            **weights,
            "network.weight": torch.ones(1, 3),
        },
        r"network\.bias are not a tensor": {**weights, "network.bias": "text"},
        r"network\.bias are of type torch\.int64": {**weights, "network.bias": torch.tensor([1])},
        "the model has no weights other": {**weights, "other": torch.ones(1)},
    }
    for message, given in cases.items():
        with pytest.raises(InputError, match=message):
            module.load_state_dict(given)
        with pytest.raises(RuntimeError):  # what torch raises
            module.load_state_dict(given)
    module.load_state_dict({"network.bias": torch.ones(1)}, strict=False)
