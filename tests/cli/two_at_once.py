"""Runs two commands at the same moment, again and again, each in a process of its own: a program for tests.

It is started once, imports the package once, and forks: a process that imports for seconds is never at the same moment
as another.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import gd_lightning
from gd_lightning import Pictures


def both(commands: list[list[str]], said: Path) -> list[int]:
    """Return the exit codes of commands that begin together; what each one says is in a file of its number."""
    ready, begin = os.pipe(), os.pipe()
    processes = []
    for number, command in enumerate(commands):
        process = os.fork()
        if process == 0:
            with (said / f"{number}.txt").open("w", encoding="utf-8") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
                os.close(begin[1])
                os.write(ready[1], b".")
                os.read(begin[0], 1)  # until the other end is closed
                code = gd_lightning.main(command)
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)
        processes.append(process)
    for _ in commands:
        os.read(ready[0], 1)
    for end in (*ready, *begin):
        os.close(end)
    return [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    Pictures.on_train_end = lambda *_: None  # type: ignore[method-assign]  # they take two thirds of a short run
    gd_lightning.main(["fit", "--trainer.fast_dev_run", "true"])  # loads all that is loaded late
    for line in sys.stdin:
        asked = json.loads(line)
        os.chdir(asked["directory"])
        print(json.dumps(both(asked["commands"], Path(asked["said"]))), file=answers, flush=True)
