"""The server that is forked for workers is started for them only, and imports the modules that the command does."""

from __future__ import annotations

import os
import signal
import sys
import threading
from multiprocessing import forkserver
from pathlib import Path

import pytest

from gd_lightning.cli import fork_server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="on other systems workers are not forked")


class _Starts:
    """Stands for the start of the server, and keeps what it would have inherited."""

    def __init__(self) -> None:
        self.found: list[tuple[object, str | None]] = []

    def __call__(self) -> None:
        """Keep how Ctrl-C is handled, and whether modules in the current directory are left out."""
        self.found.append((signal.getsignal(signal.SIGINT), os.environ.get("PYTHONSAFEPATH")))


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> _Starts:
    """Return what is called instead of the start of a server."""
    instead = _Starts()
    monkeypatch.setattr(forkserver, "ensure_running", instead)
    monkeypatch.setattr(forkserver, "set_forkserver_preload", lambda _: None)
    monkeypatch.setattr(fork_server, "_started", threading.Event())
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    return instead


@pytest.mark.parametrize(
    ("arguments", "is_started"),
    [
        (["compare", "--workers", "2"], True),
        (["sweep", "--model.lr", "0.1,0.2", "--workers=8"], True),
        (["compare", "--workers", "1"], False),
        (["compare", "--workers"], False),
        (["compare", "--workers", "2", "--help"], False),
        (["compare", "--seeds", "2"], False),
        (["fit", "--data.num_workers", "2"], False),
        (["fit", "--workers", "2"], False),
        ([], False),
    ],
)
def test_it_is_started_for_workers_only(starts: _Starts, arguments: list[str], is_started: bool) -> None:
    fork_server.start_fork_server(arguments)
    assert len(starts.found) == is_started
    assert fork_server.context_of_workers().get_start_method() == ("forkserver" if is_started else "spawn")


@pytest.mark.parametrize("is_there", [True, False])
def test_it_imports_what_the_command_does_and_lets_it_handle_ctrl_c(
    starts: _Starts, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    here, handler = str(Path.cwd()), signal.getsignal(signal.SIGINT)
    others = [path for path in sys.path if path not in ("", here)]
    monkeypatch.setattr(sys, "path", [*others, here] if is_there else others)
    fork_server.start_fork_server(["compare", "--workers", "2"])
    assert starts.found == [(signal.SIG_IGN, None if is_there else "1")]
    assert "PYTHONSAFEPATH" not in os.environ
    assert signal.getsignal(signal.SIGINT) is handler
