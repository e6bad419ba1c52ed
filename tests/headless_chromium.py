"""A headless Chromium for tests, driven over two pipes by the Chrome DevTools Protocol; no other program is needed.

https://chromedevtools.github.io/devtools-protocol
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium")
SECONDS = 60.0

needs_chromium = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is missing: apt-get install chromium"),
]

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)
_READ, _WRITTEN = 3, 4  # where Chromium has its pipes

# Some pages are made of web components, and document.querySelectorAll stops at their shadow roots.
_SEARCH = """
const all = root => [...root.querySelectorAll('*')]
  .flatMap(element => [element, ...(element.shadowRoot ? all(element.shadowRoot) : [])]);
const search = selector => all(document).filter(element => element.matches(selector));
"""

# Text that is not shown, as of a hidden tab or of a style sheet, covers no rectangles.
_SHOWN_TEXT = """
const texts = node => [
  ...(node.shadowRoot ? texts(node.shadowRoot) : []),
  ...[...node.childNodes].flatMap(child => child.nodeType === Node.TEXT_NODE ? [child] : texts(child)),
];
const shown = text => {
  const range = document.createRange();
  range.selectNodeContents(text);
  return text.data.trim() !== '' && range.getClientRects().length > 0;
};
return search(arguments[0]).flatMap(texts).filter(shown).map(text => text.data.trim()).join('\\n');
"""


def wait_until(condition: Callable[[], bool], what: Callable[[], str]) -> None:
    """Wait for a condition; after the deadline, fail with what was waited for."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {SECONDS:g} s: {what()}"
        time.sleep(0.1)


class Browser:
    """A browser with one page.

    Args:
        directory: An empty directory, for the browser's profile and the pages that are shown.
        width: Of the page, in pixels.
        height: Of the page, in pixels.
    """

    def __init__(self, directory: Path, width: int = 1280, height: int = 800) -> None:
        self._directory = directory
        self._process, self._read, self._written = _started(directory)
        self._unread = b""
        self._session: dict[str, str] = {}
        self._count = 0
        self._has_loaded = False
        self.faults: list[str] = []
        target = self._send("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self._send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        for domain in ("Page", "Runtime"):
            self._send(f"{domain}.enable")
        self.resize(width, height)

    def open(self, url: str) -> None:
        """Load a page, and forget the faults of the one before."""
        # A URL that differs after its # alone would not load the page anew.
        for address in ("about:blank", url):
            self.faults, self._has_loaded = [], False
            assert "errorText" not in (answer := self._send("Page.navigate", url=address)), answer
            while not self._has_loaded:
                self._receive()

    def show(self, page: str) -> None:
        """Load a page that is given as HTML."""
        file = self._directory / "page.html"
        file.write_text(page, encoding="utf-8")
        self.open(file.resolve().as_uri())

    def run(self, script: str, *args: object) -> Any:
        """Run JavaScript, which may ``search(selector)`` through shadow roots; returns what it returns."""
        call = f"(function () {{{_SEARCH}{script}}}).apply(null, {json.dumps(args)})"
        answer = self._send("Runtime.evaluate", expression=call, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def click(self, selector: str) -> None:
        """Click the first element of a selector, once there is one."""
        wait_until(lambda: bool(self.run("return search(arguments[0]).length", selector)), lambda: selector)
        self.run("search(arguments[0])[0].click()", selector)

    def text(self, selector: str, *expected: str) -> str:
        """Return the text shown in all elements of a selector, once it has all that is expected."""
        text = ""

        def complete() -> bool:
            nonlocal text
            text = self.run(_SHOWN_TEXT, selector)
            return all(part in text for part in expected)

        wait_until(complete, lambda: f"{expected} in {selector}, which shows:\n{text}")
        return text

    def resize(self, width: int, height: int) -> None:
        """Give the page another size."""
        self._send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def screenshot(self) -> bytes:
        """Return a PNG of the page, once nothing in it moves."""
        pictures = [b""]

        def still() -> bool:
            pictures.append(base64.b64decode(self._send("Page.captureScreenshot")["data"]))
            return pictures[-1] == pictures[-2]

        wait_until(still, lambda: "a page without motion")
        return pictures[-1]

    def close(self) -> None:
        """End the browser."""
        self._session = {}
        self._send("Browser.close")
        try:
            self._process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
        os.close(self._read)
        os.close(self._written)

    def _send(self, method: str, **parameters: object) -> Any:
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters, **self._session}
        os.write(self._written, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._count:
            pass
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def _receive(self) -> dict[str, Any]:
        """Return the next message, an answer or an event, of which those of loaded pages and of faults are kept."""
        while b"\0" not in self._unread:
            assert select.select([self._read], [], [], SECONDS)[0], f"Chromium says nothing in {SECONDS:g} s"
            part = os.read(self._read, 1 << 16)
            assert part, (self._directory / "chromium.log").read_text()
            self._unread += part
        line, _, self._unread = self._unread.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        if message.get("method") == "Page.loadEventFired":
            self._has_loaded = True
        elif message.get("method") == "Runtime.exceptionThrown":
            details = message["params"]["exceptionDetails"]
            self.faults.append(details.get("exception", {}).get("description", details["text"]))
        return message


def _started(directory: Path) -> tuple[subprocess.Popen[bytes], int, int]:
    """Start Chromium; returns the process, and where its messages are read and messages to it are written."""
    assert CHROMIUM is not None
    given, written = os.pipe()
    read, answered = os.pipe()
    # Numbers that are not yet those of its pipes, which a shell sets.
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (given, answered)]
    command = f'exec "$0" "$@" {_READ}<&{ends[0]} {_WRITTEN}>&{ends[1]}'
    with (directory / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            ["bash", "-c", command, CHROMIUM, *_FLAGS, f"--user-data-dir={directory / 'profile'}"],
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=ends,
        )
    for end in (given, answered, *ends):
        os.close(end)
    return process, read, written
