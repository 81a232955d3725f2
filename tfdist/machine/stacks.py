"""Where each thread of this process stands, written for people who find out why a job hangs."""

from __future__ import annotations

import contextlib
import faulthandler
import threading
import time
from pathlib import Path

__all__ = ["write"]

_MOST_BYTES = 1 << 20
_lock = threading.Lock()


def write(folder: Path, task: str) -> Path | None:
    """Adds the Python stacks of all threads to a file of this task's own.

    Nothing is added to a file that has 1 MiB.

    Args:
        folder: Where it lies; made if it is not there.
        task: Whose it is, as "worker:1".

    Returns:
        The file, as "worker-1.stacks.txt" in the folder; None where it cannot be written.
    """
    path = folder / f"{task.replace(':', '-') or 'task'}.stacks.txt"
    with _lock, contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            if file.tell() < _MOST_BYTES:
                file.write(f"\n{task} at {time.strftime('%Y-%m-%d %H:%M:%S')}\n\n")
                file.flush()
                faulthandler.dump_traceback(file, all_threads=True)
        return path
    return None
