"""One worker of a job that `tfdist bench` measures: runs the script, and times its first `fit`.

python -m tfdist.bench.worker FOLDER SECONDS script.py its own arguments

The script is run as it is. When its first `fit` has trained for so many seconds (or has ended), the
input pipeline, the all-reduce and the update are timed by themselves, the numbers are written to
the folder, and the process ends with exit code 0.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import runpy
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfdist.bench.measured import WorkerTimes
from tfdist.bench.update_time import one_of_each, seconds_a_turn, update_seconds
from tfdist.structures import T

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from tfdist.training.data.stream import Stream
    from tfdist.training.loop.epoch_loop import Loop
    from tfdist.training.loop.family import Family

__all__ = ["main", "run_script", "watch_first_fit"]


_LEAST_CHUNKS = 3  # the first one is traced, the second is short
_INPUT_STEPS = 100
_FLOATS = (1, 1 << 12, 1 << 16, 1 << 19, 1 << 21)  # 4 bytes to 8 MB


class _Watch:
    """Times the chunks of one `fit`, from outside: the loop itself knows nothing of it.

    Args:
        family: takes the steps.
        data: the stream of steps.
        seconds: how long to watch.
        look: called once, before the first step, where there is one.
    """

    def __init__(
        self,
        family: Family,
        data: Stream,
        seconds: float,
        look: Callable[[Family, Stream], None] | None,
    ) -> None:
        self._family, self._data, self._seconds, self._look = family, data, seconds, look
        self._chunks: list[tuple[float, float, int]] = []
        self._pause = 0.0
        self._pauses: list[float] = []
        self._began: float | None = None
        self._is_looking = False  # its own steps are not counted
        for name in ("run_loop", "run_steps"):
            setattr(family, name, self._timed(getattr(family, name)))

    def _timed(self, run: Callable[..., T]) -> Callable[..., T]:
        def timed(mode: str, source: object, *rest: Any) -> T:
            if mode != "train" or self._is_looking:
                return run(mode, source, *rest)
            if not self._chunks and self._look is not None:
                with self.looking():
                    self._look(self._family, self._data)
            self._end_if_all_have_seen_enough()
            began = time.perf_counter()
            ran = run(mode, source, *rest)
            count = len(source) if isinstance(source, Sequence) else int(rest[0])
            self._chunks.append((began, time.perf_counter(), count))
            return ran

        return timed

    @contextlib.contextmanager
    def looking(self) -> Iterator[None]:
        """While it is open, steps are not counted."""
        self._is_looking = True
        try:
            yield
        finally:
            self._is_looking = False

    def _end_if_all_have_seen_enough(self) -> None:
        began = time.perf_counter()
        if len(self._chunks) == _LEAST_CHUNKS:
            self._began = began
        seen = 0.0 if self._began is None else began - self._began
        if (self._family.all_gather([seen]) > self._seconds).any():
            raise _EnoughError
        self._pauses.append(time.perf_counter() - began)

    def times(self) -> WorkerTimes:
        """Returns what was seen, and times input, all-reduce and update by themselves."""
        if len(self._chunks) <= _LEAST_CHUNKS:
            raise SystemExit(
                f"tfdist bench: fit ran {len(self._chunks)} chunks of steps, too few to measure: "
                "train for a few seconds at least"
            )
        graph = python = 0.0
        steps = 0
        for i in range(_LEAST_CHUNKS, len(self._chunks)):
            began, ended, count = self._chunks[i]
            graph += ended - began
            python += max(0.0, began - self._chunks[i - 1][1] - self._pauses[i])
            steps += count
        seconds, rows = _time_input(self._data, self._family.layout.replicas)
        size, exchange = _time_gradients(self._family)
        update, untimed = _time_update(self._family.model)
        return WorkerTimes(
            worker=self._family.layout.worker,
            steps=steps,
            graph_seconds=graph,
            python_seconds=python,
            input_step=seconds,
            all_reduce_step=exchange,
            rows=rows,
            gradient_bytes=size,
            all_reduces=_time_sizes(self._family),
            update_step=update,
            update_untimed=untimed,
        )


class _EnoughError(Exception):
    """Every worker has seen enough."""


def _time_input(data: Stream, replicas: int) -> tuple[float, float]:
    """Seconds of a step's input by itself, and rows of a global batch."""
    import tensorflow as tf

    from tfdist.training.data.stream import leaves

    def pull(iterator: tf.data.Iterator, most: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        def body(
            count: tf.Tensor, rows: tf.Tensor, more: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            step = iterator.get_next_as_optional()

            def there() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
                value = step.get_value()
                first = leaves(value.parts[0])[0]
                own = tf.shape(first, tf.int64)[0] if isinstance(first, tf.Tensor) else value.total
                return count + 1, rows + (own if replicas == 1 else value.total), more

            return tf.cond(step.has_value(), there, lambda: (count, rows, tf.constant(False)))

        zero = tf.constant(0, tf.int64)
        count, rows, _ = tf.while_loop(
            lambda count, _, more: tf.logical_and(count < most, more),
            body,
            (zero, zero, tf.constant(True)),
            parallel_iterations=1,
        )
        return count, rows

    pull = tf.function(pull, autograph=False)
    first = data.make_iterator()
    if not hasattr(first, "get_next_as_optional"):
        return 0.0, 0.0
    pull(first, tf.constant(2, tf.int64))  # traces
    iterator = data.make_iterator()
    pull(iterator, tf.constant(2, tf.int64))  # fills what is read ahead
    began = time.perf_counter()
    count, rows = pull(iterator, tf.constant(_INPUT_STEPS, tf.int64))
    if not int(count):  # all of a short epoch was read ahead: the whole is timed, with its start
        began = time.perf_counter()
        count, rows = pull(data.make_iterator(), tf.constant(_INPUT_STEPS, tf.int64))
    seconds = time.perf_counter() - began
    return seconds / max(1, int(count)), int(rows) / max(1, int(count))


def _time_gradients(family: Family) -> tuple[int, float]:
    """Bytes of the gradients, and the seconds that a step's exchange takes by itself."""
    import numpy as np
    import tensorflow as tf

    options = getattr(family, "_options", None)
    dtype = getattr(options, "gradient_dtype", None)
    shapes = [
        (tuple(v.shape), tf.as_dtype(dtype or v.dtype)) for v in family.model.trainable_variables
    ]
    size = int(sum(np.prod(shape, dtype=np.int64) * kind.size for shape, kind in shapes))
    seconds = _time_all_reduce(family, [tf.zeros(shape, kind) for shape, kind in shapes])
    return size, seconds / int(getattr(options, "local_steps", 1))


def _time_update(model: keras.Model) -> tuple[float, str]:
    """Seconds that the optimizer takes for a step, by itself, and why they are not known."""
    import tensorflow as tf

    weights = [tf.TensorSpec(tuple(v.shape), v.dtype) for v in model.trainable_variables]
    return update_seconds(getattr(model, "optimizer", None), weights)


def _time_sizes(family: Family) -> list[list[float]]:
    import tensorflow as tf

    if family.layout.workers == 1:
        return []
    return [[4.0 * n, _time_all_reduce(family, [tf.zeros([n])])] for n in _FLOATS]


def _time_all_reduce(family: Family, values: list[tf.Tensor]) -> float:
    """Seconds of one all-reduce of these tensors between the workers."""
    import tensorflow as tf

    if family.layout.replicas == 1 or not values:
        return 0.0

    def on_replica() -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        return one_of_each(context.all_reduce(tf.distribute.ReduceOp.SUM, values))

    @tf.function(autograph=False)
    def loop(times: tf.Tensor) -> tf.Tensor:
        def body(i: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            with tf.control_dependencies([i]):
                summed = family.strategy.run(on_replica)
            return i + 1, family.strategy.experimental_local_results(summed)[0]

        start = tf.constant(0), one_of_each(values)
        return tf.while_loop(lambda i, _: i < times, body, start, parallel_iterations=1)[1]

    return seconds_a_turn(loop)


def watch_first_fit(
    folder: Path,
    seconds: float,
    before: Callable[[Family, Stream], None] | None = None,
    after: Callable[[Family], None] | None = None,
) -> None:
    """Has the first `fit` of this process measured; it ends the process.

    Args:
        folder: where the numbers are written.
        seconds: how long to watch.
        before: called before the first step.
        after: called after the last one.
    """
    from tfdist.training.loop.epoch_loop import Loop

    fit = Loop.fit

    def watched(loop: Loop, data: Stream, *rest: Any, **settings: Any) -> None:
        Loop.fit = fit  # type: ignore[method-assign]
        watch = _Watch(loop.family, data, seconds, before)
        with contextlib.suppress(_EnoughError):
            fit(loop, data, *rest, **settings)
        if after is not None:
            with watch.looking():
                after(loop.family)
        times = watch.times()
        path = folder / f"worker-{times.worker}.json"
        path.write_text(json.dumps(dataclasses.asdict(times)))
        raise SystemExit(0)

    Loop.fit = watched  # type: ignore[assignment, method-assign]


def main(arguments: Sequence[str]) -> None:
    """Runs the script.

    Args:
        arguments: the folder, the seconds, and the script's command line.
    """
    folder, seconds, *command = arguments
    watch_first_fit(Path(folder), float(seconds))
    run_script(command)


def run_script(command: Sequence[str]) -> None:
    """Runs a script, or with "-m" a module, as Python would.

    Args:
        command: the script's path, or "-m" and the module's name; then its own arguments.
    """
    if command[0] == "-m":
        sys.argv = list(command[1:])
        sys.path.insert(0, os.getcwd())
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(command)
        sys.path.insert(0, str(Path(command[0]).resolve().parent))
        runpy.run_path(command[0], run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
