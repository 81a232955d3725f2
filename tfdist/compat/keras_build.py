"""How Keras makes all variables of a model before its first step."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf

from tfdist.compat.keras_layers import all_layers
from tfdist.compat.names import (
    keras_backend,
    keras_global_state,
    keras_seed,
    keras_variables,
    tf_structure,
)
from tfdist.compat.patches import Patches, original
from tfdist.structures import Leaf, Nest, Traced

__all__ = [
    "functions_inline",
    "global_seeds",
    "is_absent",
    "is_built",
    "make_global_seeds",
    "symbolic_build",
    "try_step",
]


def symbolic_build(model: keras.Model, batch: Nest) -> None:
    """Creates all variables of the model, its metrics and its optimizer before anything is traced.

    Args:
        model: a compiled model.
        batch: tensors or specs of one batch, as `(x,)`, `(x, y)` or `(x, y, sample_weight)`.
    """
    with functions_inline():
        model._symbolic_build(data_batch=batch)


def try_step(step: Callable[[Nest], object], batch: Nest, strategy: tf.distribute.Strategy) -> None:
    """Calls a step on tensors without values; nothing is changed but what is not built yet.

    Args:
        step: a model's `train_step`, `test_step` or `predict_step`.
        batch: tensors or specs of one batch, as the step takes them.
        strategy: in whose scope the variables are made that the step needs.
    """

    def without_variables(
        self: tf.GradientTape, target: Nest, sources: Nest, *args: object, **named: object
    ) -> Nest:
        # A variable that is to be made has no tensor to ask for yet; any gradient has its shape.
        if any(isinstance(source, keras.Variable) for source in tf.nest.flatten(sources)):
            return tf.nest.map_structure(lambda v: tf.zeros(v.shape, v.dtype), sources)
        return original("tape_gradient")(self, target, sources, *args, **named)

    def call() -> None:
        step(tf.nest.map_structure(_placeholder, batch))

    try:
        with (
            Patches({"tape_gradient": without_variables}),
            keras.StatelessScope(initialize_variables=False),
            functions_inline(),
        ):
            keras_backend.compute_output_spec(call)
    finally:
        with strategy.scope():
            keras_variables.initialize_all_variables()


def global_seeds() -> list[keras.Variable]:
    """The state of the generator that `keras.random` draws from without a seed; [] before one."""
    found = keras_global_state.get_global_attribute(keras_seed.GLOBAL_SEED_GENERATOR)
    return [] if found is None else [found.state]


def make_global_seeds(strategy: tf.distribute.Strategy) -> None:
    """Makes the generator that `keras.random` draws from without a seed, on every replica.

    Keras makes it at the first use, which inside of a replica's step is too late; one that was made
    outside of the scope would count every replica's draws. It goes on where it was.
    """
    name = keras_seed.GLOBAL_SEED_GENERATOR
    found = keras_global_state.get_global_attribute(name)
    if found is not None and strategy.extended.variable_created_in_scope(found.state.value):
        return
    if found is None:
        drawn = random.getstate()
        with strategy.scope():
            keras_seed.global_seed_generator()
        random.setstate(drawn)  # a seed may come from there: a program's own numbers go on as ever
        return
    seed, count = np.asarray(found.state.value)
    with strategy.scope():  # which gives all workers the chief's seed
        made = keras.random.SeedGenerator(int(seed))
    made.state.assign(made.state.value + tf.constant([0, count], made.state.dtype))
    keras_global_state.set_global_attribute(name, made)


def is_absent(leaf: object) -> bool:
    """Whether an entry of a batch, or of its specs, stands for None."""
    return leaf is None or isinstance(
        leaf, tf.experimental.Optional | tf.OptionalSpec | tf_structure.NoneTensorSpec
    )


def _placeholder(leaf: Leaf) -> tf.Tensor | None:
    if is_absent(leaf):
        return None
    if isinstance(leaf, tf.RaggedTensor | tf.RaggedTensorSpec):
        shape = leaf.shape[leaf.ragged_rank + 1 :]
        return tf.compat.v1.ragged.placeholder(leaf.dtype, leaf.ragged_rank, shape)
    if isinstance(leaf, tf.SparseTensor | tf.SparseTensorSpec):
        return tf.compat.v1.sparse_placeholder(leaf.dtype, leaf.shape)
    return tf.compat.v1.placeholder(leaf.dtype, leaf.shape)


@contextlib.contextmanager
def functions_inline() -> Iterator[None]:
    """Has every `tf.function` that is called in the block be a part of its caller.

    Those that XLA compiles stay what they are, once all variables are there. One that is traced
    while variables are still to be made would keep their initial values as constants, and be used
    again for the steps; and what it returns would be other tensors than its metrics' results.
    """
    with _INLINE:
        yield


def _call_inline(self: Traced, *args: object, **named: object) -> object:
    if self._jit_compile and not keras_backend.in_stateless_scope():
        return original("call_function")(self, *args, **named)
    python = self.python_function
    if self._autograph:
        autograph = tf.__internal__.autograph
        python = autograph.tf_convert(python, autograph.control_status_ctx())
    return python(*args, **named)


_INLINE = Patches({"call_function": _call_inline})


def is_built(model: keras.Model) -> bool:
    """Whether the model and all of its layers have their variables."""
    return all(layer.built for layer in all_layers(model))
