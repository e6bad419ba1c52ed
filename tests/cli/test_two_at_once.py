"""Two commands in one directory at the same moment keep the files of both, or the second is refused in one line."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from matplotlib.image import imread

from gd_lightning import History
from gd_lightning.cli.saved_config import settle_version
from gd_lightning.cli.subcommands import compare_directory
from gd_lightning.cli.subcommands.compare_directory import CLAIMS, own_directory
from gd_lightning.errors import InputError
from gd_lightning.experiments import Report
from gd_lightning.tracking import run_directory
from gd_lightning.tracking.checkpoint_file import read_checkpoint
from gd_lightning.tracking.locks import claimed, held
from gd_lightning.tracking.run_directory import claim_directory, claim_file, claim_within
from tests.conftest import ROOT, TIMEOUT, CommandLine

SHORT = ("--trainer.max_epochs", "2")
SWEEP = ("sweep", "--model.lr", "0.01,0.02", "--data.batch_size", "full", "--seeds", "1", *SHORT)
COMPARE = ("compare", "--batch_sizes", "full,50", "--lrs", "0.01", "--seeds", "1", *SHORT)
ANOTHER = ("compare", "--batch_sizes", "full,25", "--lrs", "0.01", "--seeds", "1", *SHORT)


def _at_once(function: Callable[[], Path], count: int = 4) -> list[Path]:
    """Return what a function returns to threads that all ask for a free name before one of them has taken it."""
    barrier, found, asked = threading.Barrier(count), list[Path](), threading.local()
    free_name = run_directory.free_name

    def asked_by_all(*arguments: Any) -> str:
        name = free_name(*arguments)
        if not hasattr(asked, "once"):
            asked.once = True
            barrier.wait(TIMEOUT)
        return name

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_directory, "free_name", asked_by_all)
        threads = [threading.Thread(target=lambda: found.append(function())) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return found


def test_no_two_take_one_name(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "history.csv").touch()
    for claim in (
        lambda: claim_directory(tmp_path, "run"),
        lambda: claim_file(tmp_path, "predictions", ".csv"),
        lambda: claim_within(tmp_path, "taken"),
    ):
        assert len({*_at_once(claim)}) == 4


def test_no_two_take_the_directory_of_one_logger(tmp_path: Path) -> None:
    barrier, found = threading.Barrier(4), list[Path]()

    def claim() -> None:
        barrier.wait(TIMEOUT)
        found.append(claim_within(tmp_path, "version_0"))

    threads = [threading.Thread(target=claim) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {path.name for path in found} == {"version_0", "version_0-2", "version_0-3", "version_0-4"}


@pytest.mark.parametrize("kind", [TensorBoardLogger, CSVLogger])
def test_no_two_take_one_version(tmp_path: Path, kind: type[TensorBoardLogger | CSVLogger]) -> None:
    made = []
    for logger in (kind(tmp_path), kind(tmp_path)):
        logger._get_next_version = lambda: 0  # type: ignore[method-assign]  # both asked before one had made it
        made.append(settle_version(logger, None))
        assert logger.log_dir == str(made[-1])
    assert made == [tmp_path / "lightning_logs" / name for name in ("version_0", "version_1")]


@pytest.mark.parametrize("kind", [TensorBoardLogger, CSVLogger])
def test_two_runs_with_a_logger(
    command_line: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    kind: type[TensorBoardLogger | CSVLogger],
) -> None:
    """Both ask for the next number before one of them has made its directory."""
    command = ("fit", *SHORT, "--trainer.logger", kind.__name__, "--trainer.logger.save_dir", str(tmp_path / "t"))
    other: list[int] = []
    next_version = kind._get_next_version

    def asked(logger: TensorBoardLogger | CSVLogger) -> int:
        number: int = next_version(logger)  # type: ignore[arg-type]
        monkeypatch.setattr(kind, "_get_next_version", next_version)
        other.append(command_line(*command))
        return number

    monkeypatch.setattr(kind, "_get_next_version", asked)
    assert command_line(*command) == 0, command_line.err
    assert other == [0]
    directories = sorted((tmp_path / "t" / "lightning_logs").iterdir())
    assert [directory.name for directory in directories] == ["version_0", "version_1"]
    own = {"history.csv", "summary.json", "config.yaml", "checkpoints"}
    for directory in directories:
        files = {path.name for path in directory.iterdir() if not path.name.startswith(".")}
        assert own < files  # and those of the logger
    _check_whole(tmp_path)


def test_a_directory_whose_parent_is_removed_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that fails takes the directory of runs away with its own, if nothing else is in it."""
    free_name, parent, calls = run_directory.free_name, tmp_path / "lightning_logs", []

    def removed_meanwhile(*arguments: Any) -> str:
        calls.append(arguments)
        if len(calls) == 1:
            parent.rmdir()
        return free_name(*arguments)

    monkeypatch.setattr(run_directory, "free_name", removed_meanwhile)
    assert claim_directory(parent, "run").is_dir()
    calls.clear()
    shutil.rmtree(parent)
    assert claim_file(parent, "plan", ".png").is_file()


