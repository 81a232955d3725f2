"""Gradients of weights apart from the rest of a backward, and of several microbatches at once."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfdist.training.pipelined.gradient_sums import total
from tfdist.training.pipelined.weight_gradients import last_operations, not_needed, summed

rng = np.random.default_rng(0)
ROWS = (3, 5, 2)

LAYERS: dict[str, tuple[Callable[[], layers.Layer], tuple[int, ...], bool]] = {
    "a dense layer": (lambda: layers.Dense(4, "tanh"), (6,), True),
    "a dense layer of sequences": (lambda: layers.Dense(4, "tanh"), (7, 6), True),
    "a dense layer in bfloat16": (lambda: layers.Dense(4, dtype="mixed_bfloat16"), (6,), True),
    "a convolution": (lambda: layers.Conv2D(4, 3), (5, 5, 2), False),
    "a normalization": (lambda: layers.LayerNormalization(), (6,), False),
}
"""Layers, the shapes of their examples, and whether a kernel's gradients become one product."""


@pytest.mark.parametrize("name", LAYERS)
def test_the_sum_over_microbatches_is_the_same(name: str) -> None:
    make, shape, is_product = LAYERS[name]
    layer = make()
    layer.build((None, *shape))
    batches = [rng.normal(size=(rows, *shape)).astype("float32") for rows in ROWS]
    products: list[bool] = []

    @tf.function(autograph=False)
    def both() -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        found = []
        for batch in batches:
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.cast(layer(tf.constant(batch)), "float32") ** 2)
            found.append(tape.gradient(loss, [v.value for v in layer.trainable_variables]))
        by_variable = list(zip(*found, strict=True))
        at_once = [summed(gradients) for gradients in by_variable]
        products.append("AddN" not in {at_once[0].op.type, at_once[0].op.inputs[0].op.type})
        return at_once, [total(gradients) for gradients in by_variable]

    at_once, one_by_one = both()
    assert products == [is_product]
    tolerance = 2e-2 if "bfloat16" in name else 1e-5
    for ours, theirs in zip(at_once, one_by_one, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


def test_sparse_gradients_stay_sparse() -> None:
    layer = layers.Embedding(20, 3)
    layer.build((None, 2))

    @tf.function(autograph=False)
    def add() -> tf.Tensor:
        found = []
        for ids in ([[1, 2]], [[2, 3], [0, 0]]):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(layer(tf.constant(ids)) ** 2)
            found.append(tape.gradient(loss, layer.embeddings.value))
        sum_ = summed(found)
        assert isinstance(sum_, tf.IndexedSlices)
        return tf.convert_to_tensor(sum_)

    table = layer.embeddings.numpy()
    wanted = np.zeros_like(table)
    for i in (1, 2, 2, 3, 0, 0):
        wanted[i] += 2 * table[i]
    np.testing.assert_allclose(add(), wanted, rtol=1e-6)


def test_only_the_last_operation_of_a_gradient_is_left_for_later() -> None:
    """Of the first stage nothing goes back, and yet all but the kernels' products is done."""
    model = keras.Sequential([keras.Input((4,)), layers.Dense(4, "tanh"), layers.Dense(4, "tanh")])
    values = [v.numpy() for v in model.trainable_variables]
    with tf.Graph().as_default() as graph:
        x = tf.random.normal((3, 4))
        with tf.GradientTape() as tape:
            weights = [tf.constant(value) for value in values]
            tape.watch(weights)
            mapping = list(zip(model.trainable_variables, weights, strict=True))
            with keras.StatelessScope(state_mapping=mapping):
                y = model(x)
        known = len(graph.get_operations())
        gradients = tape.gradient(y, weights)
        made = graph.get_operations()[known:]
        last = [operation for g in gradients for operation in last_operations(g)]
        needs = [t for operation in last for t in operation.inputs if t.op in set(made)]
        assert sorted(op.type for op in not_needed(last, needs, made)) == [
            *("BiasAddGrad", "BiasAddGrad", "MatMul", "MatMul")
        ]


def test_a_gradient_that_goes_back_too_is_not_left() -> None:
    """Of x + b the gradients are one and the same tensor."""
    with tf.Graph().as_default() as graph:
        x, bias = (tf.random.normal((4, 4), name=name) for name in ("x", "b"))
        with tf.GradientTape() as tape:
            tape.watch([x, bias])
            z = tf.square(x + bias)
        known = len(graph.get_operations())
        back, own = tape.gradient(z, [x, bias])
        made = graph.get_operations()[known:]
        assert not_needed(last_operations(own), [back], made) == []


def test_what_was_there_before_is_not_left() -> None:
    with tf.Graph().as_default():
        one = tf.constant(1.0)
        assert not_needed([one.op], [], []) == []
