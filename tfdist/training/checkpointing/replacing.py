"""Files and folders that are there whole or not at all: written aside, flushed, then renamed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tfdist.machine.swapped_names import exchange

__all__ = [
    "SCRATCH",
    "discard",
    "replacing_directory",
    "replacing_file",
    "replacing_own_file",
    "replacing_own_folder",
    "write_alone",
]

SCRATCH = ".writing-"
"""How the names of folders begin in which something is written; of a killed writer they stay."""


def discard(path: Path) -> None:
    """Removes a file, or a folder of which nobody sees half meanwhile."""
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    scratch = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=path.parent))
    try:
        os.replace(path, scratch / path.name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Gives a path to write to, and moves what was written there to `path` in one step.

    The temporary name ends as `path` does and lies in the same directory. Nothing is left where
    the writing fails.
    """
    # The directory keeps the file's own name whole, as Keras looks at how it ends.
    scratch = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=path.parent))
    try:
        temporary = scratch / path.name
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
        _flush(path.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def replacing_own_file(path: Path) -> Iterator[Path]:
    """The same for a file that only its owner can read, on file systems that know owners."""
    with replacing_file(path) as temporary:
        yield temporary
        with contextlib.suppress(OSError):
            temporary.chmod(0o600)


@contextlib.contextmanager
def replacing_own_folder(path: Path) -> Iterator[Path]:
    """The same for a folder of files, each of which is on the disk before the folder is there."""
    scratch = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=path.parent))
    try:
        temporary = scratch / path.name
        yield temporary
        for entry in [*temporary.iterdir(), temporary]:
            with contextlib.suppress(OSError):
                entry.chmod(0o700 if entry.is_dir() else 0o600)
            # Of what another machine has written, a shared file system keeps the promise itself:
            # it is there when that machine has closed the file.
            _flush(entry)
        _put(temporary, path)
        _flush(path.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def replacing_directory(path: Path, is_chief: bool) -> Iterator[Path]:
    """The same for a directory; where several processes write it, the chief's stays."""
    scratch = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=path.parent))
    try:
        temporary = scratch / path.name
        yield temporary
        if is_chief:
            _put(temporary, path)
        else:
            with contextlib.suppress(OSError):  # the chief has written it meanwhile
                os.replace(temporary, path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_alone(target: Any, write: Callable[[Any], None], is_chief: bool) -> None:
    """Has one of several processes write a file or a directory, without seeing the others.

    Args:
        target: a path, or something else that `write` takes (a file object, a URL of a remote
            store), which is handed on as it is.
        write: writes to the path it is given.
        is_chief: whether this process is the chief, whose directory stays.
    """
    if not isinstance(target, str | os.PathLike) or "://" in str(target):
        write(target)
        return
    path = Path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    is_file = path.suffix in (".keras", ".h5", ".onnx")
    with replacing_file(path) if is_file else replacing_directory(path, is_chief) as temporary:
        write(str(temporary))


def _put(new: Path, path: Path) -> None:
    """Gives a folder its name; one that had it has then the new one's.

    Where two names can be exchanged (by Linux, on its own file systems; not on NFS), there is
    never a moment without either.
    """
    try:
        os.replace(new, path)
    except OSError:  # there is one, with files in it
        if not path.exists():
            raise
        if not exchange(new, path):
            os.replace(path, new.parent / "before")
            os.replace(new, path)


def _flush(path: Path) -> None:
    """Waits until a file, or a directory's list of files, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
