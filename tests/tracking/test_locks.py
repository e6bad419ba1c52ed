"""Locks hold for whoever comes, also where a process that is done removes what they lock."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from gd_lightning import InputError
from gd_lightning.tracking import locks
from gd_lightning.tracking.locks import claimed, held, in_turn
from tests.conftest import TIMEOUT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no locks of this kind")

# What waits until a lock is free, by the path that is locked.
WAITING: dict[str, Callable[[Path], AbstractContextManager[object]]] = {
    "a file": lambda path: in_turn(path / "claims" / "report"),
    "a directory": lambda path: held(path / "logs", wait=True),
}
LOCKED = {"a file": "claims/report", "a directory": "logs"}


@pytest.mark.parametrize("what", WAITING)
@pytest.mark.parametrize("made_again", [True, False])
def test_who_waited_for_what_is_removed_is_not_there_together_with_who_makes_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, made_again: bool
) -> None:
    """The first one removes the file or directory, which the second one has opened, and a third one makes it anew."""
    path, opened, there = tmp_path / LOCKED[what], threading.Event(), list[str]()
    third_is_done, open_ = threading.Event(), locks._opened

    def seen(*arguments: object) -> int:
        handle = open_(*arguments)  # type: ignore[arg-type]
        opened.set()
        return handle

    def wait() -> None:
        with WAITING[what](tmp_path):
            there.append("second" if third_is_done.is_set() or not made_again else "too early")

    second = threading.Thread(target=wait)
    with WAITING[what](tmp_path):
        monkeypatch.setattr(locks, "_opened", seen)
        second.start()
        assert opened.wait(TIMEOUT)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        third = WAITING[what](tmp_path) if made_again else None
        if third is not None:
            third.__enter__()  # a new file, which nobody has locked
    if third is not None:
        there.append("third")
        third_is_done.set()
        third.__exit__(None, None, None)
    second.join(TIMEOUT)
    assert there == (["third", "second"] if made_again else ["second"])


def test_a_directory_that_another_process_removes_again_and_again_is_made_and_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a sweep that is refused removes the directory that it has made, when this one is about to lock it."""
    path, mkdir, left = tmp_path / "there", Path.mkdir, [3]

    def removed(self: Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        mkdir(self, mode, parents, exist_ok)
        if self == path and left[0]:
            left[0] -= 1
            self.rmdir()

    monkeypatch.setattr(Path, "mkdir", removed)
    with held(path):
        assert path.is_dir()
        with pytest.raises(InputError, match="another process is writing there"), held(path):
            pass


def test_a_claim_of_a_removed_file_is_no_claim_of_the_new_one(tmp_path: Path) -> None:
    file = tmp_path / "claims" / "a"
    with claimed(file) as first, claimed(file) as second:
        assert (first, second) == (True, False)
        shutil.rmtree(file.parent)
        with claimed(file) as third, claimed(file) as fourth:
            assert (third, fourth) == (True, False)
