"""Free memory, as the files of Linux tell it in containers, batch systems and none of both; and giving memory back."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from gd_lightning.free_memory import code_of_files, forget_code, free_memory, return_free_memory

MACHINE = 8_000_000 * 1024
GB = 10**9
PAGE = os.sysconf("SC_PAGE_SIZE")
_LIMITS = "Limit  Soft Limit  Hard Limit  Units\nMax open files  1024  4096  files\nMax address space  "
V1, V2 = ("memory.limit_in_bytes", "memory.usage_in_bytes"), ("memory.max", "memory.current")


def _write(root: Path, files: dict[str, str]) -> Path:
    for name, text in {"proc/meminfo": f"MemTotal: 9 kB\nMemAvailable:  {MACHINE // 1024} kB\n", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def _group(folder: str, names: tuple[str, str], limit: object, used: int, stat: str = "") -> dict[str, str]:
    return {f"{folder}/{names[0]}": f"{limit}\n", f"{folder}/{names[1]}": f"{used}\n", f"{folder}/memory.stat": stat}


V2_FOLDER, V1_FOLDER = "sys/fs/cgroup", "sys/fs/cgroup/memory"
CASES: dict[str, tuple[dict[str, str], int]] = {
    "no groups": ({}, MACHINE),
    "no limit, version 2": ({"proc/self/cgroup": "0::/\n", **_group(V2_FOLDER, V2, "max", GB)}, MACHINE),
    "no limit, version 1": (
        {"proc/self/cgroup": "4:memory:/\n0::/\n", **_group(V1_FOLDER, V1, 2**63 - 4096, GB)},
        MACHINE,
    ),
    "a container, version 2": ({"proc/self/cgroup": "0::/\n", **_group(V2_FOLDER, V2, 3 * GB, GB)}, 2 * GB),
    "files that it has read": (
        {"proc/self/cgroup": "0::/\n", **_group(V2_FOLDER, V2, 3 * GB, GB, f"anon 5\ninactive_file {GB // 2}\n")},
        2 * GB + GB // 2,
    ),
    "a container whose path is that of the host, version 1": (
        {
            "proc/self/cgroup": "5:cpuset:/docker/abc\n4:memory:/docker/abc\n",
            **_group(V1_FOLDER, V1, 3 * GB, GB, f"inactive_file 7\ntotal_inactive_file {GB // 4}\n"),
        },
        2 * GB + GB // 4,
    ),
    "a job within a user within a machine": (
        {
            "proc/self/cgroup": "0::/user/job\n",
            **_group(f"{V2_FOLDER}/user/job", V2, "max", GB),
            **_group(f"{V2_FOLDER}/user", V2, 4 * GB, 3 * GB),
        },
        GB,
    ),
    "memory together with another controller": (
        {"proc/self/cgroup": "4:cpu,memory:/job\n", **_group(f"{V1_FOLDER}/job", V1, 2 * GB, GB)},
        GB,
    ),
    "a shell that limits addresses": (
        {"proc/self/limits": f"{_LIMITS}{3 * GB}  unlimited  bytes\n", "proc/self/statm": "1000 5 5 1 0 5 0\n"},
        3 * GB - 1000 * PAGE,
    ),
    "a shell that does not": (
        {"proc/self/limits": f"{_LIMITS}unlimited  unlimited  bytes\n", "proc/self/statm": "1000 5 5 1 0 5 0\n"},
        MACHINE,
    ),
    "more is used than allowed": ({"proc/self/cgroup": "0::/\n", **_group(V2_FOLDER, V2, GB, 2 * GB)}, 0),
    "the system does not tell": ({"proc/meminfo": "MemTotal: 9 kB\n"}, 0),
}


@pytest.mark.parametrize("case", CASES)
def test_free_memory_is_what_the_tightest_limit_leaves(tmp_path: Path, case: str) -> None:
    files, expected = CASES[case]
    assert free_memory(_write(tmp_path, files)) == expected


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="reads the memory of the machine in /proc")
def test_free_memory_of_this_machine_is_a_part_of_it() -> None:
    all_of_it = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    assert 0 < free_memory() < all_of_it


def _resident(what: str) -> int:
    """Return megabytes of this process."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) // 1024


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system does not tell")
def test_code_that_is_let_go_of_is_there_again_when_it_is_needed() -> None:
    before = _resident("RssFile:")
    forget_code()
    assert _resident("RssFile:") < before - 10  # torch alone has read more than 40
    weights = torch.linspace(0, 1, 50, dtype=torch.float64)
    assert torch.linalg.norm(weights).item() == pytest.approx(float(np.linalg.norm(weights.numpy())))
    return_free_memory()


def test_only_code_of_files_that_nobody_has_changed_is_let_go_of(tmp_path: Path) -> None:
    sizes = "Size: 8 kB\nAnonymous: {} kB\nSwap: {} kB\nVmFlags: rd ex\n"
    mappings = [
        ("1000-3000 r-xp 00000000 fe:00 7  /lib/code.so", sizes.format(0, 0)),
        ("4000-5000 r-xp 00000000 fe:00 7  /lib/with a space.so", sizes.format(0, 0)),
        ("5000-6000 r-xp 00000000 fe:00 7  /lib/changed.so", sizes.format(4, 0)),
        ("6000-7000 r-xp 00000000 fe:00 7  /lib/changed and swapped.so", sizes.format(0, 4)),
        ("7000-8000 r--p 00000000 fe:00 7  /lib/data.so", sizes.format(0, 0)),
        ("8000-9000 rw-p 00000000 fe:00 7  /lib/data.so", sizes.format(0, 0)),
        ("9000-a000 r-xp 00000000 00:00 0 ", sizes.format(0, 0)),
        ("a000-b000 r-xp 00000000 00:00 0  [vdso]", sizes.format(0, 0)),
        ("ffff-1ffff r-xp 00000000 fe:00 7  /lib/last.so", sizes.format(0, 0)),
    ]
    maps = tmp_path / "smaps"
    maps.write_text("".join(f"{head}\n{text}" for head, text in mappings))
    assert list(code_of_files(maps)) == [(0x1000, 0x3000), (0x4000, 0x5000), (0xFFFF, 0x1FFFF)]
    assert list(code_of_files(tmp_path / "nowhere")) == []
