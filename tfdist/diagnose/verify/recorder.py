"""Sees what the steps of a process do: rows, layers' outputs, gradients, weights and logs.

It works alike in plain Keras and in tfdist's loop: by a wrapper of a model's `train_step`, by
operations in the step's graph that hand numbers to Python (`tf.numpy_function`), and by two
callbacks, one before and one after the user's, so that what a callback changes is told from what a
step does.

It imports what trains in functions only: tfdist keeps the functions of Keras that it stands in for
as they are when it is imported, which must be after they were wrapped here.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdist.diagnose.verify.fold import fold, fold_rows, row_marks
from tfdist.diagnose.verify.model_numbers import numbers_of, state_of
from tfdist.diagnose.verify.records import LayerCall, Part, Record, Result, StepRecord
from tfdist.diagnose.verify.user_lines import line_of_object

__all__ = ["EnoughError", "Recorder"]

_MOST_LAYER_STEPS = 2
"""Layers are looked at in the first steps: later ones differ by what these have done."""

_MOST_LEAVES = 4
"""Of a layer's outputs."""


_UNITS = {
    tf.float64: 2.0**-52,
    tf.float32: 2.0**-23,
    tf.float16: 2.0**-10,
    tf.bfloat16: 2.0**-7,
}
"""The place of the last bit, relative."""


class EnoughError(BaseException):
    """The script goes on to train where nobody looks any more; no `except Exception` stops it."""


class _InStep(threading.local):
    graph: tf.Graph | None = None
    replica: Any = 0


