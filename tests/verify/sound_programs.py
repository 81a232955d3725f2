"""Sound programs: shapes that Keras' own examples have, written anew and small.

    python -m tests.verify.sound_programs NAME

Beside them `tests.zoo` has programs that are sound, and `tfdist.examples`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from tests.verify.fault import BATCH, LABELS, PAIRS, ROWS, TARGETS, X, classifier, compiled, fit

_rng = np.random.default_rng(3)
IMAGES = _rng.uniform(size=(ROWS, 8, 8, 1)).astype("float32")
TOKENS = _rng.integers(1, 20, (ROWS, 9))
SERIES = np.sin(np.arange(ROWS * 4)[:, None] / 5).astype("float32")
GRAPH = (_rng.uniform(size=(ROWS, 5, 5)) < 0.4).astype("float32")
NODES = _rng.normal(size=(ROWS, 5, 4)).astype("float32")
_ENTROPY = "sparse_categorical_crossentropy"


def unseeded() -> None:
    data = tf.data.Dataset.from_tensor_slices((X, LABELS)).shuffle(ROWS).batch(BATCH)
    fit(compiled(classifier(layers.Dropout(0.3))), data, None, batch_size=None)


def convolutional() -> None:
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("adam", _ENTROPY, metrics=["accuracy"])
    model.fit(IMAGES, LABELS, batch_size=BATCH, epochs=3, validation_split=0.2)
    model.evaluate(IMAGES, LABELS, verbose=0)


def augmented() -> None:
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.RandomFlip("horizontal", seed=1),
            layers.RandomTranslation(0.1, 0.1, seed=2),
            layers.RandomRotation(0.1, seed=3),
            layers.Conv2D(4, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3),
        ]
    )
    fit(compiled(model), IMAGES)


def block(x: Any, width: int) -> Any:
    """Two convolutions around which the input goes."""
    inner = layers.Conv2D(width, 3, padding="same")(x)
    inner = layers.BatchNormalization(synchronized=True)(inner)
    inner = layers.Conv2D(width, 3, padding="same")(layers.ReLU()(inner))
    inner = layers.BatchNormalization(synchronized=True)(inner)
    return layers.ReLU()(inner + layers.Conv2D(width, 1)(x))


def residual() -> None:
    images = keras.Input((8, 8, 1))
    x = block(block(images, 4), 6)
    model = keras.Model(images, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    fit(compiled(model), IMAGES)


def recurrent() -> None:
    model = keras.Sequential(
        [
            keras.Input((9,), dtype="int32"),
            layers.Embedding(20, 6, mask_zero=True),
            layers.Bidirectional(layers.LSTM(5)),
            layers.Dense(3),
        ]
    )
    fit(compiled(model), np.where(np.arange(9) < TOKENS[:, :1] % 9 + 1, TOKENS, 0))


def gated() -> None:
    model = keras.Sequential([layers.GRU(6, return_sequences=True), layers.GRU(4), layers.Dense(1)])
    model.compile("rmsprop", "mse")
    data = keras.utils.timeseries_dataset_from_array(
        SERIES[:-3], SERIES[3:], 8, batch_size=BATCH, shuffle=True, seed=4
    )
    model.fit(data, epochs=2, verbose=0)


class Block(layers.Layer):
    """A causal transformer's block."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = layers.MultiHeadAttention(2, 4, dropout=0.1)
        self.first, self.second = layers.LayerNormalization(), layers.LayerNormalization()
        self.inner = keras.Sequential([layers.Dense(16, activation="gelu"), layers.Dense(8)])
        self.drop = layers.Dropout(0.1)

    def call(self, x: Any, training: bool = False) -> Any:
        x = x + self.attention(self.first(x), self.first(x), use_causal_mask=True)
        return x + self.drop(self.inner(self.second(x)), training=training)


