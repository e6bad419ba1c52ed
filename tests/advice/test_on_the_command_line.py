"""What a message advises on the command line works when it is followed."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

import gd_lightning
from tests.advice.messages import messages, pattern
from tests.advice.on_the_command_line import ADVICE, materials


def _run(command: str, capfd: pytest.CaptureFixture[str]) -> tuple[int, str]:
    words = [_newest_run(word) for word in shlex.split(command)]
    if words[:1] in (["copy"], ["remove"]):
        shutil.copyfile(*words[1:]) if words[0] == "copy" else Path(words[1]).unlink()
        return 0, ""
    code = gd_lightning.main(words)
    out, err = capfd.readouterr()
    return code, err or out  # what was read of a table is said before a message


def _newest_run(word: str) -> str:
    """Return a word of a command, with the directory of the newest run for RUN."""
    if not word.startswith("RUN"):
        return word
    newest = max(Path("lightning_logs").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    return word.replace("RUN", str(newest), 1)


def _message(part: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> re.Match[str]:
    """Bring a message about, and return it with what was put into it."""
    advice = ADVICE[part]
    materials()
    for command in advice.before:
        assert _run(command, capfd)[0] in (0, 3)
    with monkeypatch.context() as context:
        for name, value in advice.environment.items():
            context.setenv(name, value)
        code, said = _run(advice.wrong, capfd)
    assert code == 2, said
    (message,) = said.splitlines()
    found = [pattern(text).search(message) for text in messages() if part in text]
    match = next((each for each in found if each is not None), None)
    assert match is not None, message
    return match


def _follow(command: str, match: re.Match[str], capfd: pytest.CaptureFixture[str]) -> None:
    code, said = _run(re.sub(r"<(\d)>", lambda place: str(match[int(place[1]) + 1]), command), capfd)
    assert code == 0, f"{command}: {said}"


# Those that take a second each, for the comparison or the plan of a network that follows; one of each is enough.
LONG = [
    *(
        "scale the features and the targets, or choose another initialization",
        "cannot plan from this start, because {}; use {}",
    ),
    *(
        part
        for part in ADVICE
        if "compare " in ADVICE[part].followed[0] and part != "cannot vary {}; write an option and its values"
    ),
]


@pytest.mark.parametrize(
    "part",  # each second one, and those that take long, on request
    [pytest.param(part, marks=[pytest.mark.slow] * (i % 2 or part in LONG)) for i, part in enumerate(ADVICE)],
)
def test_what_is_advised_works(
    part: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    match, first = _message(part, capfd, monkeypatch), ADVICE[part].followed[0]
    # Pictures and logs are no part of an advice, and take most of the time.
    _follow(f"{first} --trainer.logger false" if first.startswith("fit ") else first, match, capfd)


@pytest.mark.slow
@pytest.mark.parametrize("part", [part for part in ADVICE if len(ADVICE[part].followed) > 1])
def test_all_that_is_advised_works(
    part: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    match = _message(part, capfd, monkeypatch)
    for command in ADVICE[part].followed:
        _follow(command, match, capfd)
