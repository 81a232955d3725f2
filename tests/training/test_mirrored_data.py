"""Every kind of data reaches logical CPUs as it reaches one process: each row once, in order."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tests.training.comparing import EVERY, same
from tests.training.models import (
    EXAMPLES,
    FIT,
    LABELS,
    TOKENS,
    TWO_IN,
    TWO_OUT,
    WEIGHTS,
    X,
    binary,
    classifier,
    two_in_two_out,
)

STREAM: dict[str, Any] = {"epochs": 2, "verbose": 0}
CLASS_WEIGHT = {0: 0.5, 1: 2.0, 2: 1.3}


def dataset(batch: int = 32) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((X, LABELS)).batch(batch)


class Sequence(keras.utils.PyDataset):
    """Batches of 32 rows of `X`, and at the end of every epoch fewer by one.

    Keras says "the epoch ends" once before the first one, too; many a dataset shuffles then.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.ended = 0

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        rows = slice(32 * index, min(32 * (index + 1), EXAMPLES) - self.ended)
        return X[rows], LABELS[rows]

    def on_epoch_end(self) -> None:
        self.ended += 1


def generated(batches: int | None = None) -> Iterator[tuple[Any, Any]]:
    """Batches of 20 and 13 rows in turn, for ever or a number of them."""
    at, count = 0, 0
    while batches is None or count < batches:
        rows = np.arange(at, at + (20, 13)[count % 2]) % EXAMPLES
        at, count = at + len(rows), count + 1
        yield X[rows], LABELS[rows]


# ---------------------------------------------------------------- arrays


def test_arrays_in_the_order_of_the_examples() -> None:
    same(classifier, lambda m: m.fit(X, LABELS, shuffle=False, **FIT).history)


def test_arrays_nested_in_dicts_with_weights_per_output() -> None:
    weights = {"label": WEIGHTS, "value": WEIGHTS[::-1].copy()}
    same(
        two_in_two_out,
        lambda m: (
            m.fit(
                TWO_IN,
                TWO_OUT,
                sample_weight=weights,
                validation_data=(TWO_IN, TWO_OUT, weights),
                validation_batch_size=50,
                **FIT,
            ).history
        ),
    )


def test_sample_weights() -> None:
    same(
        lambda: classifier(weighted_metrics=["accuracy"]),
        lambda m: m.fit(X, LABELS, sample_weight=WEIGHTS, validation_split=0.25, **FIT).history,
        on=EVERY,
    )


def test_sample_weights_that_are_all_zero_on_some_replicas() -> None:
    weights = (np.arange(EXAMPLES) % 32 < 8).astype("float32")
    same(
        classifier,
        lambda m: m.fit(X, LABELS, sample_weight=weights, shuffle=False, **FIT).history,
    )


def test_class_weights() -> None:
    same(
        lambda: classifier(weighted_metrics=["accuracy"]),
        lambda m: m.fit(X, LABELS, class_weight=CLASS_WEIGHT, **FIT).history,
        on=EVERY,
    )


def test_validation_data_every_second_epoch_in_batches_of_its_own_size() -> None:
    fit = {**FIT, "epochs": 4}
    same(
        classifier,
        lambda m: (
            m.fit(
                X,
                LABELS,
                validation_data=(X[:50], LABELS[:50], WEIGHTS[:50]),
                validation_batch_size=17,
                validation_freq=2,
                **fit,
            ).history
        ),
    )


def test_validation_after_the_epochs_that_are_listed() -> None:
    fit = {**FIT, "epochs": 3}
    same(
        classifier,
        lambda m: m.fit(X, LABELS, validation_split=0.3, validation_freq=[1, 3], **fit).history,
    )


def test_a_batch_larger_than_the_data() -> None:
    same(classifier, lambda m: m.fit(X, LABELS, batch_size=500, epochs=2, verbose=0).history)


def test_the_batch_size_that_keras_takes_by_default() -> None:
    same(classifier, lambda m: m.fit(X, LABELS, epochs=2, verbose=0).history)


