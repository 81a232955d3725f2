"""A model's values at one moment, to be written while training goes on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tfdist.compat import keras_build, keras_trainer
from tfdist.training.checkpointing.extra_parts import add_job_state, add_random_state, seeds_of
from tfdist.training.model_parts import optimizers_of, unique
from tfdist.training.slot_shards import whole_slots

__all__ = ["Snapshot"]


class Snapshot:
    """The values of a model's variables, and of its optimizers'.

    A tensor that was read keeps its value, since TensorFlow copies a variable's buffer before it
    writes over one that somebody still holds: so it costs a copy of what is written meanwhile.

    Args:
        model: a built model; no step may be on its way.
        variables: those whose values are to be held; by default all of them.

    Attributes:
        model: the same.
        suffix: how the name of what is written ends.
    """

    suffix = ".keras"

    def __init__(
        self, model: keras.Model, variables: Iterable[keras.Variable] | None = None
    ) -> None:
        self.model = model
        self._slots = whole_slots.current()
        self._global_seeds = keras_build.global_seeds()  # each thread has its own
        if variables is None:
            optimizers = [v for one in optimizers_of(model) for v in one.variables]
            variables = [*model.variables, *optimizers]
        held = unique([*variables, *self._global_seeds])
        self._values = [(v, tf.convert_to_tensor(v.value)) for v in held]

    @classmethod
    def of_random_state(cls, model: keras.Model) -> Snapshot:
        """Holds the seeds alone."""
        return cls(model, seeds_of(model))

    @contextlib.contextmanager
    def _shown(self) -> Iterator[None]:
        """While it is entered, this thread reads these values from the variables."""
        keras_trainer.prepare_to_save()
        with keras.StatelessScope(state_mapping=self._values), whole_slots.shown(self._slots):
            yield

    def save(self, path: Path, job: bytes) -> None:
        """Writes a `.keras` file, with the random state and the state of the job in it."""
        with self._shown():
            keras_trainer.save(self.model, str(path))
        self.add_to(path, job)

    def add_to(self, archive: Path, job: bytes) -> None:
        """Adds the random state, and the state of the job, to an archive."""
        with self._shown():
            add_random_state(archive, self.model, self._global_seeds)
        add_job_state(archive, job)

    def not_finite(self) -> str:
        """The path of the first weight that is NaN or infinite somewhere; "" where none is."""
        weights = {id(v) for v in self.model.weights}
        for variable, value in self._values:
            if id(variable) in weights:
                array = np.asarray(value)
                if np.issubdtype(array.dtype, np.inexact) and not np.isfinite(array).all():
                    return str(variable.path)
        return ""