def _refused(command_line: CommandLine, reason: str, *command: str | Path) -> None:
    assert command_line(*map(str, command)) == 2
    (line,) = command_line.err.splitlines()
    assert reason in line


GO_ON = ("fit", "--ckpt_path", "RUN", "--trainer.max_epochs", "4")
# The commands before, the directory that another process holds, and the command that is refused.
HELD: dict[str, tuple[list[tuple[str, ...]], str, tuple[str, ...]]] = {
    "a run": ([("fit", *SHORT)], "lightning_logs/SteepLine-batch-b100-lr0.1-seed0", GO_ON),
    "a sweep": ([], "there", (*SWEEP, "--directory", "there")),
    "a run without a logger": (
        [("fit", *SHORT)],
        "lightning_logs/SteepLine-batch-b100-lr0.1-seed0",
        (*GO_ON, "--trainer.logger", "false"),
    ),
    "a comparison": ([COMPARE], "lightning_logs/compare-SteepLine", COMPARE),
    "a comparison in a place": ([], "there", (*COMPARE, "--directory", "there")),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (i > 1)) for i, name in enumerate(HELD)]
)
def test_what_another_process_holds_is_refused(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    before, directory, refused = HELD[name]
    for command in before:
        assert command_line(*command) == 0
    Path(directory).mkdir(parents=True, exist_ok=True)
    refused = tuple(directory if word == "RUN" else word for word in refused)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with held(Path(directory)):
        _refused(command_line, "because another process is writing there; wait until it has ended", *refused)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == files
    assert command_line(*refused) == 0, command_line.err  # it is over


def _in_between(monkeypatch: pytest.MonkeyPatch, name: str, other: Callable[[], object]) -> None:
    """Have another command run from its beginning to its end at the moment when a function is called first."""
    module, _, attribute = name.rpartition(".")
    function = getattr(sys.modules[module], attribute)

    def called(*arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(name, function)
        other()
        return function(*arguments, **options)

    monkeypatch.setattr(name, called)


@pytest.mark.parametrize(
    "moment",
    [
        "cli.subcommands.fit_directory.claim_directory",
        "cli.subcommands.fit_directory.choose_directory",
        "callbacks.run_writer.write_json",
    ],
)
def test_two_runs(command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    other: list[int] = []
    _in_between(monkeypatch, f"gd_lightning.{moment}", lambda: other.append(command_line("fit", *SHORT)))
    assert command_line("fit", *SHORT) == 0, command_line.err
    assert other == [0]
    for file in ("history.csv", "summary.json", "config.yaml", "checkpoints/last.ckpt"):
        assert len(list(command_line.root.glob(f"lightning_logs/*/{file}"))) == 2
    _check_whole(command_line.root)


@pytest.mark.parametrize("moment", ["new_file", "write_text"])
def test_two_predictions(command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    run = command_line.fit(*SHORT)
    command = ("predict", "--ckpt_path", run)
    _in_between(monkeypatch, f"gd_lightning.cli.subcommands.predict.{moment}", lambda: command_line(*command))
    assert command_line(*command) == 0
    first, second = sorted(run.glob("predictions*.csv"))
    assert first.read_text(encoding="utf-8") == second.read_text(encoding="utf-8")
    _check_whole(run)


def test_a_run_that_was_continued_meanwhile(command_line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another process has added is not taken away by one that had read the run before."""
    run = command_line.fit(*SHORT)
    go_on = ("fit", "--ckpt_path", run, "--trainer.max_epochs")
    other: list[int] = []
    _in_between(
        monkeypatch, "gd_lightning.cli.subcommands.fit.make_trial_step", lambda: other.append(command_line(*go_on, "6"))
    )
    _refused(command_line, "because another process has just done so; repeat the command", *go_on, "4")
    assert other == [0]
    assert History.from_csv(run / "history.csv").last("epoch") == 6
    assert command_line(*go_on, "8") == 0


def test_two_sweeps(command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    command, other = (*SWEEP, "--directory", tmp_path / "there"), list[int]()
    _in_between(monkeypatch, "gd_lightning.cli.subcommands.sweep.held", lambda: other.append(command_line(*command)))
    _refused(command_line, "because it contains something else", *command)
    _in_between(
        monkeypatch, "gd_lightning.cli.subcommands.sweep.claim_directory", lambda: other.append(command_line(*SWEEP))
    )
    assert command_line(*SWEEP) == 0
    assert other == [0, 0]
    assert len(list(tmp_path.rglob("sweep.json"))) == 3
    _check_whole(tmp_path)


@pytest.mark.parametrize(("second", "ends"), [pytest.param(COMPARE, 0, marks=pytest.mark.slow), (ANOTHER, 2)])
def test_two_comparisons(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, second: tuple[str, ...], ends: int
) -> None:
    """The same one, which has been carried out meanwhile, is shown; another one has no place there."""
    there, other = ("--directory", tmp_path / "there"), list[int]()
    _in_between(
        monkeypatch,
        "gd_lightning.cli.subcommands.compare_directory.held",
        lambda: other.append(command_line(*COMPARE, *there)),
    )
    assert command_line(*second, *there) == ends
    assert other == [0]
    assert len(list(tmp_path.rglob("history.csv"))) == 2
    _check_whole(tmp_path)


@pytest.mark.parametrize("given", ["nothing", "a new directory", "an empty directory"])
@pytest.mark.parametrize("moment", ["as the other one trains", "as the other one has let it go"])
def test_two_comparisons_that_are_refused_leave_nothing(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str, moment: str
) -> None:
    """The second one joins the first, and is refused before or after it; or the first is while the second goes on."""
    monkeypatch.chdir(tmp_path)
    if given == "an empty directory":
        (tmp_path / "there").mkdir()
    root = tmp_path if given == "nothing" else tmp_path / "there"
    before = sorted(tmp_path.rglob("*"))
    content: dict[str, Any] = {"settings": {}, "members": {"one": {}}}

    def own() -> Any:
        return own_directory(None if given == "nothing" else str(root), tmp_path / "logs", "compare-Line", content)

    first, second = own(), own()
    directory = first.__enter__()
    assert second.__enter__() == directory
    (directory / "one").mkdir()
    if moment == "as the other one trains":
        _refuse(first)
        assert (directory / "one").is_dir()
    else:
        monkeypatch.setattr(compare_directory, "_noted", _after(compare_directory._noted, lambda: _refuse(second)))
        _refuse(first)
    if moment == "as the other one trains":
        _refuse(second)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("note", ["{", "3", "[3]", "\\x00", "[[]]", '["{}/empty"]'])
def test_a_note_that_something_else_has_written_removes_nothing(tmp_path: Path, note: str) -> None:
    (tmp_path / "empty").mkdir()
    own = own_directory(str(tmp_path / "a"), tmp_path, "compare", {"settings": {}, "members": {"one": {}}})
    (own.__enter__() / CLAIMS / "made").write_text(note.format(tmp_path) if "empty" in note else note)
    _refuse(own)
    assert (tmp_path / "empty").is_dir()


@pytest.mark.parametrize("ended", ["by Ctrl-C", "killed"])
def test_what_another_session_trained_is_kept_where_a_comparison_is_refused(tmp_path: Path, ended: str) -> None:
    content: dict[str, Any] = {"settings": {}, "members": {"one": {}}}
    before = own_directory(str(tmp_path / "a"), tmp_path, "compare", content)
    made = before.__enter__()
    (made / "one" / "checkpoints").mkdir(parents=True)
    (made / "one" / "checkpoints" / "last.ckpt").touch()
    assert not before.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    again = own_directory(str(tmp_path / "a"), tmp_path, "compare", content)
    again.__enter__()
    if ended == "killed":  # so that its note is still there
        (made / CLAIMS / "made").write_text("[]\n")
    _refuse(again)
    assert (made / "one" / "checkpoints" / "last.ckpt").is_file()
    assert (made / "compare.json").is_file()


def _refuse(own: Any) -> None:
    assert not own.__exit__(InputError, InputError("cannot train so; train another way"), None)  # it goes on


def _after(function: Callable[..., Any], then: Callable[[], None]) -> Callable[..., Any]:
    """Return a function that does something else after its first call."""
    others = [then]

    def called(*arguments: Any) -> Any:
        found = function(*arguments)
        if others:
            others.pop()()
        return found

    return called


@pytest.mark.parametrize("words", [("RUN",), pytest.param(COMPARE[1:], marks=pytest.mark.slow)])
def test_reports_are_written_in_turn(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: tuple[str, ...]
) -> None:
    """Each replaces the event files of the former one, which two at once would both remove."""
    run, there, save, others = command_line.fit(*SHORT), tmp_path / "there", Report.save, list[bool]()

    def saved(report: Report, directory: Path) -> None:
        with claimed(directory / CLAIMS / "report") as is_free:
            others.append(is_free)
        save(report, directory)

    monkeypatch.setattr(Report, "save", saved)
    command = ["compare", *(str(run) if word == "RUN" else word for word in words), "--directory", str(there)]
    for _ in range(2):
        assert command_line(*command) == 0, command_line.err
        assert not (there / CLAIMS).exists()
    assert others == [False, False]
    assert len(list(there.glob("*tfevents*"))) == 1
    _check_whole(there)


def _check_whole(root: Path) -> None:
    """Check that every file can be read to its end."""
    assert not list(root.rglob("*.part"))
    for path in (path for path in root.rglob("*") if path.is_file()):
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".csv":
            lengths = {len(row) for row in csv.reader(path.read_text(encoding="utf-8").splitlines())}
            assert len(lengths) == 1, path
        elif path.suffix == ".ckpt":
            read_checkpoint(path)
        elif path.suffix == ".png":
            assert imread(path).size


@pytest.fixture(scope="module")
def pairs() -> Iterator[Callable[[Path, list[list[str]]], tuple[list[int], list[str]]]]:
    """Return a function that runs two commands at the same moment, each in a process; returns how they ended."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.cli.two_at_once"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None

        def run(directory: Path, commands: list[list[str]]) -> tuple[list[int], list[str]]:
            assert program.stdin is not None
            assert program.stdout is not None
            said = directory.parent / "said"
            said.mkdir(exist_ok=True)
            asked = {"directory": str(directory), "commands": commands, "said": str(said)}
            print(json.dumps(asked), file=program.stdin, flush=True)
            codes: list[int] = json.loads(program.stdout.readline())
            return codes, [(said / f"{i}.txt").read_text(encoding="utf-8") for i in range(len(commands))]

        yield run
        program.stdin.close()
        program.wait(TIMEOUT)


# What each command adds when it ends well, and the directory that it is made in before.
PAIRS: dict[str, tuple[str, str, str]] = {
    "two runs": ("fit", "fit", "*/history.csv"),
    "two runs in tables": ("fit --trainer.logger CSVLogger --trainer.logger.save_dir t", "", "*/*/*/metrics.csv"),
    "two runs on boards": ("fit --trainer.logger TensorBoardLogger --trainer.logger.save_dir t", "", "*/*/*/event*"),
    "two runs without a logger": ("fit --trainer.logger false", "", "*/*/last.ckpt"),
    "two predictions": ("predict --ckpt_path RUN", "", "RUN/predictions*.csv"),
    "a run is continued twice": ("fit --ckpt_path RUN --trainer.max_epochs 9", "", ""),
    "a run is continued, and predicts": (
        "fit --ckpt_path RUN --trainer.max_epochs 9",
        "predict --ckpt_path RUN",
        "",
    ),
    "the last run is continued twice": ("fit --ckpt_path last --trainer.max_epochs 9", "", ""),
    "two tests": ("test --ckpt_path RUN", "validate --ckpt_path RUN", ""),
    "the same comparison": (" ".join(COMPARE), "", ""),
    "the same comparison in a place": (f"{' '.join(COMPARE)} --directory there", "", ""),
    "two comparisons in a place": (
        f"{' '.join(COMPARE)} --directory there",
        f"{' '.join(ANOTHER)} --directory there",
        "",
    ),
    "two comparisons of runs": ("compare RUN", "", ""),
    "two sweeps": (" ".join(SWEEP), "", "*/sweep.json"),
    "two sweeps in a place": (f"{' '.join(SWEEP)} --directory there", "", "there/sweep.json"),
    "two plans": ("plan", "", "*.png"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PAIRS)
def test_twenty_times(
    name: str, tmp_path: Path, pairs: Callable[[Path, list[list[str]]], tuple[list[int], list[str]]]
) -> None:
    first, second, added = PAIRS[name]
    for turn in range(20):
        here = tmp_path / str(turn)
        here.mkdir()
        run = "lightning_logs/SteepLine-batch-b100-lr0.1-seed0"
        if "RUN" in first or "last" in first:
            codes, said = pairs(here, [["fit", *SHORT]])
            assert codes == [0], said
        commands = [command.replace("RUN", run).split() for command in (first, second or first)]
        commands = [each if each[0] != "fit" or "9" in each else [*each, *SHORT] for each in commands]
        before = len(list(here.glob(_place(added, run))))
        codes, said = pairs(here, commands)
        assert 0 in codes, said
        assert set(codes) <= {0, 2}, said
        assert all(len(text.splitlines()) == 1 for code, text in zip(codes, said, strict=True) if code == 2), said
        if added:
            assert len(list(here.glob(_place(added, run)))) == before + codes.count(0), (codes, said)
        if "9" in first:
            assert History.from_csv(here / run / "history.csv").last("epoch") == 9
        _check_whole(here)


def _place(added: str, run: str) -> str:
    if not added or added.startswith(("RUN", "there")):
        return added.replace("RUN", run) or "nothing"
    return f"t/{added[2:]}" if added.startswith("*/*/*") else f"lightning_logs/{added}"
