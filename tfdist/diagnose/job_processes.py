"""The processes of a job that somebody else runs, as /proc shows them (Linux)."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from tfdist.launch.guardian import process_ids, read_proc

__all__ = ["at_work_in", "tasks_of"]


def tasks_of(launcher: int) -> dict[str, int]:
    """Returns the process ids of a launcher's tasks, by task, as "worker:1"."""
    found = {}
    for pid in process_ids():
        with contextlib.suppress(ValueError, KeyError, TypeError, IndexError):
            if int(read_proc(pid, "stat").rpartition(b")")[2].split()[1]) != launcher:
                continue
            for entry in read_proc(pid, "environ").split(b"\0"):
                if entry.startswith(b"TF_CONFIG="):
                    task = json.loads(entry.partition(b"=")[2])["task"]
                    found[f"{task['type']}:{task['index']}"] = pid
    return found


def at_work_in(folder: Path) -> list[int]:
    """Returns the processes whose working directory is a folder; none of the dead ones.

    Args:
        folder: as this process sees it; for others it may have another name, in a mount namespace
            of their own.
    """
    own = os.stat(folder)
    found = []
    for pid in process_ids():
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(f"/proc/{pid}/cwd"), own):
                found.append(pid)
    return found
