"""Small programs that plain Keras and several workers must agree on.

Each program makes and compiles a model, and uses it; what it returns, and the weights that it
leaves, are compared. The same functions run in plain Keras and in the workers.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, optimizers

from tests.training import published
from tfdist.training.scaled_warmup import ScaledWarmup

THOROUGH = bool(os.environ.get("TFDIST_TEST_THOROUGH"))
SEED = 7
_rng = np.random.default_rng(0)
X = _rng.normal(size=(105, 8)).astype("float32")
LABELS = _rng.integers(0, 3, 105)
WEIGHTS = _rng.uniform(0.2, 2.0, 105).astype("float32")
BATCH = 32  # the last batch has 9 rows
FIT: dict[str, Any] = {"batch_size": BATCH, "epochs": 3, "verbose": 0}
ADAM_WEIGHTS = 1e-5  # see tests.training.comparing
HALF = 2e-3


@dataclass(frozen=True)
class Program:
    """`make` builds and compiles; `use` trains and returns what is compared."""

    make: Callable[[], keras.Model]
    use: Callable[[keras.Model], Any]
    weights: float = 2e-6
    history: float = 1e-5


def classifier(optimizer: Any, *between: Any, **compiling: Any) -> keras.Model:
    model = keras.Sequential(
        [keras.Input((8,)), layers.Dense(16, "tanh"), *between, layers.Dense(3)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, **{"metrics": ["accuracy"], **compiling})
    return model


def fit(model: keras.Model, *data: Any, **settings: Any) -> Any:
    given = data or (X, LABELS)
    chosen = {**FIT, **settings}
    if data:
        del chosen["batch_size"]
    return model.fit(*given, **chosen).history


def fit_alone(model: keras.Model, x: Any, **settings: Any) -> Any:
    return model.fit(x, **FIT, **settings).history


def falling() -> Any:
    return optimizers.schedules.ExponentialDecay(0.05, decay_steps=4, decay_rate=0.8)


def sgd() -> keras.Model:
    return classifier(optimizers.SGD(0.1))


class Batches(keras.utils.PyDataset):
    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> Any:
        return X[index * 15 : index * 15 + 15], LABELS[index * 15 : index * 15 + 15]


def generated() -> Iterator[Any]:
    for start in range(0, 105, 25):
        yield X[start : start + 25], LABELS[start : start + 25]


def tripled(x: Any, y: Any) -> Any:
    """A map, which each worker runs for its own rows."""
    return 3 * x, y


def dataset() -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((X, LABELS))


def decayed() -> keras.Model:
    optimizer = optimizers.AdamW(0.01, weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=["kept/kernel"])
    return classifier(optimizer, layers.Dense(8, name="kept"))


def own_step() -> keras.Model:
    class Own(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = layers.Dense(3)
            self.loss_tracker = keras.metrics.Mean(name="tracked")

        def call(self, x: Any) -> Any:
            return self.dense(x)

        @property
        def metrics(self) -> list[Any]:
            return [self.loss_tracker]

        def train_step(self, data: Any) -> Any:
            x, y = data
            with tf.GradientTape() as tape:
                logits = self(x, training=True)
                each = keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)
                loss = tf.reduce_mean(each)
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
            self.loss_tracker.update_state(loss)
            return {"loss": self.loss_tracker.result(), "largest": tf.reduce_mean(each) * 2}

    model = Own()
    model.compile(optimizers.SGD(0.1))
    return model


def masked(optimizer: Any = None) -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((6,), dtype="int32"),
            layers.Embedding(20, 4, mask_zero=True),
            layers.TimeDistributed(layers.Dense(3)),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer or optimizers.SGD(0.1), loss, metrics=["accuracy"])
    return model


class Placed(layers.Layer):
    """Adds an embedding of each place, which is looked up once for the whole batch."""

    def __init__(self) -> None:
        super().__init__()
        self.places = layers.Embedding(16, 1)

    def call(self, x: Any) -> Any:
        return x + self.places(keras.ops.arange(16))[:, 0]


def use_masked(model: keras.Model) -> Any:
    rng = np.random.default_rng(3)
    tokens = rng.integers(1, 20, (105, 6))
    tokens[np.arange(6)[None, :] >= rng.integers(1, 7, (105, 1))] = 0
    return model.fit(tokens, tokens % 3, **FIT).history


def use_many_epochs(model: keras.Model) -> Any:
    tokens = np.random.default_rng(4).integers(0, 20, (105, 6))
    return model.fit(tokens, tokens % 3, batch_size=8, epochs=6, verbose=0).history


def half() -> keras.Model:
    keras.config.set_dtype_policy("mixed_float16")
    try:
        return classifier(optimizers.SGD(0.05))
    finally:
        keras.config.set_dtype_policy("float32")


def one_batch_each(model: keras.Model) -> Any:
    return {
        "train": [model.train_on_batch(X[:33], LABELS[:33], return_dict=True) for _ in range(2)],
        "test": model.test_on_batch(X[:10], LABELS[:10]),
        "predict": model.predict_on_batch(X[:5]),
        "one row": model.train_on_batch(X[:1], LABELS[:1]),
    }


def score(model: keras.Model) -> Any:
    fit(model, epochs=1)
    return {
        "evaluate": model.evaluate(X, LABELS, batch_size=32, verbose=0, return_dict=True),
        "weighted": model.evaluate(X, LABELS, 50, sample_weight=WEIGHTS, verbose=0),
        "predict": model.predict(X, batch_size=16, verbose=0),
        "predict a dataset": model.predict(dataset().batch(31), verbose=0),
    }


def stop_early(model: keras.Model) -> Any:
    callbacks = [
        keras.callbacks.EarlyStopping("loss", patience=1, restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=0, min_delta=1.0),
    ]
    return fit(model, epochs=8, callbacks=callbacks, shuffle=False)


def every_batch(model: keras.Model) -> Any:
    seen: list[Any] = []
    watch = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append([batch, logs["loss"]])
    )
    return {"history": fit(model, epochs=2, callbacks=[watch]), "seen": seen}


def shuffled_batches(model: keras.Model) -> Any:
    random.seed(SEED)
    return fit(model, Batches())


PROGRAMS: dict[str, Program] = {
    "sgd": Program(sgd, fit),
    "momentum": Program(lambda: classifier(optimizers.SGD(0.05, momentum=0.9)), fit),
    "a rate that grows and falls": Program(
        lambda: classifier(optimizers.SGD(ScaledWarmup(falling(), 6, scale=4))), fit
    ),
    "adam": Program(lambda: classifier(optimizers.Adam(0.01)), fit, weights=ADAM_WEIGHTS),
    "clipped and accumulated": Program(
        lambda: classifier(optimizers.SGD(0.1, global_clipnorm=0.1, gradient_accumulation_steps=2)),
        fit,
    ),
    "sample weights": Program(
        lambda: classifier(optimizers.SGD(0.1), weighted_metrics=["accuracy"]),
        lambda model: fit(model, sample_weight=WEIGHTS),
    ),
    "batches that are shuffled within": Program(
        sgd, lambda model: fit(model, shuffle="batch", sample_weight=WEIGHTS)
    ),
    "class weights": Program(sgd, lambda m: fit(m, class_weight={0: 1.0, 1: 2.0, 2: 0.5})),
    "two rows left for the last batch": Program(
        sgd, lambda model: model.fit(X[:34], LABELS[:34], **FIT).history
    ),
    "synchronized batch normalization": Program(
        lambda: classifier(optimizers.SGD(0.1), layers.BatchNormalization(synchronized=True)),
        lambda model: fit(model, validation_data=(X, LABELS)),
    ),
    "masks": Program(masked, use_masked),
    "sparse gradients in long loops": Program(masked, use_many_epochs),
    "words that a batch has several times": Program(
        lambda: masked(optimizers.Adam(0.01)), use_many_epochs, weights=ADAM_WEIGHTS
    ),
    "an embedding of places": Program(
        lambda: classifier(optimizers.Adam(0.01), Placed()), fit, weights=ADAM_WEIGHTS
    ),
    "weight decay but for a layer": Program(decayed, fit, weights=ADAM_WEIGHTS),
    "gradients in several buckets": Program(
        lambda: classifier("sgd", *(layers.Dense(1100, "tanh") for _ in range(3))),
        lambda model: fit(model, epochs=1),
    ),
    "own train step": Program(own_step, lambda model: fit(model, shuffle=False)),
    "mixed precision": Program(half, fit, weights=HALF, history=HALF),
    "validation": Program(
        sgd,
        lambda m: [fit(m, validation_data=(X, LABELS)), fit(m, validation_split=0.3)],
    ),
    "a dataset": Program(sgd, lambda m: fit(m, dataset().shuffle(105, seed=3).batch(32))),
    "a dataset of mapped elements": Program(
        sgd, lambda m: fit(m, dataset().shuffle(105, seed=3).map(tripled).batch(30).prefetch(1))
    ),
    "a dataset of unknown length": Program(
        sgd, lambda m: fit(m, dataset().filter(lambda x, y: y < 2).batch(16))
    ),
    "an endless dataset": Program(
        sgd, lambda m: fit(m, dataset().repeat().batch(20), steps_per_epoch=4)
    ),
    "a generator": Program(sgd, lambda m: fit(m, generated(), epochs=1)),
    "a shuffled PyDataset": Program(sgd, shuffled_batches),
    "steps per execution": Program(
        lambda: classifier(optimizers.SGD(0.1), steps_per_execution=3), fit
    ),
    "evaluate and predict": Program(sgd, score),
    "single batches": Program(sgd, one_batch_each),
    "early stopping": Program(lambda: classifier(optimizers.SGD(0.3)), stop_early),
    "every batch": Program(sgd, every_batch),
    "no call and two optimizers": Program(published.unbuilt_gan, lambda m: fit_alone(m, X)),
    "own test step and no call": Program(
        published.vae, lambda m: fit_alone(m, X, validation_data=(X[:41],))
    ),
    "own methods that prepare": Program(
        published.prepares,
        lambda m: [
            fit(m, 10 * X, LABELS, batch_size=BATCH, validation_data=(10 * X[:41], LABELS[:41])),
            m.evaluate(10 * X, LABELS, verbose=0),
            m.predict(10 * X, verbose=0),
        ],
    ),
}
"""By name; a name is a sentence's part."""