def language_model() -> None:
    tokens = keras.Input((8,), dtype="int32")
    x = layers.Embedding(20, 8)(tokens) + layers.Embedding(8, 8)(ops.arange(8))
    x = Block()(Block()(x))
    model = keras.Model(tokens, layers.Dense(20)(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(1e-2, clipnorm=1.0), loss)
    fit(model, TOKENS[:, :-1], TOKENS[:, 1:])


def translation() -> None:
    source, target = keras.Input((9,), dtype="int32"), keras.Input((9,), dtype="int32")
    _, *state = layers.LSTM(6, return_state=True)(layers.Embedding(20, 4)(source))
    x = layers.LSTM(6, return_sequences=True)(layers.Embedding(20, 4)(target), initial_state=state)
    model = keras.Model([source, target], layers.Dense(20, activation="softmax")(x))
    model.compile("adam", _ENTROPY, metrics=["accuracy"])
    fit(model, [TOKENS, np.roll(TOKENS, 1, 1)], TOKENS)


def vision_transformer() -> None:
    images = keras.Input((8, 8, 1))
    patches = layers.Reshape((16, 6))(layers.Conv2D(6, 2, strides=2)(images))
    attended = layers.MultiHeadAttention(2, 3)(patches, patches)
    x = layers.LayerNormalization()(patches + attended)
    fit(compiled(keras.Model(images, layers.Dense(3)(layers.Flatten()(x)))), IMAGES)


def autoencoder() -> None:
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, strides=2, padding="same", activation="relu"),
            layers.Conv2DTranspose(4, 3, strides=2, padding="same", activation="relu"),
            layers.Conv2D(1, 3, padding="same", activation="sigmoid"),
        ]
    )
    model.compile("adam", "binary_crossentropy")
    fit(model, IMAGES, IMAGES)


def segmentation() -> None:
    images = keras.Input((8, 8, 1))
    down = layers.Conv2D(4, 3, padding="same", activation="relu")(images)
    low = layers.SeparableConv2D(6, 3, padding="same", activation="relu")(
        layers.MaxPooling2D()(down)
    )
    up = layers.concatenate([layers.UpSampling2D()(low), down])
    model = keras.Model(images, layers.Conv2D(2, 1, activation="softmax")(up))
    metrics = [keras.metrics.MeanIoU(2, sparse_y_pred=False)]
    model.compile(keras.optimizers.SGD(0.1), _ENTROPY, metrics=metrics)
    fit(model, IMAGES, (IMAGES[..., 0] > 0.5).astype("int32"))


def factorization() -> None:
    user, item = keras.Input((), dtype="int32"), keras.Input((), dtype="int32")
    product = layers.Dot(1)([layers.Embedding(30, 5)(user), layers.Embedding(40, 5)(item)])
    model = keras.Model([user, item], product)
    model.compile(keras.optimizers.Adagrad(0.1), "mse")
    rng = np.random.default_rng(1)
    fit(model, [rng.integers(0, 30, ROWS), rng.integers(0, 40, ROWS)], TARGETS)


def structured() -> None:
    number, kind = keras.Input((8,)), keras.Input((1,), dtype="int32")
    coded = layers.CategoryEncoding(5, output_mode="one_hot")(kind)
    normalized = layers.Normalization()
    normalized.adapt(X)
    x = layers.Dense(8, activation="selu")(layers.concatenate([normalized(number), coded]))
    model = keras.Model([number, kind], layers.Dense(1, activation="sigmoid")(x))
    model.compile("adam", "binary_crossentropy", metrics=[keras.metrics.AUC(), "accuracy"])
    weights = {0: 1.0, 1: 3.0}
    fit(model, [X, LABELS[:, None]], (LABELS > 0).astype("float32"), class_weight=weights)


class GraphConvolution(layers.Layer):
    """A node becomes the mean of its neighbours."""

    def build(self, shapes: Any) -> None:
        self.kernel = self.add_weight(shape=(shapes[0][-1], 6), name="kernel")

    def call(self, inputs: Any) -> Any:
        nodes, edges = inputs
        degree = ops.sum(edges, axis=-1, keepdims=True) + 1.0
        return ops.relu(ops.matmul(ops.matmul(edges, nodes) / degree, self.kernel))


def graph() -> None:
    nodes, edges = keras.Input((5, 4)), keras.Input((5, 5))
    x = GraphConvolution()([GraphConvolution()([nodes, edges]), edges])
    model = keras.Model([nodes, edges], layers.Dense(3)(ops.mean(x, axis=1)))
    fit(compiled(model), [NODES, GRAPH])


