"""How much memory this process has had at most: VmHWM of /proc/self/status (proc_pid_status(5))."""

from __future__ import annotations

import re
from pathlib import Path

from tfdist.errors import LaunchError

__all__ = ["peak"]

_STATUS = Path("/proc/self/status")


def peak() -> int:
    """Returns the most bytes of this process that have lain in memory at one time.

    Raises:
        LaunchError: this system does not tell.
    """
    return _read("VmHWM")


def _read(name: str) -> int:
    try:
        found = re.search(rf"^{name}:\s*(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
    except OSError as error:
        raise _cannot(error) from None
    if found is None:
        raise _cannot(f"no {name} in status")
    return 1024 * int(found[1])


def _cannot(reason: object) -> LaunchError:
    return LaunchError(
        f"the memory of a process cannot be read here ({reason}); measure on Linux, whose /proc "
        "tells it"
    )