def test_tensors() -> None:
    same(classifier, lambda m: m.fit(tf.constant(X), tf.constant(LABELS), **FIT).history)


# ---------------------------------------------------------------- steps


def test_steps_per_epoch_go_on_in_one_stream() -> None:
    def use(model: keras.Model) -> Any:
        # Ten batches: three epochs of three, the tenth is never seen.
        return model.fit(dataset(11), steps_per_epoch=3, epochs=3, verbose=0).history

    same(classifier, use, on=EVERY)


def test_steps_per_epoch_of_arrays() -> None:
    """Seven batches: the second epoch ends early, with a warning; the third begins anew."""

    def use(model: keras.Model) -> Any:
        with pytest.warns(UserWarning, match="ran out"):
            return model.fit(
                X, LABELS, batch_size=16, steps_per_epoch=4, epochs=3, verbose=0
            ).history

    same(classifier, use)


def test_a_stream_that_runs_out_ends_training_with_keras_warning() -> None:
    def use(model: keras.Model) -> Any:
        with pytest.warns(UserWarning, match="ran out"):
            return model.fit(dataset(), steps_per_epoch=3, epochs=2, verbose=0).history

    same(classifier, use)


def test_an_endless_dataset() -> None:
    def use(model: keras.Model) -> Any:
        return model.fit(
            dataset().repeat(),
            steps_per_epoch=5,
            epochs=2,
            validation_data=dataset(20).repeat(),
            validation_steps=3,
            verbose=0,
        ).history

    same(classifier, use, on=EVERY)


def test_several_steps_an_execution() -> None:
    def use(model: keras.Model) -> Any:
        history = model.fit(X, LABELS, batch_size=10, epochs=2, validation_split=0.2, verbose=0)
        return history.history, model.optimizer.iterations.numpy()

    same(lambda: classifier(steps_per_execution=3), use, on=EVERY)


def test_an_epoch_to_begin_with() -> None:
    def use(model: keras.Model) -> Any:
        history = model.fit(X, LABELS, batch_size=32, epochs=5, initial_epoch=3, verbose=0)
        return history.epoch, history.history

    assert same(classifier, use).result[0] == [3, 4]


# ---------------------------------------------------------------- datasets


def test_a_dataset_shuffled_with_a_seed_and_with_sample_weights() -> None:
    def use(model: keras.Model) -> Any:
        data = tf.data.Dataset.from_tensor_slices((X, LABELS, WEIGHTS)).shuffle(50, seed=3)
        return model.fit(data.batch(32), validation_data=dataset(20), **STREAM).history

    same(classifier, use, on=EVERY)


def test_a_dataset_shuffled_by_the_global_seed() -> None:
    def use(model: keras.Model) -> Any:
        data = tf.data.Dataset.from_tensor_slices((X, LABELS)).shuffle(50)
        return model.fit(data.batch(32), **STREAM).history

    same(classifier, use)


def test_a_dataset_whose_length_nobody_knows() -> None:
    def use(model: keras.Model) -> Any:
        data = dataset(10).unbatch().filter(lambda x, y: y < 2).batch(10)
        assert int(data.cardinality()) == tf.data.UNKNOWN_CARDINALITY
        return model.fit(data, validation_data=data, epochs=3, verbose=0).history

    same(classifier, use, on=EVERY, miscounted=True)


def test_a_dataset_of_batches_of_differing_sizes() -> None:
    def use(model: keras.Model) -> Any:
        cuts = [0, 1, 3, 40, 42, 105]
        parts = [(X[a:b], LABELS[a:b]) for a, b in itertools.pairwise(cuts)]
        signature = (tf.TensorSpec((None, 8), tf.float32), tf.TensorSpec((None,), tf.int64))
        data = tf.data.Dataset.from_generator(lambda: iter(parts), output_signature=signature)
        return model.fit(data, **STREAM).history

    same(classifier, use, miscounted=True)


