"""Where portions come from: the chief reads batches and hands them out, or workers read by number.

What is handed out with a ticket is "given": a batch, or a portion's number. The rows come from it
on the worker, in `batch`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from tfdist.compat.tf_datasets import runs_python
from tfdist.errors import DataError
from tfdist.optimize.portions import Portions
from tfdist.optimize.row_mean import halves, whole
from tfdist.structures import Nest
from tfdist.training.data.arrays import as_tensors
from tfdist.training.data.global_batches import GlobalBatches
from tfdist.training.data.stream import leaves, map_leaves, rows_in, without_optionals
from tfdist.training.parameter_server.batch_messages import types_of
from tfdist.training.tracing import traced

__all__ = ["ChiefReads", "PortionSource", "WorkersRead"]


class PortionSource(Protocol):
    """Hands out one pass after the other.

    Attributes:
        portions: of a pass; None where nobody knows.
        alike: what makes passes alike, if they are not; to be given to the user.
    """

    portions: int | None
    alike: str

    def begin(self) -> None:
        """Begins a pass."""

    def take(self) -> Any:
        """What is given for the next portion; None at the end of the pass."""

    def end(self) -> None:
        """Ends a pass, of which all was taken."""

    def types(self, given: Any) -> Any:
        """The types of what is given."""

    def pieces(self, given: Any) -> tuple[Any, Any, Any]:
        """What is given for all rows of a portion, and for its two halves; see `row_mean`."""

    def batch(self, given: Any) -> Nest:
        """The rows; on the worker, in its graph."""


class ChiefReads:
    """Batches of arrays or a dataset.

    Args:
        data: whose batches are the portions.
    """

    alike = (
        "give arrays, or a dataset without random maps whose shuffle has "
        "reshuffle_each_iteration=False"
    )

    def __init__(self, data: GlobalBatches) -> None:
        self.portions = data.num_steps
        self._data = data

    def begin(self) -> None:
        """Begins a pass."""
        self._data.rewind()
        self._data.begin_epoch(_alone)

    def take(self) -> Any:
        """The next batch; None at the end."""
        steps = self._data.take(1, _alone)
        return without_optionals(steps[0].parts[0]) if steps else None

    def end(self) -> None:
        """Ends a pass."""
        self._data.end_epoch()

    def types(self, given: Any) -> Any:
        """Of a batch, with any number of rows."""
        return types_of(given)

    def pieces(self, given: Any) -> tuple[Any, Any, Any]:
        """The batch, and its halves."""
        return whole(given), *halves(given)

    def batch(self, given: Any) -> Nest:
        """What was given."""
        return without_optionals(given)


class WorkersRead:
    """Portions that workers read by their numbers.

    Args:
        portions: how.

    Raises:
        DataError: what they return is no batch, or they cannot run on a worker.
    """

    alike = "let read return the same rows for a number each time, on every worker"

    def __init__(self, portions: Portions) -> None:
        self.portions: int | None = portions.count
        self._read = tf.function(portions.read)  # with AutoGraph, as tf.data has it
        self._count = portions.count
        self._next = 0
        number = tf.TensorSpec([], tf.int64)
        _check_is_read_alike(self._read.get_concrete_function(number).graph)
        self.specs: Nest = traced(self._rows).get_concrete_function(number).structured_outputs

    def begin(self) -> None:
        """Begins a pass."""
        self._next = 0

    def take(self) -> Any:
        """The next number; None at the end."""
        if self._next == self._count:
            return None
        self._next += 1
        return tf.constant([self._next - 1], tf.int64)

    def end(self) -> None:
        """Ends a pass."""

    def types(self, given: Any) -> Any:
        """Of a number, alone or with that of a piece."""
        return tf.TensorSpec(given.shape, tf.int64)

    def pieces(self, given: Any) -> tuple[Any, Any, Any]:
        """The number with those of the pieces."""
        first, second, third = (tf.stack([given[0], piece]) for piece in range(3))
        return first, second, third

    def batch(self, given: Any) -> Nest:
        """Reads a portion, or a piece of one."""
        rows = self._rows(given[0])
        if given.shape[0] == 1:
            return rows
        branches = [
            functools.partial(leaves, whole(rows)),
            *(functools.partial(leaves, half) for half in halves(rows)),
        ]
        chosen = iter(tf.switch_case(tf.cast(given[1], tf.int32), branches))
        return map_leaves(lambda _: next(chosen), rows)

    def _rows(self, number: tf.Tensor) -> Nest:
        returned = self._read(number)
        if isinstance(returned, list):  # as Keras takes a list of a dataset's
            returned = tuple(returned)
        batch = as_tensors(returned)
        found = leaves(batch)
        if not found or any(leaf.shape.rank in (None, 0) for leaf in found):
            told = [str(getattr(leaf, "shape", leaf)) for leaf in found]
            raise DataError(
                f"the function that reads portions returns tensors of shapes {told}: return x, "
                "(x, y) or (x, y, sample_weight), each with the portion's rows as its first axis"
            )
        first = rows_in(batch)
        alike = [tf.debugging.assert_equal(first, rows_in(leaf), _OTHER_ROWS) for leaf in found]
        with tf.control_dependencies([check for check in alike if check is not None]):
            return map_leaves(tf.identity, batch)


def _check_is_read_alike(graph: tf.Graph) -> None:
    if runs_python(graph):
        raise DataError(
            "the function that reads portions runs Python code (py_function, numpy_function), "
            "which is not there on workers: make it of TensorFlow's operations"
        )
    if any(operation.type.startswith("Assign") for operation in graph.get_operations()):
        raise DataError(
            "the function that reads portions changes a variable, so that a number would mean "
            "other rows each time: let it only read"
        )


_OTHER_ROWS = (
    "the function that reads portions returns x, y or sample_weight with other numbers of rows: "
    "let each have the portion's rows"
)


def _alone(numbers: Sequence[float]) -> np.ndarray:
    """The chief alone reads."""
    return np.asarray([numbers], np.float64)
