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


def _takes_long(part: str) -> bool:
    """Whether comparisons are made, which take a second each; one of them is enough for every day."""
    commands = " ".join([*ADVICE[part].before, *ADVICE[part].followed])
    return commands.count("compare ") > 1 or ("compare " in commands and "sweep " in ADVICE[part].wrong)


@pytest.mark.parametrize(
    "part", [pytest.param(part, marks=[pytest.mark.slow] if _takes_long(part) else []) for part in ADVICE]
)
def test_what_is_advised_works(
    part: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    advice = ADVICE[part]
    if ".parquet" in advice.wrong:
        pytest.importorskip("pyarrow", reason="reads Parquet")
    materials()

    def run(command: str) -> tuple[int, str]:
        words = [_newest_run(word) for word in shlex.split(command)]
        if words[:1] in (["copy"], ["remove"]):
            shutil.copyfile(*words[1:]) if words[0] == "copy" else Path(words[1]).unlink()
            return 0, ""
        code = gd_lightning.main(words)
        out, err = capfd.readouterr()
        return code, err + out

    for command in advice.before:
        assert run(command)[0] in (0, 3)
    with monkeypatch.context() as context:
        for name, value in advice.environment.items():
            context.setenv(name, value)
        code, said = run(advice.wrong)
    assert code == 2, said
    (message,) = said.splitlines()
    found = [pattern(text).search(message) for text in messages() if part in text]
    match = next((each for each in found if each is not None), None)
    assert match is not None, message
    for command in advice.followed:
        code, said = run(re.sub(r"<(\d)>", lambda place: str(match[int(place[1]) + 1]), command))
        assert code == 0, f"{command}: {said}"


def _newest_run(word: str) -> str:
    """Return a word of a command, with the directory of the newest run for RUN."""
    if not word.startswith("RUN"):
        return word
    newest = max(Path("lightning_logs").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    return word.replace("RUN", str(newest), 1)
