"""A directory of checkpoints: written so that a reader never sees half of one.

A checkpoint is an ordinary `.keras` file (weights, optimizer and configuration; plain Keras loads
it), and `checkpoint.json` names the newest whole one. Every file is written under another name,
flushed to the disk and then renamed, which is atomic on POSIX file systems.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tfdist.errors import CheckpointError

__all__ = ["Saved", "Store", "replacing_directory", "replacing_file", "write_alone"]

_INDEX = "checkpoint.json"
_FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Saved:
    """One checkpoint.

    Attributes:
        path: the `.keras` file.
        epoch: how many epochs it has seen.
        logs: the metrics at the end of the last of them.
    """

    path: Path
    epoch: int
    logs: Mapping[str, float]


class Store:
    """The checkpoints of one run.

    Args:
        directory: where they lie; made when the first is written.
        keep: how many to keep, the newest.
    """

    def __init__(self, directory: str | os.PathLike[str], keep: int = 3) -> None:
        if not isinstance(keep, int) or keep < 1:
            raise CheckpointError(f"keep={keep!r}: give the number of checkpoints, at least 1")
        self.directory = Path(directory)
        self.keep = keep

    def write(self, save: Callable[[str], None], epoch: int, logs: Mapping[str, Any]) -> Saved:
        """Writes a checkpoint, then names it the newest, then drops the oldest.

        Args:
            save: writes the model to the path it is given, which ends with `.keras`.
            epoch: how many epochs the model has seen.
            logs: the last metrics.

        Raises:
            CheckpointError: the directory cannot be written, or the disk is full.
        """
        path = self.directory / f"epoch-{epoch:05d}.keras"
        plain = {name: float(value) for name, value in logs.items() if _is_number(value)}
        index = {"format": _FORMAT, "file": path.name, "epoch": epoch, "logs": plain}
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with replacing_file(path) as temporary:
                save(str(temporary))
            with replacing_file(self.directory / _INDEX) as temporary:
                temporary.write_text(json.dumps(index, indent=2) + "\n")
            self._drop_old()
        except OSError as error:
            raise CheckpointError(
                f"the checkpoint {path} could not be written ({error}); the one before it is whole"
            ) from error
        return Saved(path, epoch, plain)

    def latest(self) -> Saved | None:
        """Returns the newest whole checkpoint, or None where there is none.

        Raises:
            CheckpointError: the index is there, but it or what it names cannot be read.
        """
        index = self.directory / _INDEX
        try:
            text = index.read_text()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CheckpointError(f"{index} cannot be read: {error}") from error
        try:
            entry = json.loads(text)
            saved = Saved(self.directory / entry["file"], int(entry["epoch"]), entry["logs"])
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{index} is no index of checkpoints that this tfdist wrote; move it away, or give "
                "another directory"
            ) from error
        if not saved.path.is_file():
            raise CheckpointError(
                f"{index} names {saved.path.name}, which is not there: put it back, name another "
                f"file in {_INDEX}, or give another directory"
            )
        return saved

    def _drop_old(self) -> None:
        files = sorted(self.directory.glob("epoch-*.keras"))
        for path in files[: -self.keep]:
            path.unlink(missing_ok=True)


def _is_number(value: Any) -> bool:
    return getattr(value, "ndim", 0) == 0 and not isinstance(value, str)


@contextlib.contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Gives a path to write to, and moves what was written there to `path` in one step.

    The temporary name ends as `path` does and lies in the same directory. Nothing is left where
    the writing fails.
    """
    # The directory keeps the file's own name whole, as Keras looks at how it ends.
    scratch = Path(tempfile.mkdtemp(prefix=".writing-", dir=path.parent))
    try:
        temporary = scratch / path.name
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
        _flush(path.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def replacing_directory(path: Path, is_chief: bool) -> Iterator[Path]:
    """The same for a directory; where several processes write it, the chief's stays."""
    scratch = Path(tempfile.mkdtemp(prefix=".writing-", dir=path.parent))
    try:
        temporary = scratch / path.name
        yield temporary
        if is_chief and path.is_dir():
            os.replace(path, scratch / "before")
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


def _flush(path: Path) -> None:
    """Waits until a file, or a directory's list of files, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
