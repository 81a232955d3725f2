"""The machine that is measured on, described without its name."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from pathlib import Path
from typing import Any

from tfdist.version import __version__

__all__ = ["busy_seconds", "describe"]

_PACKAGES = ("tensorflow", "keras", "tf_keras", "jax", "torch", "numpy")


def describe() -> dict[str, Any]:
    """Returns the processor, the memory, the load and the versions, by name."""
    return {
        "cores": os.cpu_count(),
        "processor": _first(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo")) or platform.machine(),
        "memory_gb": round(int(_first(r"MemTotal:\s*(\d+)", Path("/proc/meminfo")) or 0) / 2**20),
        "system": platform.system(),
        "load_before": round(os.getloadavg()[0], 2),
        "versions": {"python": platform.python_version(), "tfdist": __version__, **_versions()},
    }


def busy_seconds() -> float:
    """Seconds that all cores together have worked since the start; 0 where /proc does not tell."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    except OSError:
        return 0.0
    user, nice, system, _idle, _waiting, interrupts, soft, stolen = map(int, fields[:8])
    ticks = user + nice + system + interrupts + soft + stolen
    return ticks / float(os.sysconf("SC_CLK_TCK"))


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _first(pattern: str, path: Path) -> str:
    try:
        found = re.search(pattern, path.read_text())
    except OSError:
        return ""
    return found[1].strip() if found else ""
