"""The state of a descent on disk: a job that is started again goes on with its bits.

    descent/
        variables.index, variables.data-...    weights and vectors, by `tf.train.Checkpoint`
        descent.json                            what the descent knows beside them

Each server writes what it keeps, so that no vector passes through the chief; the folder is replaced
as a whole.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

import keras
import tensorflow as tf

from tfdist.compat import tf_saving
from tfdist.errors import CheckpointError
from tfdist.optimize.curvature import Pair
from tfdist.optimize.descent import DescentState
from tfdist.optimize.server_vectors import ServerVectors
from tfdist.training.checkpointing.replacing import replacing_own_folder
from tfdist.training.checkpointing.server_copies import in_words
from tfdist.training.checkpointing.server_files import blind_servers

__all__ = ["DescentFolder"]

_FORMAT = 1
_NAME = "descent"
_STATE = "descent.json"
_PREFIX = "variables"
_SAME = 1e-5  # by what part of itself a loss may differ from the one that was saved


class DescentFolder:
    """Where one descent is kept.

    Args:
        directory: made if it is not there; all ps tasks must see it.
        model: whose weights are saved.
        vectors: of the descent.

    Raises:
        CheckpointError: the directory cannot be written, or a server does not see it.
    """

    def __init__(
        self, directory: str | os.PathLike[str], model: keras.Model, vectors: ServerVectors
    ) -> None:
        self._path = Path(directory).absolute() / _NAME
        self._vectors = vectors
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(
                f"{self._path.parent} cannot be made ({error.strerror}): give a directory that can"
            ) from None
        servers = sorted(place for place in vectors.weights if "/job:ps/" in place)
        if servers and (blind := blind_servers(self._path.parent, servers)):
            raise CheckpointError(
                f"{self._path.parent} is not there on {', '.join(blind)}: give a directory on a "
                "file system that the chief and all ps tasks share"
            )
        tf_saving.quiet_tracing()
        weights = {f"weight_{i:04}": v.value for i, v in enumerate(model.trainable_variables)}
        rows = {f"vectors_{i:04}": v for i, v in enumerate(vectors.variables.values())}
        self._saver = tf.train.Checkpoint(**weights, **rows)

    @property
    def _shape(self) -> list[list[int]]:
        """Of the matrices of the servers."""
        return [v.shape.as_list() for v in self._vectors.variables.values()]

    def save(self, state: DescentState) -> None:
        """Keeps a descent between two iterations, instead of the one before.

        Raises:
            CheckpointError: it could not be written.
        """
        told = {"format": _FORMAT, "shape": self._shape, **dataclasses.asdict(state)}
        try:
            with replacing_own_folder(self._path) as folder:
                folder.mkdir(exist_ok=True)
                self._saver.write(str(folder / _PREFIX))
                (folder / _STATE).write_text(json.dumps(told) + "\n")
        except OSError as error:
            raise CheckpointError(f"{self._path} cannot be written: {error}") from error
        except (tf.errors.UnavailableError, tf.errors.AbortedError):
            raise  # a server is lost, and that is another matter
        except tf.errors.OpError as error:
            raise CheckpointError(f"{self._path} cannot be written: {in_words(error)}") from error

    def restore(self) -> DescentState | None:
        """Brings weights and vectors back; None where nothing was saved.

        Raises:
            CheckpointError: what is there is damaged, or of another model or job.
        """
        path = self._path / _STATE
        if not path.exists():
            return None
        try:
            told = json.loads(path.read_text())
            state, shape = _read(told), told["shape"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{self._path} cannot be read ({error}): put it away, to begin anew"
            ) from error
        if shape != self._shape:
            raise CheckpointError(
                f"{self._path} has vectors of {shape} on its servers, and this job {self._shape}: "
                "give the same model, history and number of ps tasks, or another directory"
            )
        try:
            self._saver.read(str(self._path / _PREFIX)).assert_consumed()
        except (tf.errors.UnavailableError, tf.errors.AbortedError):
            raise
        except (tf.errors.OpError, ValueError, AssertionError) as error:
            raise CheckpointError(
                f"{self._path} cannot be read ({error}): put it away, to begin anew"
            ) from error
        return state

    def check_loss(self, loss: float, state: DescentState) -> None:
        """Checks that the loss is still what it was where the descent goes on.

        Raises:
            CheckpointError: it is another one.
        """
        bound = _SAME * max(abs(state.loss), 1.0)
        if not (math.isfinite(loss) and abs(loss - state.loss) <= bound):
            raise CheckpointError(
                f"{self._path} was saved with a loss of {state.loss!r}, which is {loss!r} now: "
                "the data or the loss are others; give the same ones, or another directory"
            )


def _read(told: Mapping[str, object]) -> DescentState:
    if told["format"] != _FORMAT:
        raise ValueError("a newer tfdist has written it")
    told = {"decrease": None, **told}  # which older folders lack
    fields = {field.name: told[field.name] for field in dataclasses.fields(DescentState)}
    pairs = fields.pop("pairs")
    assert isinstance(pairs, list)
    return DescentState(
        **fields,  # type: ignore[arg-type]
        pairs=tuple(Pair(**pair) for pair in pairs),
    )