def siamese() -> None:
    network = keras.Sequential([layers.Dense(8, activation="tanh"), layers.Dense(4)])
    one, other = keras.Input((8,)), keras.Input((8,))
    apart = ops.norm(network(one) - network(other), axis=-1, keepdims=True)
    model = keras.Model([one, other], apart)

    def contrastive(y: Any, y_pred: Any) -> Any:
        return ops.mean(y * ops.square(y_pred) + (1 - y) * ops.square(ops.relu(1 - y_pred)))

    model.compile(keras.optimizers.SGD(0.1), contrastive)
    fit(model, [X, PAIRS], (LABELS[:, None] > 0).astype("float32"))


def transfer() -> None:
    base = keras.Sequential([layers.Dense(8, activation="relu"), layers.BatchNormalization()])
    base.trainable = False
    inputs = keras.Input((8,))
    fit(compiled(keras.Model(inputs, layers.Dense(3)(base(inputs, training=False)))))


def scheduled() -> None:
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 6, warmup_target=0.2, warmup_steps=2)
    model = classifier()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True), loss)
    fit(
        model,
        validation_data=(X, LABELS),
        callbacks=[
            keras.callbacks.EarlyStopping(patience=1, restore_best_weights=True),
            keras.callbacks.ModelCheckpoint("never-written.keras"),
        ],
    )


def plateau() -> None:
    fit(
        compiled(classifier()),
        validation_data=(X, LABELS),
        callbacks=[keras.callbacks.ReduceLROnPlateau(patience=0, min_delta=1.0)],
    )


def accumulated() -> None:
    model = classifier()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-2, gradient_accumulation_steps=2), loss)
    fit(model)


def averaged() -> None:
    model = classifier()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Lion(1e-2, use_ema=True, weight_decay=1e-2), loss)
    fit(model)


def generator() -> None:
    def batches() -> Any:
        rng = np.random.default_rng(5)
        for _ in range(4):
            rows = rng.integers(0, ROWS, BATCH)
            yield X[rows], LABELS[rows]

    spec = (tf.TensorSpec((None, 8), tf.float32), tf.TensorSpec((None,), tf.int64))
    data = tf.data.Dataset.from_generator(batches, output_signature=spec)
    fit(compiled(classifier()), data, None, batch_size=None)


def mixed_precision() -> None:
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    fit(compiled(classifier()))


def double_precision() -> None:
    keras.config.set_floatx("float64")
    fit(compiled(classifier()), X.astype("float64"))


def on_batches() -> None:
    model = compiled(classifier())
    for _ in range(2):
        for at in range(0, ROWS, BATCH):
            model.train_on_batch(X[at : at + BATCH], LABELS[at : at + BATCH])


class Regularized(keras.Model):
    """A penalty on its own code, through add_loss."""

    def __init__(self) -> None:
        super().__init__()
        self.code = layers.Dense(6, activation="tanh", kernel_regularizer="l2")
        self.out = layers.Dense(3)

    def call(self, x: Any) -> Any:
        code = self.code(x)
        self.add_loss(0.1 * ops.mean(ops.square(code)))
        return self.out(code)


def regularized() -> None:
    fit(compiled(Regularized()))


def eager() -> None:
    fit(compiled(classifier(), run_eagerly=True))


def several_steps_a_call() -> None:
    fit(compiled(classifier(), steps_per_execution=3))


PROGRAMS: dict[str, Callable[[], None]] = {
    function.__name__.replace("_", " "): function
    for function in (
        unseeded,
        convolutional,
        augmented,
        residual,
        recurrent,
        gated,
        language_model,
        translation,
        vision_transformer,
        autoencoder,
        segmentation,
        factorization,
        structured,
        graph,
        siamese,
        transfer,
        scheduled,
        plateau,
        accumulated,
        averaged,
        generator,
        mixed_precision,
        double_precision,
        on_batches,
        regularized,
        eager,
        several_steps_a_call,
    )
}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]]()
