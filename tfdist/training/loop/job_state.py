"""The state of a `fit` beside its variables, as a value that can be written and read.

A checkpoint of the model alone resumes with the next epoch. What is here lets a run go on in the
middle of one, with the bits of a run that was not disturbed: where the data stand on every worker,
what the metrics have counted on every replica, random numbers, and what callbacks remember.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfdist.errors import CheckpointError
from tfdist.structures import Logs
from tfdist.training.data.position import Position, RandomState

__all__ = ["JobState", "WorkerState", "from_bytes", "to_bytes"]

_FORMAT = 1
_ARRAY = "array"


@dataclasses.dataclass(frozen=True)
class WorkerState:
    """What one worker has of its own.

    Attributes:
        position: where its training data stand; None where nobody can tell.
        validation: where its validation data stand.
        replicas: for each of its replicas, by what they belong to ("metrics", "exchange"), the
            values of variables that differ between replicas.
        python: the state of Python's and NumPy's random numbers.
    """

    position: Position | None
    validation: Position | None
    replicas: Sequence[Mapping[str, Sequence[np.ndarray]]]
    python: RandomState

    def to_tree(self) -> dict[str, object]:
        """Returns what `from_tree` takes."""
        return {
            "position": None if self.position is None else self.position.to_tree(),
            "validation": None if self.validation is None else self.validation.to_tree(),
            "replicas": [dict(one) for one in self.replicas],
            "python": self.python,
        }

    @classmethod
    def from_tree(cls, tree: dict[str, Any]) -> WorkerState:
        """Reads what `to_tree` wrote."""
        position, validation = (
            None if tree[name] is None else Position.from_tree(tree[name])
            for name in ("position", "validation")
        )
        return cls(position, validation, tree["replicas"], tree["python"])


@dataclasses.dataclass(frozen=True)
class JobState:
    """The state of a job at rest: between two steps.

    Attributes:
        epoch: epochs that were trained.
        step: steps that were taken of the next.
        logs: the metrics of these steps, or of the last epoch where none were.
        stopped: whether a callback has ended the training.
        callbacks: what callbacks remember, by the callback.
        workers: each worker's own.
        asked: epochs that `fit` was asked for; None in earlier checkpoints.
        compiled: what the model was compiled with, see `CompiledAs`; None in earlier checkpoints.
    """

    epoch: int
    step: int
    logs: Logs
    stopped: bool
    callbacks: Mapping[str, Any]
    workers: Sequence[WorkerState]
    asked: int | None = None
    compiled: Mapping[str, Any] | None = None

    def ends(self, epochs: int) -> bool:
        """Whether a `fit` that is asked for so many epochs has none left to train."""
        if self.stopped and not self.step and self.asked in (None, epochs):
            return True
        return self.epoch >= epochs

    def to_bytes(self) -> bytes:
        """Returns the state as the bytes of an archive of arrays (`numpy.savez`)."""
        tree = {"format": _FORMAT, **vars(self), "workers": [w.to_tree() for w in self.workers]}
        return to_bytes(tree)

    @classmethod
    def from_bytes(cls, data: bytes) -> JobState:
        """Reads what `to_bytes` wrote.

        Raises:
            CheckpointError: a newer tfdist has written it.
        """
        tree = from_bytes(data)
        if tree.pop("format") != _FORMAT:
            raise CheckpointError(
                "the checkpoint was written by a newer tfdist: install that one, or begin anew "
                "with resume=False"
            )
        workers = [WorkerState.from_tree(worker) for worker in tree.pop("workers")]
        return cls(**tree, workers=workers)


def to_bytes(tree: object) -> bytes:
    """Turns dicts, lists, strings, numbers and arrays into the bytes of a NumPy archive.

    Raises:
        CheckpointError: something else is among them.
    """
    arrays: dict[str, np.ndarray] = {}

    def plain(value: object) -> object:
        if isinstance(value, Mapping):
            return {"dict": [[plain(key), plain(entry)] for key, entry in value.items()]}
        if isinstance(value, list | tuple):
            return [plain(entry) for entry in value]
        if value is None or isinstance(value, str | bool | int | float):
            return value
        if hasattr(value, "__array__") and np.asarray(value).dtype != object:
            arrays[name := f"{_ARRAY}{len(arrays)}"] = np.asarray(value)
            return {_ARRAY: name}
        raise CheckpointError(
            f"a checkpoint can keep numbers, strings, arrays, lists and dicts, not "
            f"{type(value).__name__}: return such from get_state"
        )

    text = json.dumps(plain(tree))
    buffer = io.BytesIO()
    arrays["tree"] = np.frombuffer(text.encode(), np.uint8)
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def from_bytes(data: bytes) -> Any:
    """Reads what `to_bytes` wrote; nothing in it is ever run."""
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        entry = json.loads(archive["tree"].tobytes())

        def whole(value: Any) -> Any:
            if isinstance(value, list):
                return [whole(one) for one in value]
            if not isinstance(value, dict):
                return value
            if "dict" in value:
                return {whole(key): whole(one) for key, one in value["dict"]}
            found = archive[value[_ARRAY]]
            return found if found.ndim else found[()]

        return whole(entry)