class Recorder:
    """Records the training of one process.

    Args:
        record: where to.
        steps: how many to record; None for all.
        jitter: seed of a disturbance of last bits, of the weights at each step and of what layers
            return; 0 for none.
        of_layers: whether it is of layers, too; it adds operations to the step, whose number is a
            seed of `tf.random` where there is no other.

    Attributes:
        in_step: whether this thread is in a step that is recorded.
    """

    def __init__(
        self, record: Record, steps: int | None, jitter: int = 0, of_layers: bool = True
    ) -> None:
        self.record = record
        self._steps = steps
        self._epoch_steps = None if steps is None else max(1, -(-steps // 2))
        self._jitter = np.random.default_rng(jitter) if jitter else None
        self._layer_jitter = jitter if of_layers else 0
        self._disturbed = 0
        self._in_step = _InStep()
        self._lock = threading.Lock()
        self._step = StepRecord()
        self._open = False
        self._begun = 0
        self._of_epoch = 0
        self._cut = False
        self._ready: set[int] = set()
        self._first_rows: dict[int, Any] = {}
        self._model: keras.Model | None = None

    @property
    def in_step(self) -> bool:
        """See above; false inside of loops and functions of the step's own."""
        graph = self._in_step.graph
        return graph is not None and tf.compat.v1.get_default_graph() is graph

    @property
    def traces(self) -> bool:
        """Whether this thread is anywhere in a step."""
        return self._in_step.graph is not None

    @property
    def is_done(self) -> bool:
        """Whether all steps that were asked for have been taken."""
        return self._steps is not None and len(self.record.steps) >= self._steps

    # ------------------------------------------------------------ around a training

    def begin_fit(self, model: keras.Model) -> None:
        """Before a method that trains.

        Raises:
            EnoughError: all has been seen.
        """
        if self.is_done:
            raise EnoughError
        self._model = model
        self._of_epoch = 0
        self._cut = False
        if id(model) not in self._ready:
            self._ready.add(id(model))
            self._wrap(model)

    def around(self, callbacks: Sequence[Any]) -> list[keras.callbacks.Callback]:
        """The user's callbacks between those that record."""
        return [_First(self), *callbacks, _Last(self)]

    def _wrap(self, model: keras.Model) -> None:
        """Has a model's own `train_step` recorded; without XLA, which hands nothing to Python."""
        model.jit_compile = False
        if getattr(model, "steps_per_execution", 1) != 1:
            model.steps_per_execution = 1
        train_step = model.train_step

        def recorded(data: Any) -> Any:
            flat = tf.nest.flatten(data)
            if any(isinstance(leaf, keras.KerasTensor) for leaf in flat):
                return train_step(data)
            context = tf.distribute.get_replica_context()
            replica = 0 if context is None else context.replica_id_in_sync_group
            from tfdist.training.replica.step import current

            replica_step = current()
            share = tf.ones(()) if replica_step is None else replica_step.share
            self._take_rows(data, flat, replica, share)
            before = self._in_step.graph, self._in_step.replica
            graph = tf.compat.v1.get_default_graph()
            self._in_step.graph, self._in_step.replica = graph, replica
            try:
                return train_step(data)
            finally:
                self._in_step.graph, self._in_step.replica = before

        object.__setattr__(model, "train_step", recorded)

    # ------------------------------------------------------------ inside of a step

    def _take_rows(self, data: Any, flat: list[Any], replica: Any, share: tf.Tensor) -> None:
        there = [leaf for leaf in flat if isinstance(leaf, tf.Tensor)]
        if not there:
            return
        whole = len(there) == len([leaf for leaf in flat if leaf is not None]) and all(
            leaf.shape.rank for leaf in there
        )

        def take(replica: np.ndarray, share: np.ndarray, *arrays: np.ndarray) -> None:
            if share == 0:  # it has no rows of its own in this step, but another's to compute with
                return
            marks = row_marks(list(arrays)) if whole else np.zeros(0, np.int64)
            self._step.parts.append(Part(int(replica), marks))
            if whole and not self.record.steps:
                given = iter(arrays)
                rows = [next(given) if isinstance(leaf, tf.Tensor) else None for leaf in flat]
                self._first_rows[int(replica)] = tf.nest.pack_sequence_as(data, rows)

        self._hand(take, [replica, share, *there])

    def disturbed(self, outputs: Any) -> Any:
        """A layer's outputs, with their last bits changed by chance where that was asked for."""
        if not self._layer_jitter:
            return outputs
        self._disturbed += 1
        seed = [self._layer_jitter, self._disturbed]

        def change(one: Any) -> Any:
            if not (isinstance(one, tf.Tensor) and one.dtype.is_floating):
                return one
            unit = tf.constant(_UNITS.get(one.dtype, 2.0**-23), one.dtype)
            draws = tf.random.stateless_uniform(tf.shape(one), seed, -1, 2, tf.int32)
            return one * (1 + unit * tf.cast(draws, one.dtype))

        return tf.nest.map_structure(change, outputs)

    def take_layer(self, layer: keras.Layer, outputs: Any) -> None:
        """Records what a layer returns."""
        flat = [one for one in tf.nest.flatten(outputs) if isinstance(one, tf.Tensor)]
        for one in flat[:_MOST_LEAVES]:
            if not (one.dtype.is_floating and one.shape.rank):
                continue

            def take(replica: np.ndarray, values: np.ndarray, name: str = layer.name) -> None:
                if len(self.record.steps) >= _MOST_LAYER_STEPS:
                    return
                parts = [part for part in self._step.parts if part.replica == int(replica)]
                if not parts:
                    return
                by_row = len(parts[-1].marks) == len(values)
                folded = fold_rows(values) if by_row else fold(values)
                self._step.layers.append(LayerCall(name, int(replica), folded, by_row))

            self._hand(take, [self._in_step.replica, one])

    def take_gradients(self, gradients: Sequence[Any], variables: Sequence[keras.Variable]) -> None:
        """Records what an optimizer is given."""
        pairs = [(g, v) for g, v in zip(gradients, variables, strict=False) if g is not None]
        if not pairs:
            return

        def take(replica: np.ndarray, *arrays: np.ndarray) -> None:
            if self._local_first not in (None, int(replica)):
                return
            for (_, variable), array in zip(pairs, arrays, strict=True):
                name, folded = variable.path, fold(array)
                taken = self._step.gradients
                while name in taken:
                    name += "'"  # a second time in one step, or another of the same name
                taken[name] = folded

        self._hand(take, [self._in_step.replica, *(tf.convert_to_tensor(g) for g, _ in pairs)])

    @property
    def _local_first(self) -> int | None:
        """The first replica of this process; all of them are given the same gradients."""
        return min((part.replica for part in self._step.parts), default=None)

    def _hand(self, take: Callable[..., None], values: Sequence[Any]) -> None:
        """Hands the values of tensors to a function, as often as the step runs."""

        def handed(*arrays: Any) -> None:
            with self._lock:
                if self._open and not self.is_done:
                    take(*arrays)

        tensors = [tf.convert_to_tensor(value) for value in values]
        tensors = [
            tf.cast(one, tf.float32) if one.dtype in (tf.bfloat16, tf.float16) else one
            for one in tensors
        ]
        with tf.device("CPU:0"):
            tf.numpy_function(handed, tensors, [])

    # ------------------------------------------------------------ between steps

    def step_begins(self, model: keras.Model) -> None:
        """Before a step, after the user's callbacks."""
        if self.is_done:
            return
        if self._jitter is not None:
            self._disturb(model)
        self._step = StepRecord(begin=state_of(model))
        self._open = True

    def step_ended(self, model: keras.Model, logs: dict[str, Any] | None) -> None:
        """After a step, before the user's callbacks."""
        if not self._open:
            return
        self._open = False
        self._step.end = state_of(model)
        self._step.logs = numbers_of(logs)
        if not self.record.steps:
            self._describe(model)
        self.record.steps.append(self._step)
        self._of_epoch += 1

    def stops_epoch(self, steps: int | None) -> bool:
        """Whether an epoch is to end here: two short ones show what happens between them.

        Args:
            steps: of the whole epoch. One that is about to end is not cut: an iterator that has
                seen its end has drawn a shuffle's next order in Keras, another one has not.
        """
        if self.is_done:
            return True
        is_late = self._epoch_steps is not None and self._of_epoch >= self._epoch_steps
        self._cut = is_late and self._of_epoch != steps
        return self._cut

    def epoch_goes_on(self) -> bool:
        """At an epoch's end: whether it was cut short, and the training is to go on."""
        self._of_epoch = 0
        cut, self._cut = self._cut, False
        return cut and not self.is_done

    def took(self, what: str, numbers: Any) -> None:
        """Records a result between steps."""
        count = len(self.record.steps)
        self.record.results.append(Result(what, count, numbers_of(numbers)))

    def _disturb(self, model: keras.Model) -> None:
        """Changes the last bit of the weights by chance."""
        assert self._jitter is not None
        for variable in model.trainable_variables:
            kind = tf.as_dtype(variable.dtype)
            if not kind.is_floating:
                continue
            value = np.asarray(tf.cast(variable.value, tf.float64))
            step = max(self.record.eps, 2.0**-52 if kind == tf.float64 else 2.0**-23) / 2
            draws = self._jitter.integers(-1, 2, value.shape)
            variable.assign(value * (1 + step * draws))

    def _describe(self, model: keras.Model) -> None:
        from tfdist.compat import keras_layers, keras_trainer

        kinds = {layer.compute_dtype for layer in keras_layers.all_layers(model)}
        rounding = [unit for kind, unit in _UNITS.items() if kind.name in kinds]
        self.record.eps = max(rounding, default=2.0**-23)
        own = {"the step": type(model).train_step, "the loss": type(model).compute_loss}
        for loss in keras_trainer.flat_losses(model):
            own["the loss"] = getattr(loss, "fn", None) or type(loss)
        for what, thing in own.items():
            if line := line_of_object(thing):
                self.record.lines[what] = line

    def outputs(self) -> None:
        """Records what the trained model makes of the first step's rows."""
        if self._model is None or not self.record.steps:
            return
        for replica, data in self._first_rows.items():
            with contextlib.suppress(Exception):  # a model without a call
                x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
                found = self._model(x, training=False)
                for one in [leaf for leaf in tf.nest.flatten(found) if leaf.shape.rank]:
                    values = np.asarray(tf.cast(one, tf.float32))
                    self.record.outputs.append(
                        LayerCall("outputs", replica, fold_rows(values), by_row=True)
                    )


class _First(keras.callbacks.Callback):
    """Runs before the user's callbacks."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._recorder.step_ended(self.model, logs)
        if self._recorder.stops_epoch(self.params.get("steps")):
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self._recorder.epoch_goes_on():
            self.model.stop_training = False


class _Last(keras.callbacks.Callback):
    """Runs after the user's callbacks."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder
        self._tested = 0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._recorder.step_begins(self.model)

    def on_test_begin(self, logs: Any = None) -> None:
        self._tested = 0

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        self._tested += 1
        most = self._recorder._steps
        if most is not None and self._tested >= most:
            self.model.stop_evaluating = True

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._recorder.took(f"the logs of epoch {epoch + 1}", logs)
