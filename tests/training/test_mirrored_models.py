"""Every kind of model trains on logical CPUs as in plain Keras."""

from __future__ import annotations

import itertools
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tests.training import comparing
from tests.training.comparing import EVERY, same
from tests.training.models import (
    FIT,
    LABELS,
    TARGETS,
    TOKENS,
    TWO_IN,
    TWO_OUT,
    WEIGHTS,
    YES,
    X,
    classifier,
    two_in_two_out,
)


class Autoencoder(keras.Model):
    """A model with a step of its own; some logs are metrics under other names, one is none."""

    def __init__(self, name: str = "autoencoder") -> None:
        super().__init__(name=name)
        self.encoder = layers.Dense(3, activation="tanh")
        self.decoder = layers.Dense(8)
        self.total = keras.metrics.Mean(name="total_tracker")
        self.parts = keras.metrics.Mean(name="parts_tracker")

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [self.total, self.parts]

    def call(self, x: Any) -> Any:
        return self.decoder(self.encoder(x))

    def three_losses(self, data: Any) -> tuple[Any, Any, Any]:
        x = data[0] if isinstance(data, tuple) else data
        code = self.encoder(x)
        rebuilt = tf.reduce_mean(keras.losses.mean_squared_error(x, self.decoder(code)))
        spread = 0.1 * tf.reduce_mean(tf.reduce_sum(tf.square(code), axis=1))
        return rebuilt + spread, rebuilt, spread

    def train_step(self, data: Any) -> dict[str, Any]:
        with tf.GradientTape() as tape:
            total, rebuilt, spread = self.three_losses(data)
        gradients = tape.gradient(total, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        self.total.update_state(total)
        self.parts.update_state(rebuilt)
        return {"loss": self.total.result(), "rebuilt": self.parts.result(), "spread": spread}

    def test_step(self, data: Any) -> dict[str, Any]:
        total, rebuilt, spread = self.three_losses(data)
        self.total.update_state(total)
        self.parts.update_state(rebuilt)
        return {"loss": self.total.result(), "rebuilt": self.parts.result(), "spread": spread}


class OwnLoss(keras.Model):
    """A model with a loss of its own, from `compute_loss`."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = layers.Dense(2)

    def call(self, x: Any) -> Any:
        return self.dense(x)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        loss = keras.ops.mean(keras.ops.abs(y - y_pred))
        return loss + 0.01 * keras.ops.sum(keras.ops.square(self.dense.kernel))


class TwoDense(keras.Model):
    """A plain subclassed model, not built before it sees data."""

    def __init__(self) -> None:
        super().__init__()
        self.first = layers.Dense(6, activation="relu")
        self.second = layers.Dense(3, activation="softmax")

    def call(self, x: Any) -> Any:
        return self.second(self.first(x))


def compiled(model: keras.Model, *args: Any, **kwargs: Any) -> keras.Model:
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), *args, **kwargs)
    return model


def fit(model: keras.Model, x: Any = X, y: Any = LABELS, **settings: Any) -> Any:
    return model.fit(x, y, **{**FIT, **settings}).history


def test_a_sequential_model() -> None:
    same(classifier, fit, on=EVERY)


def test_a_sequential_model_that_no_data_has_built_yet() -> None:
    def make() -> keras.Model:
        model = keras.Sequential([layers.Dense(6, activation="relu"), layers.Dense(3)])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        return compiled(model, loss, metrics=["accuracy"])

    same(make, fit)


def test_a_last_batch_that_leaves_a_replica_without_examples() -> None:
    same(classifier, lambda model: fit(model, X[:98], LABELS[:98], epochs=3))


def test_batches_smaller_than_the_number_of_replicas() -> None:
    same(classifier, lambda model: fit(model, X[:9], LABELS[:9], batch_size=2, epochs=2), on=EVERY)


@comparing.LOSSES_OF_OUTPUTS
def test_a_functional_model_of_two_inputs_and_two_outputs() -> None:
    same(two_in_two_out, lambda model: fit(model, TWO_IN, TWO_OUT), on=EVERY)


@comparing.LOSSES_OF_OUTPUTS
def test_inputs_and_targets_in_lists() -> None:
    def make() -> keras.Model:
        inputs = [keras.Input((4,)), keras.Input((4,))]
        joined = layers.Concatenate()(inputs)
        model = keras.Model(inputs, [layers.Dense(2)(joined), layers.Dense(1)(joined)])
        model.compile(keras.optimizers.SGD(0.05), ["mse", "mae"], metrics=[["mae"], ["mse"]])
        return model

    same(make, lambda model: fit(model, [X[:, :4], X[:, 4:]], [TARGETS, YES]))


def test_a_subclassed_model() -> None:
    loss = "sparse_categorical_crossentropy"
    same(lambda: compiled(TwoDense(), loss, metrics=["accuracy"]), fit)


def test_a_train_step_of_ones_own_with_logs_that_are_not_the_metrics() -> None:
    def use(model: keras.Model) -> Any:
        history = fit(model, X, None, validation_data=(X[:41], None))
        return history, model.evaluate(X[:50], batch_size=16, verbose=0, return_dict=True)

    same(lambda: compiled(Autoencoder()), use, on=EVERY)


def test_a_train_step_of_ones_own_where_a_replica_has_no_examples() -> None:
    same(lambda: compiled(Autoencoder()), lambda model: fit(model, X[:98], None))


def test_a_compute_loss_of_ones_own() -> None:
    same(lambda: compiled(OwnLoss()), lambda model: fit(model, X, TARGETS, validation_split=0.2))


def test_a_model_compiled_after_plugging() -> None:
    def use(model: keras.Model) -> Any:
        model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
        return fit(model)

    same(lambda: keras.Sequential([keras.Input((8,)), layers.Dense(3, "softmax")]), use)


def test_a_model_compiled_again_between_two_fits() -> None:
    def use(model: keras.Model) -> Any:
        first = fit(model)
        model.layers[0].trainable = False
        model.compile("adam", "sparse_categorical_crossentropy")
        return first, fit(model)

    same(classifier, use, weights=comparing.ADAM_WEIGHTS)


def test_a_model_that_goes_on_training_from_where_it_was() -> None:
    same(classifier, lambda model: [fit(model), fit(model), fit(model, epochs=4, initial_epoch=2)])


def test_eager_execution() -> None:
    same(
        lambda: classifier(run_eagerly=True),
        lambda model: fit(model, X[:35], LABELS[:35], epochs=1, validation_split=0.2),
        on=EVERY,
    )


def test_words_that_are_masked_with_an_output_for_every_word() -> None:
    def make() -> keras.Model:
        model = keras.Sequential(
            [
                keras.Input((6,), dtype="int32"),
                layers.Embedding(20, 4, mask_zero=True),
                layers.Dense(5, activation="tanh"),
                layers.Dense(1),
            ]
        )
        model.compile(keras.optimizers.SGD(0.5), "mse", metrics=["mae"], weighted_metrics=["mse"])
        return model

    def use(model: keras.Model) -> Any:
        y = (TOKENS % 5).astype("float32")[..., None] / 5
        plain = fit(model, TOKENS, y, validation_data=(TOKENS[:40], y[:40]))
        return plain, fit(
            model, TOKENS, y, sample_weight=WEIGHTS[:, None] * np.ones((1, 6), "float32")
        )

    same(make, use, on=EVERY)


def test_words_that_are_masked_on_their_way_through_a_recurrent_layer() -> None:
    def make() -> keras.Model:
        layers_ = [
            keras.Input((6,), dtype="int32"),
            layers.Embedding(20, 4, mask_zero=True),
            layers.SimpleRNN(4),
            layers.Dense(3, activation="softmax"),
        ]
        return compiled(keras.Sequential(layers_), "sparse_categorical_crossentropy")

    same(make, lambda model: fit(model, TOKENS, LABELS))


def test_losses_that_layers_add() -> None:
    class Spread(layers.Layer):
        def call(self, x: Any) -> Any:
            self.add_loss(0.1 * keras.ops.mean(keras.ops.square(x)))
            return x

    def make() -> keras.Model:
        parts = [keras.Input((8,)), layers.Dense(4, activation="tanh"), Spread(), layers.Dense(2)]
        return compiled(keras.Sequential(parts), "mse")

    same(make, lambda model: fit(model, X, TARGETS, validation_split=0.3), on=EVERY)


def test_regularizers_of_kernels_biases_and_activities() -> None:
    def make() -> keras.Model:
        hidden = layers.Dense(
            6, kernel_regularizer="l2", bias_regularizer="l1", activity_regularizer="l2"
        )
        return compiled(keras.Sequential([keras.Input((8,)), hidden, layers.Dense(2)]), "mse")

    same(make, lambda model: fit(model, X, TARGETS, validation_split=0.3), on=EVERY)


def test_kernel_constraints_hold() -> None:
    def make() -> keras.Model:
        hidden = layers.Dense(6, kernel_constraint=keras.constraints.MaxNorm(0.5))
        return compiled(keras.Sequential([keras.Input((8,)), hidden, layers.Dense(2)]), "mse")

    same(make, lambda model: fit(model, X, TARGETS))


def test_convolutions() -> None:
    def make() -> keras.Model:
        parts = [
            keras.Input((8,)),
            layers.Reshape((8, 1)),
            layers.Conv1D(3, 3, activation="relu"),
            layers.GlobalMaxPooling1D(),
            layers.Dense(3, activation="softmax"),
        ]
        return compiled(keras.Sequential(parts), "sparse_categorical_crossentropy")

    same(make, fit)


def test_layers_that_are_frozen_and_normalization_that_has_been_adapted() -> None:
    def make() -> keras.Model:
        normalize = layers.Normalization()
        normalize.adapt(X)
        frozen = layers.Dense(6, trainable=False)
        parts = [keras.Input((8,)), normalize, frozen, layers.Dense(3, activation="softmax")]
        return compiled(keras.Sequential(parts), "sparse_categorical_crossentropy")

    same(make, fit)


# ---------------------------------------------------------------- batch normalization


def normalized(synchronized: bool, momentum: float = 0.9, epsilon: float = 1e-3) -> keras.Model:
    parts = [
        keras.Input((8,)),
        layers.Dense(6, activation="tanh"),
        layers.BatchNormalization(synchronized=synchronized, momentum=momentum, epsilon=epsilon),
        layers.Dense(3, activation="softmax"),
    ]
    return compiled(keras.Sequential(parts), "sparse_categorical_crossentropy")


def test_synchronized_batch_normalization_equals_one_process() -> None:
    same(lambda: normalized(True), lambda model: fit(model, validation_split=0.2), on=EVERY)


def test_synchronized_batch_normalization_where_a_replica_has_no_examples() -> None:
    # Of two rows, a variance near zero would make much of float32's rounding.
    same(lambda: normalized(True, epsilon=0.1), lambda model: fit(model, X[:98], LABELS[:98]))


def test_statistics_of_plain_batch_normalization_are_the_mean_over_the_replicas() -> None:
    def make() -> keras.Model:
        normalize = layers.BatchNormalization(momentum=0.5)
        parts = [keras.Input((8,)), normalize, layers.Dense(1)]
        return compiled(keras.Sequential(parts), "mse")

    for replicas, cuts in ((2, (0, 16, 33)), (3, (0, 11, 22, 33))):
        outcome = comparing.on_replicas(
            replicas, make, lambda model: model.train_on_batch(X[:33], YES[:33])
        )
        parts = [X[a:b] for a, b in itertools.pairwise(cuts)]
        _, _, mean, variance = outcome.weights[:4]
        means = np.mean([part.mean(axis=0) for part in parts], axis=0)
        variances = np.mean([part.var(axis=0) for part in parts], axis=0)
        np.testing.assert_allclose(mean, 0.5 * means, atol=comparing.WEIGHTS)
        np.testing.assert_allclose(variance, 0.5 + 0.5 * variances, atol=comparing.WEIGHTS)


def test_a_replica_without_examples_adds_nothing_to_the_statistics() -> None:
    """Of one example only one replica has something to say: what one process says."""
    make = lambda: normalized(False, momentum=0.5)  # noqa: E731
    same(make, lambda model: model.train_on_batch(X[:1], LABELS[:1]), on=EVERY)


def test_plain_batch_normalization_trains_and_its_replicas_agree() -> None:
    outcome = comparing.on_replicas(3, lambda: normalized(False), lambda m: fit(m, epochs=8))
    assert outcome.result["loss"][-1] < outcome.result["loss"][0]


# ---------------------------------------------------------------- random layers


def test_dropout_masks_differ_between_replicas_and_are_the_same_again_with_the_same_seed() -> None:
    seen: list[np.ndarray] = []

    class Watch(layers.Layer):
        def call(self, x: Any) -> Any:
            tf.numpy_function(seen.append, [x], [])
            return x

    def make() -> keras.Model:
        parts = [keras.Input((8,)), layers.Dropout(0.5), Watch(), layers.Dense(1)]
        return compiled(keras.Sequential(parts), "mse")

    def masks() -> list[bytes]:
        seen.clear()
        ones = np.ones((6, 8), "float32")
        comparing.on_replicas(3, make, lambda model: model.train_on_batch(ones, ones[:, :1]))
        assert [mask.shape for mask in seen] == [(2, 8)] * 3
        return sorted(mask.tobytes() for mask in seen)

    first = masks()
    assert len(set(first)) == 3
    assert masks() == first


def test_the_first_replica_drops_what_one_machine_drops() -> None:
    def make() -> keras.Model:
        return compiled(keras.Sequential([keras.Input((8,)), layers.Dropout(0.5)]), "mse")

    def use(model: keras.Model) -> Any:
        # Only the first example counts, which the first replica has: the loss tells its mask.
        only = np.array([1, 0, 0], "float32")
        return [float(model.train_on_batch(X[:3], 0 * X[:3], only)) for _ in range(3)]

    plain = same(make, use, on=(2, 3))
    assert len(set(plain.result)) == 3
