"""What a worker of a parameter-server job runs for a chunk of steps, as a TensorFlow program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfdist.training.data.stream import rows_in, without_optionals
from tfdist.training.mode import Mode
from tfdist.training.parameter_server.batch_messages import PackedBatches, batch_of, key_of
from tfdist.training.parameter_server.worker_step import Carried, WorkerStep
from tfdist.training.tracing import traced

__all__ = ["WorkerPrograms"]


class WorkerPrograms:
    """Writes loops of one model's steps, once for each type of data.

    Args:
        step: one of these steps.
    """

    def __init__(self, step: WorkerStep) -> None:
        self._step = step
        self._functions: dict[Any, Any] = {}

    def function(self, mode: Mode, kind: str, specs: Sequence[Any]) -> Any:
        """The function that takes a chunk of steps, traced for data of these types.

        Args:
            mode: "train" or "test".
            kind: "rows" where the data come with the call, "own" where an iterator does.
            specs: the types of its arguments: the source, the number of steps and, if other workers
                may take the same steps again, the chunk's slot and the number of its first step.
        """
        key = (mode, kind, key_of(specs))
        if key not in self._functions:
            read = _from_rows if kind == "rows" else _from_iterator
            logs: dict[str, tf.TensorSpec] = {}
            found = self._trace(mode, read, specs, logs)
            if logs:  # a step with logs of its own: now their types are known
                found = self._trace(mode, read, specs, logs)
            self._functions[key] = found
        return self._functions[key]

    def _trace(
        self, mode: Mode, read: Any, specs: Sequence[Any], logs: dict[str, tf.TensorSpec]
    ) -> Any:
        known = dict(logs)

        def run(source: Any, steps: tf.Tensor, *ticket: tf.Tensor) -> dict[str, Any]:
            return self._run_steps(mode, read, known, logs, source, steps, *ticket)

        function = traced(run)
        concrete = function.get_concrete_function(*specs)
        # TensorFlow wants the function itself where an iterator of the worker's goes in.
        return function if read is _from_iterator else concrete

    def _run_steps(
        self,
        mode: Mode,
        read: Any,
        known: dict[str, tf.TensorSpec],
        found: dict[str, tf.TensorSpec],
        source: Any,
        steps: tf.Tensor,
        ticket: tf.Tensor | None = None,
    ) -> dict[str, Any]:
        """Takes steps until there are enough, or no more data; returns what they have counted."""
        step = self._step
        began = tf.timestamp()
        start = {**step.start(mode), "rows": tf.zeros((), tf.int64)}

        def take(number: tf.Tensor, batch: Any, carried: Carried) -> tuple[Any, ...]:
            rows = carried["rows"] + rows_in(batch)
            carried, logs = step.take(mode, number, batch, carried, ticket)
            carried = {**carried, "rows": rows}
            found.update({k: tf.TensorSpec(v.shape, v.dtype) for k, v in logs.items()})
            return number + 1, carried, {name: logs[name] for name in known}

        def body(number: tf.Tensor, _: Any, carried: Carried, logs: Any) -> tuple[Any, ...]:
            there, batch = read(source, number)
            if there is None:
                number, carried, logs = take(number, batch(), carried)
                return number, tf.constant(True), carried, logs
            number, carried, logs = tf.cond(
                there, lambda: take(number, batch(), carried), lambda: (number, carried, logs)
            )
            return number, there, carried, logs

        no_logs = {
            name: tf.zeros([size or 0 for size in spec.shape], spec.dtype)
            for name, spec in known.items()
        }
        shapes = (
            tf.TensorShape([]),
            tf.TensorShape([]),
            tf.nest.map_structure(lambda tensor: tensor.shape, start),
            {name: spec.shape for name, spec in known.items()},
        )
        count, there, carried, logs = tf.while_loop(
            lambda number, there, *_: tf.logical_and(there, number < steps),
            body,
            (tf.constant(0), tf.constant(True), start, no_logs),
            shape_invariants=shapes,
            parallel_iterations=1,
        )
        metrics = step.finish(mode, count, carried, ticket)
        worker = tf.distribute.coordinator.experimental_get_current_worker_index()
        with tf.control_dependencies([*metrics, count]):
            seconds = tf.timestamp() - began
        return {
            "metrics": [tf.cast(value, tf.float64) for value in metrics],
            "logs": logs,
            "steps": count,
            "rows": carried["rows"],
            "ended": tf.logical_not(there),
            "worker": tf.cast(worker, tf.int32),
            "seconds": seconds,
        }


def _from_rows(rows: PackedBatches, number: tf.Tensor) -> tuple[None, Callable[[], Any]]:
    return None, lambda: batch_of(rows, number)


def _from_iterator(iterator: Any, _: tf.Tensor) -> tuple[tf.Tensor, Callable[[], Any]]:
    element = iterator.get_next_as_optional()
    return element.has_value(), lambda: without_optionals(element.get_value())
