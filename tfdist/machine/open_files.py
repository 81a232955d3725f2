"""How many files, and connections, a process may have open."""

from __future__ import annotations

import contextlib

__all__ = ["allow_open_files", "open_files_limit"]


def open_files_limit() -> int:
    """How many files this process may have open, once it asks for them; -1 without a limit."""
    try:
        import resource  # not where the system is not POSIX
    except ImportError:
        return -1
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return -1 if most == resource.RLIM_INFINITY else most


def allow_open_files(count: int) -> str:
    """Lets this process have so many files open.

    Args:
        count: How many it will need in all.

    Returns:
        Why it cannot, and what to do; "" where it can.
    """
    most = open_files_limit()
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY and soft < count:
            wanted = count if most < 0 else min(count, most)
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if 0 <= most < count:
        return (
            f"this process may have {most} files and connections open, and needs {count}: raise "
            f"the limit (ulimit -Hn {count}) where it is started"
        )
    return ""
