"""A step of a class's own on weights in parts: as on one device, or refused."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import tfdist
from tests.tensor_parallel.test_equals_one_device import strategy
from tfdist.errors import PlugError

X = np.random.default_rng(0).normal(size=(48, 12)).astype("float32")
Y = X.sum(axis=1, keepdims=True)
LAYOUT = {".*first/kernel": (None, "model"), ".*second/kernel": ("model", None)}

Edit = Callable[[Any, Sequence[Any], Sequence[Any]], Any]


class Step:
    """Takes its steps by hand, with something done to gradients, or added to the loss."""

    edit: Any = staticmethod(lambda gradients, weights: gradients)
    add: Any = staticmethod(lambda weights: 0.0)

    after: Any = staticmethod(lambda weights: {})

    def train_step(self: Any, data: Any) -> Any:
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True)) + self.add(self.trained())
        gradients = tape.gradient(loss, self.trained())
        self.optimizer.apply(self.edit(gradients, self.trained()), self.trained())
        return {"error": loss, **self.after(self.trained())}

    def trained(self: Any) -> Any:
        return self.trainable_variables


class Functional(Step, keras.Model):
    pass


class Subclassed(Step, keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.first = layers.Dense(8, "tanh", name="first", kernel_regularizer="l2")
        self.second = layers.Dense(1, name="second")

    def call(self, x: Any) -> Any:
        return self.second(self.first(x))


def made(subclassed: bool, **given: Any) -> keras.Model:
    keras.utils.set_random_seed(1)
    if subclassed:
        model: Any = Subclassed()
        model.build((None, 12))
    else:
        inputs = keras.Input((12,))
        hidden = layers.Dense(8, "tanh", name="first", kernel_regularizer="l2")(inputs)
        model = Functional(inputs, layers.Dense(1, name="second")(hidden))
    for name, function in given.items():
        setattr(model, name, function)
    model.compile(keras.optimizers.Adam(0.01), loss="mse")
    return model


def compared(make: Callable[[], keras.Model]) -> tuple[Any, Any]:
    """The losses in parts, and those of plain Keras."""
    plain = make()
    with strategy(LAYOUT).scope():
        parts = make()
    tfdist.plug(parts)
    found = [
        model.fit(X, Y, batch_size=16, epochs=2, verbose=0, shuffle=False).history["error"]
        for model in (parts, plain)
    ]
    return found[0], found[1]


def errors(subclassed: bool = False, **given: Any) -> tuple[Any, Any]:
    return compared(lambda: made(subclassed, **given))


def by_own_global_norm(gradients: Any, _: Any) -> Any:
    norm = tf.sqrt(tf.add_n([tf.reduce_sum(one**2) for one in gradients]))
    return [one / tf.maximum(norm, 1.0) for one in gradients]


def by_one_long_vector(gradients: Any, _: Any) -> Any:
    norm = tf.norm(tf.concat([tf.reshape(one, [-1]) for one in gradients], 0))
    return [one / (1.0 + norm) for one in gradients]


def if_finite(gradients: Any, _: Any) -> Any:
    fine = tf.reduce_all([tf.reduce_all(tf.math.is_finite(one)) for one in gradients])
    return [tf.where(fine, one, tf.zeros_like(one)) for one in gradients]


def if_all_is_finite(gradients: Any, _: Any) -> Any:
    fine = tf.reduce_all([tf.reduce_all(tf.math.is_finite(one)) for one in gradients])
    return [tf.cond(fine, lambda g=one: 2.0 * g, lambda g=one: 0.0 * g) for one in gradients]


def shrink(weights: Any) -> Any:
    for one in weights:
        one.assign(one * 0.99)
        one.assign_sub(tf.clip_by_value(one, -1e-3, 1e-3))
    return {"norm": tf.linalg.global_norm([one**1 for one in weights])}


def to_one(weights: Any) -> Any:
    for one in weights:
        one.assign(one / tf.norm(one))
    return {}


def by_orthogonality(weights: Any) -> Any:
    penalty = keras.regularizers.OrthogonalRegularizer(0.01)
    return tf.add_n([penalty(one) for one in weights if len(one.shape) == 2])


def by_branches(gradients: Any, _: Any) -> Any:
    return [
        tf.cond(tf.norm(one) > 0.1, lambda g=one: 0.5 * g, lambda g=one: 1.0 * g)
        for one in gradients
    ]


def plus_one_each(gradients: Any, _: Any) -> Any:
    norm = tf.sqrt(tf.add_n([tf.reduce_sum(one**2) + 1.0 for one in gradients]))
    return [one / norm for one in gradients]


def in_a_loop(clip: Any, after: Any, gradients: Any, weights: Any) -> Any:
    """Gradients of a penalty, added up in a loop."""

    def body(i: Any, sums: Any) -> Any:
        with tf.GradientTape() as tape:
            penalty = tf.add_n([tf.reduce_sum(tf.square(one)) for one in weights])
        found = tape.gradient(penalty, list(weights))
        return i + 1, [a + clip(b) for a, b in zip(sums, found, strict=True)]

    start = [tf.zeros_like(one) for one in gradients]
    _, sums = tf.while_loop(lambda i, _: i < 2, body, [0, start])
    return [a + 0.1 * after(b) for a, b in zip(gradients, sums, strict=True)]


def clipped(one: Any) -> Any:
    return tf.clip_by_norm(one, 0.1)


def unclipped(one: Any) -> Any:
    return one


class Momentum:
    """Keeps what it has made of gradients in variables of its own."""

    def __init__(self, clip: Any) -> None:
        self.clip = clip
        self.kept: dict[str, Any] = {}

    def __call__(self, gradients: Any, weights: Any) -> Any:
        found = []
        for gradient, weight in zip(gradients, weights, strict=True):
            if weight.path not in self.kept:
                with tf.init_scope():
                    self.kept[weight.path] = keras.Variable(np.zeros(weight.shape, "float32"))
            own = self.kept[weight.path]
            own.assign(0.5 * own + gradient)
            found.append(self.clip(tf.convert_to_tensor(own)))
        return found


def drawn() -> Any:
    return tf.reduce_mean(tf.random.stateless_normal([5], [1, 2]))


SAME: dict[str, dict[str, Any]] = {
    "as they are": {},
    "global norm": {"edit": lambda g, _: tf.clip_by_global_norm(g, 0.1)[0]},
    "an own global norm": {"edit": by_own_global_norm},
    "one long vector": {"edit": by_one_long_vector},
    "by value": {"edit": lambda g, _: [tf.clip_by_value(one, -0.1, 0.1) for one in g]},
    "one drawn number": {"edit": lambda g, _: [one * (1 + ops.sin(drawn())) for one in g]},
    "signs": {"edit": lambda g, _: [0.1 * ops.sign(one) for one in g]},
    "weight decay": {"edit": lambda g, w: [a + 0.01 * b for a, b in zip(g, w, strict=True)]},
    "assigned": {"after": shrink},
    "added up in a loop": {"edit": functools.partial(in_a_loop, unclipped, unclipped)},
    "finite": {"edit": if_finite},
    "finite, by a condition": {"edit": if_all_is_finite},
    "squares of weights": {"add": lambda w: 0.1 * tf.add_n([tf.reduce_sum(v**2) for v in w])},
    "all weights' norm": {"add": lambda w: 0.1 * tf.linalg.global_norm(list(w))},
}
REFUSED: dict[str, dict[str, Any]] = {
    "norms": {"edit": lambda g, _: [tf.clip_by_norm(one, 0.1) for one in g]},
    "norms by Keras": {"edit": lambda g, _: [one / (1.0 + ops.norm(one)) for one in g]},
    "centralized": {
        "edit": lambda g, _: [
            one - tf.reduce_mean(one, 0, keepdims=True) if one.shape.rank > 1 else one for one in g
        ]
    },
    "largest": {"edit": lambda g, _: [one / tf.reduce_max(tf.abs(one)) for one in g]},
    "noise": {"edit": lambda g, _: [one + tf.random.normal(tf.shape(one)) for one in g]},
    "sorted": {"edit": lambda g, _: [tf.sort(one, 0) for one in g]},
    "a mean of sums": {"add": lambda w: tf.reduce_mean([tf.reduce_sum(one**2) for one in w])},
    "the largest of sums": {"add": lambda w: tf.reduce_max([tf.reduce_sum(one**2) for one in w])},
    "norms of weights": {"add": lambda w: tf.add_n([tf.norm(one) for one in w])},
    "means of weights": {"add": lambda w: tf.add_n([tf.reduce_mean(one**2) for one in w])},
    "assigned norms": {"after": to_one},
    "orthogonality": {"add": by_orthogonality},
    "branches": {"edit": by_branches},
    "plus one each": {"edit": plus_one_each},
    "clipped in a loop": {"edit": functools.partial(in_a_loop, clipped, unclipped)},
    "clipped after a loop": {"edit": functools.partial(in_a_loop, unclipped, clipped)},
    "momentum of one's own": {"edit": lambda g, w: Momentum(clipped)(g, w)},
    "logs of norms": {"after": lambda w: {"norm": tf.norm(w[0])}},
    "logs of a sum": {"after": lambda w: {"sum": tf.reduce_sum(w[0] ** 2)}},
    "trust": {
        "edit": lambda g, w: [a * tf.norm(b) / tf.norm(a) for a, b in zip(g, w, strict=True)]
    },
}


@pytest.mark.parametrize("subclassed", [False, True], ids=["functional", "subclassed"])
@pytest.mark.parametrize("what", SAME.values(), ids=SAME)
def test_what_is_the_same_of_parts_trains_as_one_device(
    what: dict[str, Any], subclassed: bool
) -> None:
    found, plain = errors(**what, subclassed=subclassed)
    np.testing.assert_allclose(found, plain, rtol=2e-5)


@pytest.mark.parametrize("subclassed", [False, True], ids=["functional", "subclassed"])
@pytest.mark.parametrize("what", REFUSED.values(), ids=REFUSED)
def test_what_a_part_alone_would_have_is_refused(what: dict[str, Any], subclassed: bool) -> None:
    with pytest.raises(
        PlugError, match=r"of a part of a weight.* \(test_own_parts\.py, line \d+: "
    ):
        errors(**what, subclassed=subclassed)


class SecondOrder(Functional):
    """A penalty on the norm of the gradient, and gradients of values and by a jacobian."""

    def train_step(self, data: Any) -> Any:
        x, y = data
        weights = self.trained()
        with tf.GradientTape() as outer:
            with tf.GradientTape(persistent=True) as tape:
                loss = self.compute_loss(x, y, self(x, training=True))
                vector = tf.reshape(loss, [1])
            gradients = tape.gradient(loss, [one.value for one in weights])
            penalty = 0.1 * tf.add_n([tf.reduce_sum(tf.square(one)) for one in gradients])
            total = loss + penalty
        rows = tape.jacobian(vector, weights)
        more = [0.1 * self.edit(one[0]) for one in rows]
        found = outer.gradient(total, weights)
        self.optimizer.apply([a + b for a, b in zip(found, more, strict=True)], weights)
        return {"error": loss}


def second_order(edit: Any) -> tuple[Any, Any]:
    def make() -> keras.Model:
        keras.utils.set_random_seed(1)
        inputs = keras.Input((12,))
        hidden = layers.Dense(6, "tanh", name="whole")(inputs)
        hidden = layers.Dense(8, "tanh", name="first")(hidden)
        model = SecondOrder(inputs, layers.Dense(1, name="second")(hidden))
        model.edit = edit
        model.compile(keras.optimizers.SGD(0.05), loss="mse")
        return model

    return compared(make)


def test_gradients_of_gradients_and_jacobians_are_the_same() -> None:
    found, plain = second_order(unclipped)
    np.testing.assert_allclose(found, plain, rtol=2e-5)
    with pytest.raises(PlugError, match="of a part of a weight"):
        second_order(clipped)


def test_a_mean_over_an_axis_that_is_not_cut_is_the_same() -> None:
    def centred(gradients: Any, weights: Any) -> Any:
        return [
            one - tf.reduce_mean(one, 0, keepdims=True) if "first/kernel" in weight.path else one
            for one, weight in zip(gradients, weights, strict=True)
        ]

    found, plain = errors(edit=centred)
    np.testing.assert_allclose(found, plain, rtol=2e-5)
