"""`evaluate`, `predict` and the methods for one batch on logical CPUs, as in plain Keras."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tests.training.comparing import EVERY, on_replicas, same
from tests.training.models import (
    LABELS,
    TARGETS,
    TWO_IN,
    TWO_OUT,
    WEIGHTS,
    History,
    X,
    classifier,
    regressor,
    two_in_two_out,
)

QUIET: dict[str, Any] = {"batch_size": 32, "verbose": 0}


def test_evaluate_returns_a_list_or_a_dict() -> None:
    def use(model: keras.Model) -> Any:
        return (
            model.evaluate(X, LABELS, **QUIET),
            model.evaluate(X, LABELS, sample_weight=WEIGHTS, return_dict=True, **QUIET),
            model.evaluate(X[:98], LABELS[:98], steps=2, **QUIET),
            model.evaluate(X[:98], LABELS[:98], **QUIET),
        )

    same(lambda: classifier(weighted_metrics=["accuracy"]), use, on=EVERY)


def test_evaluate_returns_one_number_where_there_are_no_metrics() -> None:
    outcome = same(regressor, lambda m: m.evaluate(X, TARGETS, **QUIET))
    assert isinstance(outcome.result, float)


def test_evaluate_of_several_outputs() -> None:
    def use(model: keras.Model) -> Any:
        data = tf.data.Dataset.from_tensor_slices((TWO_IN, TWO_OUT)).batch(20)
        return (
            model.evaluate(TWO_IN, TWO_OUT, **QUIET),
            model.evaluate(data, verbose=0, return_dict=True),
            # Of data of unknown length plain Keras counts one batch too many in each output's loss.
            model.evaluate(data.filter(lambda x, y: True), verbose=0)[0],
        )

    same(two_in_two_out, use)


def test_predict_keeps_the_order_and_the_dtype() -> None:
    def use(model: keras.Model) -> Any:
        data = tf.data.Dataset.from_tensor_slices(X).batch(10)
        return [
            model.predict(X, **QUIET),
            model.predict(X[:98], **QUIET),
            model.predict(X[:2], **QUIET),
            model.predict(X, batch_size=1, verbose=0)[:7],
            model.predict(data, verbose=0),
            model.predict(data.repeat(), steps=13, verbose=0),
            model.predict(data.unbatch().filter(lambda x: x[0] > 0).batch(7), verbose=0),
            model.predict(((X[i : i + 9],) for i in range(0, 90, 9)), verbose=0),
        ]

    same(classifier, use, on=EVERY)


def test_predict_of_nested_outputs_of_several_dtypes() -> None:
    def make() -> keras.Model:
        inputs = keras.Input((8,))
        hidden = layers.Dense(4, dtype="float16")(inputs)
        outputs = {
            "half": hidden,
            "pair": (layers.Dense(2)(inputs), keras.ops.argmax(inputs, axis=1)),
            "positive": inputs > 0,
        }
        return keras.Model(inputs, outputs)

    same(make, lambda m: (m.predict(X, **QUIET), m.predict_on_batch(X[:5])))


def test_predict_with_a_step_of_ones_own() -> None:
    class Doubled(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = layers.Dense(2)

        def call(self, x: Any) -> Any:
            return self.dense(x)

        def predict_step(self, data: Any) -> Any:
            return 2 * super().predict_step(data)

    same(Doubled, lambda m: m.predict(X, **QUIET))


def test_predict_before_and_between_fits_uses_the_weights_of_the_moment() -> None:
    def use(model: keras.Model) -> Any:
        seen = [model.predict(X, **QUIET)]
        for _ in range(2):
            model.fit(X, LABELS, **QUIET)
            seen.append(model.predict(X, **QUIET))
        return seen

    same(classifier, use)


def test_predict_calls_the_callbacks_as_plain_keras_does() -> None:
    """In chunks of batches where no callback looks at every batch; here one does."""

    def use(model: keras.Model) -> Any:
        history = History()
        model.predict(X, callbacks=[history], **QUIET)
        return [(name, index, sorted(logs)) for name, index, logs in history.calls]

    same(classifier, use)


def test_one_batch_at_a_time() -> None:
    def use(model: keras.Model) -> Any:
        return [
            model.train_on_batch(X[:33], LABELS[:33]),
            model.train_on_batch(X[:10], LABELS[:10], sample_weight=WEIGHTS[:10]),
            model.train_on_batch(X[:10], LABELS[:10], class_weight={0: 1.0, 1: 3.0, 2: 0.1}),
            model.train_on_batch(X[:2], LABELS[:2]),
            model.train_on_batch(tf.constant(X[:7]), tf.constant(LABELS[:7])),
            model.test_on_batch(X[:2], LABELS[:2]),
            model.test_on_batch(X[:10], LABELS[:10], sample_weight=WEIGHTS[:10]),
            model.predict_on_batch(X[:10]),
            model.predict_on_batch(X[:1]),
        ]

    same(lambda: classifier(weighted_metrics=["accuracy"]), use, on=EVERY)


def test_one_batch_at_a_time_as_dicts() -> None:
    def use(model: keras.Model) -> Any:
        x = {name: value[:20] for name, value in TWO_IN.items()}
        y = {name: value[:20] for name, value in TWO_OUT.items()}
        return [
            model.train_on_batch(x, y, return_dict=True),
            model.test_on_batch(x, y, return_dict=True),
            model.predict_on_batch(x),
        ]

    same(two_in_two_out, use)


def test_evaluate_and_predict_inside_of_a_callback() -> None:
    class Look(keras.callbacks.Callback):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[Any] = []

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.seen.append(self.model.evaluate(X[:40], LABELS[:40], verbose=0))
            self.seen.append(self.model.predict(X[:5], verbose=0))

    def use(model: keras.Model) -> Any:
        look = Look()
        history = model.fit(X, LABELS, epochs=2, callbacks=[look], validation_split=0.2, **QUIET)
        return history.history, look.seen

    same(classifier, use)


def test_calling_the_model_itself_gives_what_predict_gives() -> None:
    def use(model: keras.Model) -> Any:
        called = keras.ops.convert_to_numpy(model(X[:9], training=False))
        np.testing.assert_allclose(called, model.predict(X[:9], verbose=0), rtol=1e-5)
        return called

    same(classifier, use)


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_a_batch_smaller_than_the_job_is_evaluated_right(rows: int) -> None:
    def use(model: keras.Model) -> Any:
        return model.evaluate(X[:rows], LABELS[:rows], verbose=0)

    same(classifier, use)


def test_an_empty_dataset_is_refused_by_predict() -> None:
    empty = tf.data.Dataset.from_tensor_slices(X).batch(10).take(0)
    with pytest.raises(ValueError, match=r"no data|empty"):
        on_replicas(2, classifier, lambda m: m.predict(empty, verbose=0))
