"""The amount of free memory, within the limits of containers, and giving memory back to the system (layer 0)."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

_DONTNEED = 4  # MADV_DONTNEED, an argument of madvise
_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S{4}) .* (/.+)")


def free_memory(root: Path = Path("/")) -> int:
    """Return how many bytes can be allocated: those of the machine, within the limits of containers and shells.

    Memory that holds files counts as free where the system takes it back on demand. Where the system does not tell,
    nothing is free.

    Args:
        root: The directory of ``/proc`` and ``/sys``; another one in tests.
    """
    return max(0, min([_of_machine(root), *_of_groups(root), *_of_process(root)]))


def _of_machine(root: Path) -> int:
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        names = os.sysconf_names if hasattr(os, "sysconf_names") else {}
        if root != Path("/") or "SC_AVPHYS_PAGES" not in names:
            return 0
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _of_groups(root: Path) -> Iterator[int]:
    """Yield the free memory of each control group of Linux that this process is in, of version 1 and 2."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, kinds, own = line.split(":", 2)
        if kinds and "memory" not in kinds.split(","):
            continue
        folder = root / "sys/fs/cgroup" / ("memory" if kinds else "")
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if kinds else ("memory.max", "memory.current")
        # In a container, the process's control group is often mounted as the root, so that its path does not exist.
        group = folder / own.strip("/")
        for each in (group, *group.parents):
            if each == folder.parent:
                break
            limit, used = (_number(each / name) for name in names)
            if limit is not None and used is not None:
                yield limit - used + _reclaimable(each / "memory.stat")


def _of_process(root: Path) -> Iterator[int]:
    """Yield the addresses that are left to this process, where its shell has limited them (``ulimit -v``)."""
    try:
        lines = (root / "proc/self/limits").read_text().splitlines()
        pages = int((root / "proc/self/statm").read_text().split()[0])
        limit = next(line.split()[3] for line in lines if line.startswith("Max address space"))
        if limit != "unlimited":
            yield int(limit) - pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, StopIteration, ValueError, IndexError):
        return


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # the file does not exist, or says "max"
        return None


def _reclaimable(path: Path) -> int:
    """Return the bytes of files that a group has read and does not use at present."""
    try:
        fields = dict(line.split() for line in path.read_text().splitlines())
        return int(fields.get("total_inactive_file", fields.get("inactive_file", 0)))
    except (OSError, ValueError):
        return 0


def return_free_memory() -> None:
    """Give memory that was freed back to the system, where the C library would keep it (glibc on Linux)."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


def forget_code() -> None:
    """Let go of all code of libraries in memory (Linux); what is executed again comes from the system's cache of files.

    To import torch and to load one compiled function reads more than 100 MB of code, most of it once. It counts as
    memory of the process as long as the system has enough of it.
    """
    if sys.platform != "linux":
        return
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = [ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]
    for start, end in code_of_files(Path("/proc/self/smaps")):
        advise(start, end - start, _DONTNEED)


def code_of_files(maps: Path) -> Iterator[tuple[int, int]]:
    """Yield the addresses of executable parts of files, but not where this process has changed them in memory.

    Args:
        maps: Content of ``/proc/self/smaps`` on Linux.
    """
    try:
        lines = maps.read_text().splitlines()
    except OSError:
        return
    place, changed = None, 0
    for line in [*lines, "0-0 ---p 00000000 00:00 0 /"]:
        if (found := _MAPPING.fullmatch(line)) is not None or " kB" not in line:
            if place is not None and not changed:
                yield place
            is_code = found is not None and found[3] == "r-xp"
            place, changed = (int(found[1], 16), int(found[2], 16)) if found is not None and is_code else None, 0
        elif line.startswith(("Anonymous:", "Swap:")):
            changed += int(line.split()[1])
