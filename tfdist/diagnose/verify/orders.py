"""What one run of the script is to be; written by the conductor, read by all tasks."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

__all__ = ["END", "Asked", "Order"]

END = "end"
"""The kind of the last order."""

_KINDS = ("one", "again", "repeat", "many", END)


@dataclasses.dataclass(frozen=True)
class Asked:
    """What `tfdist verify` was asked for.

    Attributes:
        command: the script's command line, as `["train.py", "--its", "flags"]` or `["-m", ...]`.
        workers: how many, at least 2.
        steps: how many training steps to compare; None for the whole script.
        seed: of all random numbers that the script does not seed itself.
        limit: seconds for a run.
        most_runs: how many experiments to make at most.
    """

    command: tuple[str, ...]
    workers: int = 2
    steps: int | None = 8
    seed: int = 1
    limit: float = 600.0
    most_runs: int = 12

    def __post_init__(self) -> None:
        if self.workers < 2:
            raise ValueError(f"workers={self.workers}: one process is compared with 2 or more")
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps={self.steps}: give at least 1")

    @staticmethod
    def folders(folder: Path) -> list[Path]:
        """Where each of the scripts that are verified one after the other has its own."""
        return sorted(folder.glob("script-*"), key=lambda one: int(one.name.partition("-")[2]))

    def write(self, folder: Path) -> None:
        """Writes it for all tasks."""
        _write(folder / "asked.json", dataclasses.asdict(self))

    @classmethod
    def read(cls, folder: Path) -> Asked:
        """Reads what `write` has written."""
        fields = json.loads((folder / "asked.json").read_text())
        return cls(**{**fields, "command": tuple(fields["command"])})


@dataclasses.dataclass(frozen=True)
class Order:
    """One run.

    Attributes:
        number: from 1; names the folder in which its records are left.
        kinds: "one" (one process, without a cluster), "again" (the same, at the same time, with
            another jitter), "repeat" (the same without any), "many" (all workers), or some of
            them at once.
        changes: to the program, by the names in `script_changes`.
        jitter: seed of a disturbance of the weights' last bits; 0 for none. See `rounding`.
    """

    number: int
    kinds: tuple[str, ...]
    changes: tuple[str, ...] = ()
    jitter: int = 0

    def __post_init__(self) -> None:
        if not self.kinds or any(kind not in _KINDS for kind in self.kinds):
            raise ValueError(f"kinds={self.kinds}: there are {', '.join(_KINDS)}")

    def folder(self, parent: Path) -> Path:
        """Where the records of this run are left."""
        return parent / f"run-{self.number}"

    def write(self, folder: Path) -> None:
        """Gives it to all tasks."""
        self.folder(folder).mkdir(exist_ok=True)
        _write(_path(folder, self.number), dataclasses.asdict(self))

    @classmethod
    def read(cls, folder: Path, number: int) -> Order | None:
        """Reads an order; None where it has not been given yet."""
        try:
            fields = json.loads(_path(folder, number).read_text())
        except FileNotFoundError:
            return None
        lists = {name: tuple(fields[name]) for name in ("kinds", "changes")}
        return cls(**{**fields, **lists})


def _path(folder: Path, number: int) -> Path:
    return folder / f"order-{number}.json"


def _write(path: Path, fields: dict[str, object]) -> None:
    """Writes a file that nobody sees before it is whole."""
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(fields))
    draft.replace(path)