def test_an_empty_dataset_trains_nothing() -> None:
    """Keras warns that the data ran out, and goes on."""
    same(classifier, lambda m: m.fit(dataset().take(0), verbose=0).history, miscounted=True)


def test_a_dataset_of_dicts() -> None:
    def use(model: keras.Model) -> Any:
        data = tf.data.Dataset.from_tensor_slices((TWO_IN, TWO_OUT)).batch(32)
        return model.fit(data, **STREAM).history

    same(two_in_two_out, use)


def test_a_dataset_with_class_weights() -> None:
    same(
        classifier,
        lambda m: m.fit(dataset(), class_weight=CLASS_WEIGHT, **STREAM).history,
    )


def test_ragged_sentences() -> None:
    def make() -> keras.Model:
        model = keras.Sequential(
            [
                keras.Input((None,), dtype="int32"),
                layers.Embedding(20, 4),
                layers.GlobalAveragePooling1D(),
                layers.Dense(3, activation="softmax"),
            ]
        )
        model.compile("sgd", "sparse_categorical_crossentropy")
        return model

    def use(model: keras.Model) -> Any:
        ragged = tf.RaggedTensor.from_tensor(TOKENS, padding=0)
        data = tf.data.Dataset.from_tensor_slices((ragged, LABELS)).batch(32)
        return model.fit(data.map(lambda x, y: (x.to_tensor(), y)), **STREAM).history

    same(make, use)


def test_sparse_rows() -> None:
    def use(model: keras.Model) -> Any:
        dense = np.where(np.abs(X) > 1, X, 0).astype("float32")
        data = tf.data.Dataset.from_tensor_slices((tf.sparse.from_dense(dense), LABELS))
        return model.fit(data.batch(32), **STREAM).history

    same(classifier, use)


# ---------------------------------------------------------------- Python's own streams


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_py_dataset_whose_hooks_are_called(shuffle: bool) -> None:
    def use(model: keras.Model) -> Any:
        data = Sequence()
        history = model.fit(data, shuffle=shuffle, epochs=3, verbose=0).history
        return history, data.ended

    same(classifier, use)


def test_a_py_dataset_with_several_workers() -> None:
    same(
        classifier,
        lambda m: m.fit(Sequence(workers=2, max_queue_size=4), epochs=1, verbose=0).history,
    )


def test_a_py_dataset_to_validate_with_and_class_weights() -> None:
    same(
        classifier,
        lambda m: (
            m.fit(
                Sequence(), validation_data=Sequence(), class_weight=CLASS_WEIGHT, **STREAM
            ).history
        ),
    )


def test_an_endless_generator() -> None:
    same(
        classifier,
        lambda m: m.fit(generated(), steps_per_epoch=4, epochs=3, verbose=0).history,
        on=EVERY,
    )


def test_losses_of_several_outputs_by_batches_of_differing_sizes() -> None:
    """Each output's is what Keras logs where no batch has a static number of rows."""

    def batches() -> Iterator[Any]:
        for rows in itertools.cycle([slice(0, 16), slice(16, 32), slice(32, 41)]):
            yield tf.nest.map_structure(operator.itemgetter(rows), (TWO_IN, TWO_OUT))

    def use(model: keras.Model) -> Any:
        return model.fit(batches(), steps_per_epoch=3, **STREAM).history

    same(two_in_two_out, use, on=EVERY)


def test_a_generator_that_ends() -> None:
    same(classifier, lambda m: m.fit(generated(5), epochs=1, verbose=0).history, miscounted=True)


def test_a_generator_to_validate_with() -> None:
    """In one epoch: Keras begins each pass with the two batches that it has looked at first."""
    once = {**FIT, "epochs": 1, "validation_steps": 4}
    same(classifier, lambda m: m.fit(X, LABELS, validation_data=generated(), **once).history)


def test_one_step_of_one_batch() -> None:
    same(binary, lambda m: m.fit(X[:2], X[:2, :1] > 0, batch_size=2, verbose=0).history)
