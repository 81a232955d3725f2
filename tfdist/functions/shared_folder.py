"""The folder that a caller and its tasks share while a job runs, and what killed callers have left.

A caller that is killed cannot remove its folder, which holds copies of its arguments. So each holds
a lock in its own, which ends with the process, and the next one removes those without a holder.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["shared_folder"]

_PREFIX = "tfdist_run_"
_LOCK = "lock"


@contextlib.contextmanager
def shared_folder() -> Iterator[Path]:
    """A folder that only this user can enter, until the end of the block."""
    _remove_those_without_a_holder()
    while True:
        with contextlib.ExitStack() as stack:
            folder = _held(stack)
            if folder is not None:
                yield folder
                return


def _held(stack: contextlib.ExitStack) -> Path | None:
    """A folder whose lock the stack holds until it is removed; None where another took it first."""
    folder = tempfile.TemporaryDirectory(prefix=_PREFIX)
    path = os.path.join(folder.name, _LOCK)
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    stack.callback(os.close, lock)
    stack.enter_context(folder)
    fcntl.flock(lock, fcntl.LOCK_EX)
    # Another caller can have found the lock without a holder, and removed the folder.
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.stat(path), os.fstat(lock)):
            return Path(folder.name)
    return None


def _remove_those_without_a_holder() -> None:
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # somebody else's, held, or being made or removed
            lock = os.open(path / _LOCK, os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)
