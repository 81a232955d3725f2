"""A model's values at one moment, to be written while training goes on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from tfdist.compat import keras_build, keras_trainer
from tfdist.training.model_parts import optimizers_of, unique

__all__ = ["Snapshot"]


class Snapshot:
    """The values of a model's variables, and of its optimizers'.

    A tensor that was read keeps its value, since TensorFlow copies a variable's buffer before it
    writes over one that somebody still holds: so it costs a copy of what is written meanwhile.

    Args:
        model: a built model; no step may be on its way.

    Attributes:
        model: the same.
        global_seeds: the variable of the thread's global seed, if it has one.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self.global_seeds = keras_build.global_seeds()  # each thread has its own
        optimizers = [v for one in optimizers_of(model) for v in one.variables]
        variables = unique([*model.variables, *optimizers, *self.global_seeds])
        self._values = [(v, tf.convert_to_tensor(v.value)) for v in variables]

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """While it is entered, this thread reads these values from the variables."""
        keras_trainer.prepare_to_save()
        with keras.StatelessScope(state_mapping=self._values):
            yield

    def not_finite(self) -> str:
        """The path of the first weight that is NaN or infinite somewhere; "" where none is."""
        weights = {id(v) for v in self.model.weights}
        for variable, value in self._values:
            if id(variable) in weights:
                array = np.asarray(value)
                if np.issubdtype(array.dtype, np.inexact) and not np.isfinite(array).all():
                    return str(variable.path)
        return ""
