"""A small file system in place of a folder, which can be full: for the processes of one job alone.

It is a tmpfs in a mount namespace that a process holds open, which ends with its parent: then the
file system is gone, too. Needs Linux, and root or unprivileged user namespaces.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tfdist.errors import LaunchError

__all__ = ["SmallDisk", "no_small_disk"]

_FILLER = ".tfdist-chaos-fills-the-disk"
_TICK_SECONDS = 0.02
# Mounts, says so, and stays until its standard input ends.
_HOLDER = 'mount -t tmpfs -o size="$1",mode=700 tfdist-chaos "$0" && echo ready && exec cat'


def no_small_disk() -> str:
    """Why there can be none here; "" where there can."""
    if not sys.platform.startswith("linux"):
        return "a disk that is full needs Linux"
    missing = [name for name in ("unshare", "nsenter", "mount") if shutil.which(name) is None]
    if missing:
        return f"a disk that is full needs {missing[0]}, which is not here"
    with tempfile.TemporaryDirectory(prefix="tfdist-chaos-") as scratch:
        try:
            with SmallDisk(Path(scratch), 1 << 20) as disk:
                return "" if disk.folder.is_dir() else "its files cannot be seen from here"
        except (LaunchError, OSError) as error:
            return str(error)


class SmallDisk:
    """A context manager; in it, `command` runs commands that see the file system.

    Args:
        place: an empty folder, in whose place it is.
        size: in bytes.

    Attributes:
        folder: where this process sees what the others see at `place`.

    Raises:
        LaunchError: it cannot be mounted, on entering.
    """

    def __init__(self, place: Path, size: int) -> None:
        self._place = place
        self._size = size
        self.folder = place

    def __enter__(self) -> SmallDisk:
        own_users = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        self._holder = subprocess.Popen(
            ["unshare", *own_users, "--mount", "sh", "-c", _HOLDER, self._place, str(self._size)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline().strip() != b"ready":
            _, said = self._holder.communicate()
            self._close()
            raise LaunchError(
                "a disk that is full needs root, or user namespaces for everybody "
                f"({said.decode(errors='replace').strip()})"
            )
        self.folder = Path(f"/proc/{self._holder.pid}/root{self._place.resolve()}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def command(self, words: Sequence[object]) -> list[object]:
        """The command that runs another one on this disk, in the folder."""
        own_users = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        enter = ["nsenter", "--target", self._holder.pid, *own_users, "--mount"]
        return [*enter, "sh", "-c", 'cd "$0" && exec "$@"', self._place, *words]

    def fill(self, seconds: float) -> None:
        """Has no byte left on it for so long, whatever is freed meanwhile; then frees it again."""
        until = time.monotonic() + seconds
        path = self.folder / _FILLER
        with contextlib.ExitStack() as stack:
            file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
            stack.callback(path.unlink, missing_ok=True)
            stack.callback(os.close, file)
            filled = 0
            while time.monotonic() < until:
                filled += _take_all(self.folder, file, filled)
                time.sleep(_TICK_SECONDS)

    def _close(self) -> None:
        for pipe in (self._holder.stdin, self._holder.stdout, self._holder.stderr):
            if pipe is not None:
                pipe.close()
        self._holder.kill()
        self._holder.wait()


def _take_all(folder: Path, file: int, begin: int) -> int:
    """Takes all the room that there is; returns how much it was."""
    found = os.statvfs(folder)
    length = found.f_bavail * found.f_bsize
    while length >= found.f_bsize:
        try:
            os.posix_fallocate(file, begin, length)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            length //= 2  # somebody else was faster
            continue
        return length
    return 0