LONG = {
    "momentum",
    "batches that are shuffled within",
    "class weights",
    "sparse gradients in long loops",
    "weight decay but for a layer",
    "a dataset of mapped elements",
    "an endless dataset",
    "own test step and no call",
    "a dataset of unknown length",
    "a rate that grows and falls",
    "a shuffled PyDataset",
    "clipped and accumulated",
    "early stopping",
    "every batch",
    "no call and two optimizers",
    "steps per execution",
    "words that a batch has several times",
}
"""What replicas of one process do in every run, and differs little from a neighbour here."""

LEFT_TO_CI = {
    "sample weights",
    "two rows left for the last batch",
    "mixed precision",
    "a dataset",
    "a generator",
    "single batches",
}
"""What `scripts/test --ci` asks of several processes, and replicas of one process do every day."""

CI = THOROUGH or bool(os.environ.get("TFDIST_TEST_CI"))
USUAL = [
    name for name in PROGRAMS if (CI or name not in LEFT_TO_CI) and (THOROUGH or name not in LONG)
]
"""What several processes run; with `scripts/test --thorough` all."""


def run(name: str, scope: Any, plug: Callable[[keras.Model], Any]) -> tuple[Any, list[Any]]:
    """Runs a program; returns its result and the weights."""
    program = PROGRAMS[name]
    keras.utils.set_random_seed(SEED)
    with scope:
        model = program.make()
    plug(model)
    result = program.use(model)
    return result, model.get_weights()
