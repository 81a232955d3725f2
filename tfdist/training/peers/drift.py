"""By which workers find out that their models have come apart.

What one worker alone has set (a callback on the chief, `if is_chief: model.load_weights(...)`)
makes every worker train another model, and nothing would say so. So the workers tell each other a
hash of all that must be equal on them: of the few numbers (learning rates) with the metrics of
every chunk, of everything where `fit`, `evaluate` and `predict` begin and where epochs end. It
travels in messages that are sent anyway. Every replica applies the same sums in the same order, so
equal means equal to the last bit; where workers round otherwise nevertheless (processors of other
kinds), the chief's values are taken over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from tfdist import log
from tfdist.errors import PlugError
from tfdist.strategies.layout import ReplicaLayout
from tfdist.training.data import fingerprint
from tfdist.training.model_parts import optimizers_of
from tfdist.training.peers import packing
from tfdist.training.peers.all_gather import AllGather
from tfdist.training.tracing import traced

__all__ = ["DriftCheck", "who_has_what"]

_ROUNDING = 1e-5
"""Relative: more than that is no rounding."""

_SHOWN = 3


class DriftCheck:
    """Compares one model over the workers.

    Args:
        model: a built model.
        strategy: of the job.
        layout: its replicas.
        written: the variables that steps write on every replica for itself, by identity; it may
            grow.
        only_rates: whether replicas train by themselves for some steps (`local_steps`): then their
            learning rates alone are the same at any time.

    Attributes:
        active: whether there is anybody to compare with.
        scalars: the numbers that go with every chunk.
    """

    def __init__(
        self,
        model: keras.Model,
        strategy: tf.distribute.Strategy,
        layout: ReplicaLayout,
        written: Mapping[int, tf.Variable],
        only_rates: bool,
    ) -> None:
        self._model = model
        self._strategy = strategy
        self._layout = layout
        self._written = written
        self.active = layout.workers > 1
        self._only_rates = only_rates
        self._functions: dict[
            tuple[int, ...], tuple[Sequence[keras.Variable], tf.types.experimental.ConcreteFunction]
        ] = {}
        self._trained: list[keras.Variable] = []
        self._told_of_rounding = False
        self.scalars: list[keras.Variable] = []

    def begin(self) -> None:
        """Notes what a training that begins, or steps that are made anew, are about."""
        self._trained = self._variables()
        self.scalars = [v for v in self._trained if not v.shape.rank]

    def mark(self) -> tf.Tensor:
        """A hash of the scalars as float32 `[FLOATS]`, for use in a graph."""
        if not self.active or not self.scalars:
            return _in_floats([])
        return _in_floats([_bytes(value) for value in self._values(self.scalars)])

    def digest(self, training: bool = False) -> list[float]:
        """A hash of everything, as numbers to tell; [] in a job of one process.

        Args:
            training: whether it is about what a training has begun with: the steps of a `fit` use
                the same variables from its begin to its end.
        """
        if not self.active:
            return []
        variables = self._still_alike(self._trained) if training else self._variables()
        numbers: list[float] = self._run(variables)[1].numpy().tolist()
        return numbers

    def _variables(self) -> list[keras.Variable]:
        """What must be equal on all workers."""
        if not self.active:
            return []
        found: list[keras.Variable] = []
        for optimizer in optimizers_of(self._model):
            rates = [v for v in optimizer.variables if v.path.endswith("learning_rate")]
            found += rates if self._only_rates else optimizer.variables
        if not self._only_rates:
            found += [v for v in self._model.variables if v.trainable or _is_state_of_all(v)]
        there = {id(v): v for v in found if v.synchronization != "on_read"}
        return self._still_alike(there.values())

    def _still_alike(self, variables: Iterable[keras.Variable]) -> list[keras.Variable]:
        """Leaves out what steps have been seen to write on every replica for itself."""
        return [v for v in variables if id(v.value) not in self._written]

    def _values(self, variables: Sequence[keras.Variable]) -> list[tf.Tensor]:
        local = self._strategy.experimental_local_results
        return [tf.convert_to_tensor(local(v.value)[0]) for v in variables]

    def _run(self, variables: Sequence[keras.Variable]) -> tuple[tf.Tensor, tf.Tensor]:
        """A hash of each, and one of all in floats."""
        key = tuple(map(id, variables))
        if key not in self._functions:

            def hashes() -> tuple[tf.Tensor, tf.Tensor]:
                each = [_hash(value) for value in self._values(variables)]
                return tf.stack([tf.zeros((), tf.int64), *each])[1:], _in_floats(each)

            function = traced(hashes).get_concrete_function()
            self._functions[key] = variables, function  # which keeps their identities theirs
        found: tuple[tf.Tensor, tf.Tensor] = self._functions[key][1]()
        return found

    def check(self, told: np.ndarray) -> None:
        """Looks at what every worker has told (`mark`, or `digest`); all call it together.

        Raises:
            PlugError: the workers differ; it names what.
        """
        if not (told != told[0]).any():
            return
        variables = self._variables()
        gather = AllGather.of(self._strategy, self._layout)
        counts = gather.all_gather([len(variables)])[:, 0]
        if (counts != counts[0]).any():
            raise _apart([who_has_what("the number of their variables", counts)])
        hashes = self._run(variables)[0].numpy().tolist()
        table = gather.all_gather([part for one in hashes for part in fingerprint.in_floats(one)])
        apart = (table != table[0]).reshape(len(table), -1, fingerprint.FLOATS).any(axis=(0, 2))
        differing = [v for v, differs in zip(variables, apart, strict=True) if differs]
        if not differing:  # what differed is written by steps, as is known by now
            self.begin()
            return
        own = [_as_array(v) for v in differing]
        chiefs = self._of_the_chief(differing)
        away = [_distance(a, b.numpy()) for a, b in zip(own, chiefs, strict=True)]
        first = [float(np.ravel(value)[0]) for value in own]
        aways, firsts = np.split(gather.all_gather([*away, *first]), 2, axis=1)
        if aways.max() <= _ROUNDING:
            self._take_over(differing, chiefs)
            return
        scalars = [i for i, v in enumerate(differing) if not v.shape.rank]
        if scalars:  # the rest may well follow from them
            differing = [differing[i] for i in scalars]
            aways, firsts = aways[:, scalars], firsts[:, scalars]
        names = []
        for column, variable in enumerate(differing[:_SHOWN]):
            if not variable.shape.rank:
                names.append(who_has_what(variable.path, firsts[:, column]))
                continue
            far = ", ".join(str(i) for i, d in enumerate(aways[:, column]) if d > _ROUNDING)
            names.append(f"{variable.path} is not on worker {far} what it is on worker 0")
        if len(differing) > _SHOWN:
            names.append(f"and {len(differing) - _SHOWN} more")
        raise _apart(names)

    def _of_the_chief(self, variables: Sequence[keras.Variable]) -> list[tf.Tensor]:
        def on_replica() -> list[tf.Tensor]:
            return packing.broadcast_from_first([tf.identity(v.value) for v in variables])

        values = traced(lambda: self._strategy.run(on_replica))()
        return [self._strategy.experimental_local_results(value)[0] for value in values]

    def _take_over(self, variables: Sequence[keras.Variable], values: Sequence[tf.Tensor]) -> None:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        if not self._told_of_rounding:
            self._told_of_rounding = True
            log.warning(
                "the workers round differently (%s and %d more; processors of other kinds do, and "
                "sums in no fixed order): the chief's values are taken over at the end of an epoch",
                variables[0].path,
                len(variables) - 1,
            )


def _apart(names: Sequence[str]) -> PlugError:
    return PlugError(
        f"the workers' models have come apart ({'; '.join(names)}): what one worker sets, in a "
        "callback or before fit, every worker must set; give the callback to all of them, "
        "without asking which one is the chief"
    )


def who_has_what(name: str, values: np.ndarray) -> str:
    """Says which workers have which value: "rate is 0.1 on worker 0, 2 and 0.5 on worker 1"."""
    workers: dict[float, list[str]] = {}
    for worker, value in enumerate(values):
        workers.setdefault(float(np.float32(value)), []).append(str(worker))
    told = [f"{value:.7g} on worker {', '.join(who)}" for value, who in workers.items()]
    return f"{name} is {' and '.join(told)}"


def _is_state_of_all(variable: keras.Variable) -> bool:
    """Whether a variable that is not trained has one value for all replicas (no counters)."""
    floating = bool(tf.as_dtype(variable.dtype).is_floating)
    return floating and variable.aggregation != "only_first_replica"


def _as_array(variable: keras.Variable) -> np.ndarray:
    return np.asarray(tf.cast(variable.value.read_value(), tf.float64))


def _hash(value: tf.Tensor) -> tf.Tensor:
    value = tf.cast(value, tf.uint8) if value.dtype == tf.bool else value
    return tf.bitcast(tf.fingerprint(tf.reshape(value, [1, -1]))[0], tf.int64)


def _bytes(value: tf.Tensor) -> tf.Tensor:
    """A number as its bytes: all of a chunk's go into one hash, for a few operations each."""
    value = tf.cast(value, tf.uint8) if value.dtype == tf.bool else tf.bitcast(value, tf.uint8)
    return tf.reshape(value, [-1])


def _in_floats(parts: Sequence[tf.Tensor]) -> tf.Tensor:
    """One hash of hashes or of bytes, in numbers that float32 holds exactly."""
    if not parts:
        return tf.zeros([fingerprint.FLOATS])
    flat = tf.concat([tf.reshape(one, [-1]) for one in parts], 0)
    return tf.cast(fingerprint.cut(_hash(flat)), tf.float32)


def _distance(own: np.ndarray, chief: np.ndarray) -> float:
    """How far a value is from the chief's, relative to its largest number."""
    chief = chief.astype(np.float64)
    if np.array_equal(own, chief, equal_nan=True):
        return 0.0
    away = np.nan_to_num(np.abs(own - chief), nan=np.inf).max()
    return float(min(away / max(np.nan_to_num(np.abs(chief)).max(), 1e-30), 1e30))
