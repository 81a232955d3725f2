"""What a process may use of its machine: cores, memory, files; Linux tells most."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path

from tfdist.machine.open_files import open_files_limit

__all__ = ["available_cores", "cores_of", "limits", "memory", "memory_of"]

_CGROUP = Path("/sys/fs/cgroup")


def available_cores() -> int:
    """How many cores' time this process may take.

    Those that it may run on (fewer than the machine's under taskset or Slurm), or as many as its
    control groups give it the time of (Docker's `--cpus`, Kubernetes' limits), rounded up.
    """
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quotas = [_quota(_words(folder / "cpu.max")) for folder in _own_cgroups()]
    return min([found or 1, *(one for one in quotas if one is not None)])


def _quota(words: list[str]) -> int | None:
    """The cores of a control group's "quota period"; None for "max period" and nothing."""
    if len(words) != 2 or not all(word.isdecimal() for word in words) or not int(words[1]):
        return None
    return max(1, math.ceil(int(words[0]) / int(words[1])))


def cores_of() -> str:
    """A text that two processes have alike if they share their cores."""
    which = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else ["all"]
    return f"{_machine()} {','.join(map(str, which))}"


def memory() -> int:
    """How many bytes this process may still take; -1 where the system does not tell."""
    found = [left for left, _ in _memory_left()]
    address_space = limits()[1]
    if address_space >= 0:
        found.append(address_space)
    return min(found, default=-1)


def memory_of() -> str:
    """A text that two processes have alike if they share their memory.

    That is the machine's, or what a control group leaves of it, which other groups have apart.
    """
    return f"{_machine()} {min(_memory_left(), default=(0, ''))[1]}"


def _memory_left() -> list[tuple[int, str]]:
    """The bytes that are left, of the machine and of each control group that limits them."""
    told = [line.split() for line in _lines(Path("/proc/meminfo"))]
    found = [(int(words[1]) * 1024, "all") for words in told if words[:1] == ["MemAvailable:"]]
    for folder in _own_cgroups():
        most, used = _words(folder / "memory.max"), _words(folder / "memory.current")
        if most and used and most[0].isdecimal():
            left = max(0, int(most[0]) - int(used[0]) + _reclaimable(folder))
            # Its number, as each container sees its own group at the root.
            found.append((left, f"group {folder.stat().st_ino}"))
    return found


def _machine() -> str:
    return " ".join(_words(Path("/proc/sys/kernel/random/boot_id"))) or os.uname().nodename


def limits() -> tuple[int, int, int]:
    """The most open files; bytes of address space; and bytes of a file; -1 without a limit."""
    try:
        import resource
    except ImportError:  # not POSIX
        return -1, -1, -1
    found = [resource.getrlimit(one)[0] for one in (resource.RLIMIT_AS, resource.RLIMIT_FSIZE)]
    space, size = (-1 if one == resource.RLIM_INFINITY else one for one in found)
    return open_files_limit(), space, size


def _own_cgroups() -> list[Path]:
    """The process' own control group and those above it, each of which may set a limit."""
    for line in _lines(Path("/proc/self/cgroup")):
        if line.startswith("0::"):
            own = _CGROUP / line[3:].lstrip("/")
            return [own, *(one for one in own.parents if one.is_relative_to(_CGROUP))]
    return []


def _reclaimable(folder: Path) -> int:
    for line in _lines(folder / "memory.stat"):
        name, _, value = line.partition(" ")
        if name == "inactive_file" and value.isdecimal():
            return int(value)
    return 0


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()


def _lines(path: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return path.read_text().splitlines()
    return []
