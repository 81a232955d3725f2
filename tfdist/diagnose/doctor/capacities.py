"""What a process may use of its machine: cores, memory, files, graphics cards; Linux tells most."""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tfdist.diagnose.doctor.host_facts import Gpu
from tfdist.machine.open_files import open_files_limit
from tfdist.machine.places import available_cores

__all__ = ["cores", "cores_of", "gpus", "limits", "memory"]

_CGROUP = Path("/sys/fs/cgroup")
_NVIDIA_SMI_SECONDS = 10.0
_FIELDS = "index,uuid,name,memory.free,memory.total"
_MIB = 1 << 20


def cores() -> int:
    """How many cores' time this process may take: those it may run on, and its quota of them."""
    found = available_cores()
    for folder in _own_cgroups():
        words = _words(folder / "cpu.max")
        if len(words) == 2 and all(word.isdecimal() for word in words):
            found = min(found, max(1, math.ceil(int(words[0]) / int(words[1]))))
    return found


def cores_of() -> str:
    """A text that two processes have alike if they share their cores."""
    boot = " ".join(_words(Path("/proc/sys/kernel/random/boot_id"))) or os.uname().nodename
    which = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else ["all"]
    return f"{boot} {','.join(map(str, which))}"


def memory() -> int:
    """How many bytes this process may still take; -1 where the system does not tell."""
    told = [line.split() for line in _lines(Path("/proc/meminfo"))]
    found = [int(words[1]) * 1024 for words in told if words[:1] == ["MemAvailable:"]]
    for folder in _own_cgroups():
        most, used = _words(folder / "memory.max"), _words(folder / "memory.current")
        if most and used and most[0].isdecimal():
            found.append(max(0, int(most[0]) - int(used[0]) + _reclaimable(folder)))
    address_space = limits()[1]
    if address_space >= 0:
        found.append(address_space)
    return min(found, default=-1)


def limits() -> tuple[int, int, int]:
    """The most open files; bytes of address space; and bytes of a file; -1 without a limit."""
    try:
        import resource
    except ImportError:  # not POSIX
        return -1, -1, -1
    found = [resource.getrlimit(one)[0] for one in (resource.RLIMIT_AS, resource.RLIMIT_FSIZE)]
    space, size = (-1 if one == resource.RLIM_INFINITY else one for one in found)
    return open_files_limit(), space, size


def gpus(environ: Mapping[str, str]) -> tuple[Gpu, ...] | None:
    """The cards that a process with these variables sees; None where there is no nvidia-smi."""
    command = ["nvidia-smi", f"--query-gpu={_FIELDS}", "--format=csv,noheader,nounits"]
    try:
        asked = subprocess.run(
            command, capture_output=True, text=True, timeout=_NVIDIA_SMI_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return visible(asked.stdout if not asked.returncode else "", environ)


def visible(table: str, environ: Mapping[str, str]) -> tuple[Gpu, ...]:
    """The cards of nvidia-smi's table that CUDA_VISIBLE_DEVICES lets a process see.

    Args:
        table: A line for each card: its number, UUID, name, and free and whole memory in MiB.
        environ: The process' variables. Slices of a card (MIG) are kept by their UUID alone.
    """
    found: dict[str, Gpu] = {}
    for line in table.splitlines():
        number, uuid, name, *sizes = (word.strip() for word in line.split(","))
        free, total = (int(one) * _MIB if one.isdecimal() else -1 for one in sizes[-2:])
        found[number] = Gpu(uuid, name, free, total)
    wanted = environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return tuple(found.values())
    seen = []
    for word in map(str.strip, wanted.split(",")):
        by_uuid = [one for one in found.values() if word and one.uuid.startswith(word)]
        if word in found:
            seen.append(found[word])
        elif by_uuid:
            seen += by_uuid[:1]
        elif word.startswith("MIG-"):
            seen.append(Gpu(word, "a slice of a card", -1, -1))
        else:  # CUDA sees none behind the first that is not there
            break
    return tuple(seen)


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
