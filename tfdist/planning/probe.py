"""One worker of a job that `tfdist plan` measures: runs the script until its first `fit` is known.

    python -m tfdist.planning.probe FOLDER SECONDS DEADLINE PLUG script.py its own arguments

Speed is measured as `tfdist bench` does. Memory: before the first step of `fit` a row, two rows
and a whole batch are trained on. From one to two rows the process grows by another traced program;
from two to all by as much, and by the activations, since nothing else depends on the rows. Then
`fit` goes on by itself, and the peak is that of a real run. On a GPU TensorFlow's allocator is
asked. The steps of two rows and of the batch are timed as well, and so, at the end, are the
optimizers' updates (`probed_seconds`).
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfdist.bench.worker import run_script, watch_first_fit
from tfdist.exits import tell_by_exit_code
from tfdist.machine import process_memory
from tfdist.planning.seen_process import SeenProcess

if TYPE_CHECKING:
    from tfdist.training.data.stream import Step, Stream
    from tfdist.training.loop.family import Family

__all__ = ["main"]

_STEPS = 4
_GPU = "GPU:0"


class _Meter:
    """The memory that training is short of: a GPU's where there is one, else this process's."""

    def __init__(self) -> None:
        import tensorflow as tf

        self._of_gpus = tf.config.experimental if tf.config.list_logical_devices("GPU") else None

    @property
    def place(self) -> str:
        """Where it is: "gpu" or "host"."""
        return "host" if self._of_gpus is None else "gpu"

    def peak(self) -> int:
        """The most bytes until now."""
        if self._of_gpus is None:
            return process_memory.peak()
        return int(self._of_gpus.get_memory_info(_GPU)["peak"])


class _Probe:
    """Looks at the memory of this process around its first `fit`.

    Args:
        folder: where it writes what it has seen.
        deadline: ends the process where no `fit` begins in time.
    """

    def __init__(self, folder: Path, deadline: threading.Timer) -> None:
        self._folder, self._deadline = folder, deadline

    def before(self, family: Family, data: Stream) -> None:
        """Before the first step: trains on few rows and on a whole batch."""
        from tfdist.planning.probed_layers import counted_ids
        from tfdist.planning.probed_seconds import growing_part

        self._deadline.cancel()
        self._data = data
        self._meter = _Meter()
        self._began = process_memory.peak()
        step = _first(data)
        peaks = []
        with counted_ids() as self._ids:
            for one in (_cut(step, 1), _cut(step, 2), step):
                _train(family, one, _STEPS)
                peaks.append(self._meter.peak())
        self._rows, self._row_bytes = _rows(step), _row_bytes(step)
        more = self._rows - 2 * len(step.parts)
        program = max(0, peaks[1] - peaks[0])  # of another shape, with next to no activations
        grown = max(0, peaks[2] - peaks[1] - program)
        self._a_row = grown / more if more > 0 else 0.0
        two = _cut(step, 2)
        self._growing = growing_part(
            family,
            lambda: _train(family, two, 1),
            lambda: _train(family, step, 1),
            more / self._rows,
        )

    def after(self, family: Family) -> None:
        """After the last step: writes what was seen."""
        from tfdist.planning.probed_layers import (
            bytes_of,
            layers_of,
            tables_of,
            why_no_servers,
            why_no_shards,
        )
        from tfdist.planning.probed_seconds import update_part
        from tfdist.training.model_parts import optimizers_of

        model = family.model
        peak = self._meter.peak()  # of what was trained, not of what is timed below
        layers, why = layers_of(model)
        tables = tables_of(model, self._ids)
        rows = {path: one.rows_of(self._rows) for path, one in tables.items()}
        first = functools.cache(lambda: _first(self._data))  # again: kept, it would be in the peak

        def whole() -> None:
            _train(family, first(), 1)

        seen = SeenProcess(
            worker=family.layout.worker,
            place=self._meter.place,
            program_at_start=self._began if self._meter.place == "host" else 0,
            peak=peak,
            rows=self._rows,
            activations_a_row=self._a_row,
            weights=bytes_of(model.variables),
            gradients=bytes_of(model.trainable_variables),
            slots=bytes_of([v for one in optimizers_of(model) for v in one.variables]),
            layers=layers,
            no_pipeline=why,
            no_servers=why_no_servers(model),
            no_shards=why_no_shards(model, getattr(family, "_options", None)),
            tables=list(tables.values()),
            row_bytes=self._row_bytes,
            growing=self._growing,
            update=update_part(family, whole, rows, dense=False),
            dense_update=update_part(family, whole, rows, dense=True),
        )
        path = self._folder / f"memory-{seen.worker}.json"
        path.write_text(json.dumps(dataclasses.asdict(seen)))


def _first(data: Stream) -> Step:
    iterator = iter(data.make_iterator())
    return next(iterator)


def _cut(step: Step, rows: int) -> Step:
    """The first rows of each replica."""
    from tfdist.training.data.stream import map_leaves, slice_rows

    parts = tuple(map_leaves(lambda leaf: slice_rows(leaf, 0, rows), part) for part in step.parts)
    return step._replace(parts=parts)


def _rows(step: Step) -> int:
    from tfdist.training.data.stream import count_rows

    return sum(count_rows(part) for part in step.parts)


def _train(family: Family, step: Step, times: int) -> None:
    family.run_steps("train", [step] * times, False)  # type: ignore[attr-defined]


def _row_bytes(step: Step) -> float:
    import tensorflow as tf

    from tfdist.training.data.stream import leaves

    dense = [
        one
        for part in step.parts
        for leaf in leaves(part)
        for one in tf.nest.flatten(leaf, expand_composites=True)
    ]
    return sum(int(one.dtype.size) * int(tf.size(one)) for one in dense) / _rows(step)


def _give_lone_models_a_strategy() -> None:
    """Has the models of a job of one worker made in a scope, where the script makes no strategy."""
    import keras
    import tensorflow as tf

    from tfdist import process
    from tfdist.compat.first_operation import enter_for_good
    from tfdist.strategies import strategy

    cluster = process.current().cluster
    if cluster is not None and len(cluster.tasks) > 1:
        return  # autoplug does it
    new = keras.Layer.__new__
    begun: list[tf.distribute.Strategy] = []

    @functools.wraps(new)
    def begin(*args: object, **kwargs: object) -> object:
        if not begun and not tf.distribute.has_strategy():
            begun.append(strategy())
            enter_for_good(begun[0])
        return new(*args, **kwargs)

    keras.Layer.__new__ = begin


def _no_fit(seconds: float) -> None:
    sys.stderr.write(f"tfdist plan: no fit has begun within {seconds:g} s\n")
    sys.stderr.flush()
    os._exit(1)


def main(arguments: Sequence[str]) -> None:
    """Runs the script.

    Args:
        arguments: the folder, the seconds to train, those until `fit` must have begun, "plug" where
            every model is to be plugged, and the script's command line.
    """
    name, seconds, wait, plug, *command = arguments
    folder = Path(name)
    deadline = threading.Timer(float(wait), _no_fit, [float(wait)])
    deadline.daemon = True
    deadline.start()
    probe = _Probe(folder, deadline)
    watch_first_fit(folder, float(seconds), probe.before, probe.after)
    if plug == "plug":  # after the imports of what watches
        from tfdist.training import autoplug

        autoplug.prepare(plugs_lone=True)
        _give_lone_models_a_strategy()
    run_script(command)


if __name__ == "__main__":
    tell_by_exit_code()
    main(sys.argv[1:])
