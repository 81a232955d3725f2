"""What the folder of a run can do: what checkpoints and logs need is tried in it."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tfdist.diagnose.doctor.host_facts import FolderFacts

__all__ = ["left_here", "probe", "sees"]

_PREFIX = ".tfdist-doctor-"
_PROBE_BYTES = 1 << 20


def probe(folder: str | os.PathLike[str]) -> FolderFacts:
    """Writes, syncs, renames, locks and links files in a folder, and takes them away again.

    Args:
        folder: Which. Where it is not there yet, the nearest one above it is tried.
    """
    there = _nearest(Path(folder))
    try:
        room = os.statvfs(there)
    except OSError as error:
        return FolderFacts(str(folder), f"cannot be looked at ({_reason(error)})")
    free, files = room.f_bavail * room.f_frsize, room.f_favail if room.f_files else -1
    facts = FolderFacts(str(folder), "", free, files)
    step = "a folder cannot be made in it"
    scratch = ""
    try:
        scratch = tempfile.mkdtemp(prefix=_PREFIX, dir=there)
        first, second = Path(scratch, "first"), Path(scratch, "second")
        step = "it cannot be written to"
        begin = time.monotonic()
        with first.open("xb") as file:
            file.write(os.urandom(_PROBE_BYTES))
            file.flush()
            step = "a file cannot be synced to the disk"
            os.fsync(file.fileno())
            locks = _can_lock(file.fileno())
        sync = time.monotonic() - begin
        step = "a file cannot be renamed over another"
        second.touch()
        first.replace(second)
        step = "what was written is not there to be read"
        if second.stat().st_size != _PROBE_BYTES:
            raise OSError(0, f"{second.stat().st_size} of {_PROBE_BYTES} bytes")
        links = _can_link(second)
    except OSError as error:
        return FolderFacts(str(folder), f"{step} ({_reason(error)})", free, files)
    finally:
        if scratch:
            shutil.rmtree(scratch, ignore_errors=True)
    return FolderFacts(facts.path, "", free, files, sync, locks, links)


@contextlib.contextmanager
def left_here(folder: str | os.PathLike[str], token: str) -> Iterator[None]:
    """Leaves a file that others can look for (`sees`), and takes it away in the end."""
    path = _nearest(Path(folder)) / f"{_PREFIX}{token}"
    with contextlib.suppress(OSError):
        path.touch()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def sees(folder: str | os.PathLike[str], token: str, seconds: float = 2.0) -> bool:
    """Whether the file that another has left is in this folder, too; a network may take a while."""
    until = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            if f"{_PREFIX}{token}" in os.listdir(_nearest(Path(folder))):
                return True
        if time.monotonic() >= until:
            return False
        time.sleep(0.1)


def _nearest(folder: Path) -> Path:
    return next((one for one in (folder, *folder.absolute().parents) if one.is_dir()), folder)


def _can_lock(file: int) -> bool:
    try:
        import fcntl  # not where the system is not POSIX

        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True


def _can_link(path: Path) -> bool:
    try:
        os.link(path, path.with_name("link"))
    except OSError:
        return False
    return True


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
