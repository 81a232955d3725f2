"""A directory of checkpoints: written so that a reader never sees half of one.

A checkpoint is an ordinary `.keras` file (weights, optimizer and configuration; plain Keras loads
it), or a folder that parameter servers have written (`sharded_folder`), and `checkpoint.json` names
the newest whole one and tells of the run that writes here: its random name, when it began and
whether it has ended well. All is written under another name, flushed to the disk and then renamed,
which is atomic on POSIX file systems. Only their owner can open them: who can write them decides
what a job resumes with.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tfdist import log
from tfdist.errors import CheckpointError
from tfdist.given_numbers import is_count
from tfdist.training.checkpointing.damage import damage_of
from tfdist.training.checkpointing.replacing import (
    SCRATCH,
    discard,
    replacing_own_file,
    replacing_own_folder,
)
from tfdist.training.checkpointing.sharded_folder import SUFFIX

__all__ = ["Index", "Saved", "Store", "numbers_of"]

_INDEX = "checkpoint.json"
_FORMAT = 1
_KERAS = ".keras"
_NAME = re.compile(rf"epoch-(\d+)(?:-step-(\d+))?({re.escape(_KERAS)}|{re.escape(SUFFIX)})")
_ABANDONED_SECONDS = 60.0
"""After which nobody is at a folder in which nothing has changed: an evaluator may write here."""


@dataclasses.dataclass(frozen=True)
class Saved:
    """One checkpoint.

    Attributes:
        path: the `.keras` file, or the folder of a sharded one.
        epoch: how many whole epochs it has seen.
        logs: the metrics at the end of the last of them, or of the steps of the next.
        name: random, another one for each that is written; "" where an older tfdist wrote it.
        stale: whether the run that the directory now belongs to has started without it.
        step: how many steps of the next epoch it has seen.
        lent: whether the run that wrote it has ended well: another goes on from it.
    """

    path: Path
    epoch: int
    logs: Mapping[str, float]
    name: str = ""
    stale: bool = False
    step: int = 0
    lent: bool = False

    @property
    def place(self) -> tuple[int, int]:
        """How far it has come: epochs and steps, to be compared."""
        return self.epoch, self.step

    def __str__(self) -> str:
        return f"epoch {self.epoch}" + (f" and {self.step} steps" if self.step else "")


@dataclasses.dataclass(frozen=True)
class Index:
    """What a directory of checkpoints tells.

    Attributes:
        saved: the newest checkpoint; None where none is written yet.
        run: the random name of the last `fit` that began here; "" where none did.
        began: when it did, in seconds since 1970, by its chief's clock.
        finished: whether it has ended well.
    """

    saved: Saved | None = None
    run: str = ""
    began: float = 0.0
    finished: bool = False

    def to_json(self) -> str:
        """Returns the text of the index file."""
        entry: dict[str, Any] = {"format": _FORMAT}
        if self.saved is not None:
            entry["file"] = self.saved.path.name
            entry["epoch"] = self.saved.epoch
            entry["logs"] = dict(self.saved.logs)
            entry["name"] = self.saved.name
            entry["stale"] = self.saved.stale
            entry["step"] = self.saved.step
            entry["lent"] = self.saved.lent
        entry |= {"run": self.run, "began": self.began, "finished": self.finished}
        return json.dumps(entry, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, directory: Path) -> Index:
        """Reads the text of an index file.

        Raises:
            ValueError, KeyError, TypeError: it is none.
        """
        entry = json.loads(text)
        saved = None
        if "file" in entry or "run" not in entry:
            path, logs = directory / entry["file"], dict(entry["logs"])
            name, stale = str(entry.get("name", "")), bool(entry.get("stale", False))
            step = int(entry.get("step", 0))
            lent = bool(entry.get("lent", False) or entry.get("finished", False))
            saved = Saved(path, int(entry["epoch"]), logs, name, stale, step, lent)
        run, began = str(entry.get("run", "")), float(entry.get("began", 0.0))
        return cls(saved, run, began, bool(entry.get("finished", False)))


class Store:
    """The checkpoints of one run.

    Args:
        directory: where they lie; made when the first is written.
        keep: how many to keep, the newest.
    """

    def __init__(self, directory: str | os.PathLike[str], keep: int = 3) -> None:
        if not (directory and isinstance(directory, str | os.PathLike)):
            raise CheckpointError(f"directory={directory!r}: give the path of a folder")
        if Path(directory).is_file():
            raise CheckpointError(f"{directory} is a file: give the path of a folder")
        if not is_count(keep):
            raise CheckpointError(f"keep={keep!r}: give the number of checkpoints, at least 1")
        self.directory = Path(directory)
        self.keep = keep
        self._index = Index()  # as this process has written it

    def begin(self, resumed: Saved | None) -> None:
        """Notes that a run begins here, under a random name, and is not finished.

        Args:
            resumed: the checkpoint that it goes on from; with None, one that lies here stays the
                newest until this run has written its first, but counts as another run's.

        Raises:
            CheckpointError: the directory cannot be written.
        """
        saved = resumed
        if saved is None:
            with contextlib.suppress(CheckpointError):  # what cannot be read is begun anew
                saved = self.read().saved
        if saved is not None:
            saved = dataclasses.replace(saved, stale=resumed is None)
        self._write_index(Index(saved, secrets.token_hex(8), time.time()))
        for scratch in self.directory.glob(f"{SCRATCH}*"):  # of a run that was killed
            if (
                time.time() - max(map(_written, [scratch, *scratch.rglob("*")]))
                > _ABANDONED_SECONDS
            ):
                shutil.rmtree(scratch, ignore_errors=True)

    def finish(self) -> None:
        """Notes that the run has ended well: nothing will be written any more.

        Raises:
            CheckpointError: the directory cannot be written.
        """
        self._check_alone()
        self._write_index(dataclasses.replace(self._index, finished=True))

    def _check_alone(self) -> None:
        """Checks that no other run has begun here since this one did.

        Raises:
            CheckpointError: one has.
        """
        there = Index()
        with contextlib.suppress(CheckpointError):  # what cannot be read is written anew
            there = self.read()
        if self._index.run and there.run not in ("", self._index.run):
            raise CheckpointError(
                f"another run has begun in {self.directory} while this one trained, and goes on "
                "from its checkpoints: end one of them, and give each a directory of its own"
            )

    def _write_index(self, index: Index) -> None:
        path = self.directory / _INDEX
        try:
            self.directory.mkdir(0o700, parents=True, exist_ok=True)
            with replacing_own_file(path) as temporary:
                temporary.write_text(index.to_json())
        except OSError as error:
            raise CheckpointError(
                f"{path} could not be written ({error}): give a directory that the chief can write"
            ) from error
        self._index = index

    def put_aside(self, save: Callable[[str], None], suffix: str = _KERAS) -> Path:
        """Writes a model that nobody should resume from, for whoever wants to look at it.

        Args:
            save: as of `write`.
            suffix: as of `write`.

        Returns:
            The file or folder, which is no checkpoint; the next one replaces it.

        Raises:
            CheckpointError: the directory cannot be written, or the disk is full.
        """
        path = self.directory / f"not-finite{suffix}"
        try:
            self.directory.mkdir(0o700, parents=True, exist_ok=True)
            with _replacing_own(path) as temporary:
                save(str(temporary))
        except OSError as error:
            raise CheckpointError(f"{path} could not be written ({error})") from error
        return path

    def write(
        self,
        save: Callable[[str], None],
        epoch: int,
        logs: Mapping[str, Any],
        step: int = 0,
        suffix: str = _KERAS,
    ) -> Saved:
        """Writes a checkpoint, then names it the newest, then drops the oldest.

        Args:
            save: writes the model to the path it is given, which ends with the suffix.
            epoch: how many whole epochs the model has seen.
            logs: the last metrics.
            step: how many steps of the next epoch it has seen.
            suffix: `.keras` for a file, or that of a sharded checkpoint, which is a folder.

        Raises:
            CheckpointError: the directory cannot be written, or the disk is full.
        """
        within = f"-step-{step:07d}" if step else ""
        path = self.directory / f"epoch-{epoch:05d}{within}{suffix}"
        saved = Saved(path, epoch, numbers_of(logs), name=secrets.token_hex(8), step=step)
        index = dataclasses.replace(self._index, saved=saved)
        self._check_alone()
        try:
            self.directory.mkdir(0o700, parents=True, exist_ok=True)
            with _replacing_own(path) as temporary:
                save(str(temporary))
            with replacing_own_file(self.directory / _INDEX) as temporary:
                temporary.write_text(index.to_json())
            self._index = index
            self._drop_old(path)
        except OSError as error:
            raise CheckpointError(
                f"the checkpoint {path} could not be written ({error}); the one before it is whole"
            ) from error
        return saved

    def adopt(self, saved: Saved) -> Saved:
        """Takes a checkpoint of another directory over, as the newest here.

        Raises:
            CheckpointError: the directory cannot be written, or the disk is full.
        """
        path = self.directory / saved.path.name
        try:
            self.directory.mkdir(0o700, parents=True, exist_ok=True)
            with _replacing_own(path) as temporary:
                copy = shutil.copytree if saved.path.is_dir() else shutil.copyfile
                copy(saved.path, temporary)
        except OSError as error:
            raise CheckpointError(f"{path} could not be copied ({error})") from error
        adopted = dataclasses.replace(saved, path=path)
        self._write_index(Index(adopted, secrets.token_hex(8), time.time()))
        return adopted

    def latest(self, take: Callable[[Saved], str | None] | None = None) -> Saved | None:
        """Returns the newest whole checkpoint, or None where there is none.

        One that is damaged or missing is named in a warning and passed over for the one before it;
        so is an index that cannot be read, for the files that lie there.

        Args:
            take: reads a checkpoint that looks whole, and returns what is wrong with it all the
                same, in a few words, or None.

        Raises:
            CheckpointError: there are checkpoints, but none is whole.
        """
        try:
            newest = self.read().saved
            before = [] if newest is None else self._files_before(newest)
        except CheckpointError as error:
            log.warning("%s: looking at the checkpoints themselves", error)
            newest, before = None, sorted(self._files(), key=_written)
        candidates = [] if newest is None else [newest]
        for path in before[::-1]:
            epoch, step = _place_of(path)
            candidates.append(Saved(path, epoch, {}, step=step))
        told = []
        for saved in candidates:
            damage = damage_of(saved.path) or (take(saved) if take else None)
            if damage is None:
                return saved
            told.append(f"{saved.path}: {damage}")
            log.warning("%s; going back to the one before it", told[-1])
        if told:
            raise CheckpointError(
                f"no checkpoint in {self.directory} is whole ({'; '.join(told)}): put one back, or "
                "give another directory to begin anew"
            )
        return None

    def _files(self) -> list[Path]:
        return [p for p in self.directory.glob("epoch-*") if _NAME.fullmatch(p.name)]

    def _files_before(self, saved: Saved) -> list[Path]:
        """The earlier checkpoints, in order; later ones are of a run before this one."""
        return sorted((p for p in self._files() if _place_of(p) < saved.place), key=_place_of)

    def read(self) -> Index:
        """Returns what the directory tells, an empty index where there is none.

        Raises:
            CheckpointError: the index is there, but it cannot be read.
        """
        path = self.directory / _INDEX
        try:
            text = path.read_text()
        except FileNotFoundError:
            return Index()
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error}") from error
        try:
            return Index.from_json(text, self.directory)
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{path} is no index of checkpoints that this tfdist wrote; move it away, or give "
                "another directory"
            ) from error

    def _drop_old(self, newest: Path) -> None:
        # Later ones than the newest are of a run before this one, which began anew.
        files = sorted(self._files(), key=_place_of)
        files.sort(key=lambda path: _place_of(path) <= _place_of(newest))
        twins = [p for p in files if p != newest and _place_of(p) == _place_of(newest)]
        for path in {*files[: -self.keep], *twins}:
            discard(path)


def _replacing_own(path: Path) -> AbstractContextManager[Path]:
    return replacing_own_folder(path) if path.suffix == SUFFIX else replacing_own_file(path)


def _place_of(path: Path) -> tuple[int, int]:
    """The epochs and steps in the name of a checkpoint."""
    found = _NAME.fullmatch(path.name)
    assert found is not None
    return int(found[1]), int(found[2] or 0)


def _written(path: Path) -> float:
    with contextlib.suppress(OSError):  # it has just gone
        return path.stat().st_mtime
    return 0.0


def numbers_of(logs: Mapping[str, Any]) -> dict[str, float]:
    """Returns those logs that are single numbers, as Python's."""
    return {name: float(value) for name, value in logs.items() if _is_number(value)}


def _is_number(value: Any) -> bool:
    return getattr(value, "ndim", 0) == 0 and not isinstance(value, str)
