"""Recognises handwritten digits: a residual network, on images that are never twice the same.

    python -m tfdist.examples.resnet                                   in this process
    python -m tfdist.examples.resnet --logical_devices 2               two replicas in this process
    tfdist run --workers 2 -m tfdist.examples.resnet                   two workers on this machine

Each image is moved, turned and sized anew in every epoch, by layers of the model, and alike on two
workers: above 97 % of the test images are recognised. Of the 360, one may be judged
otherwise on another number: the normalizations let float32's rounding grow.
"""

from __future__ import annotations

from typing import Any

import keras
from absl import flags
from keras import layers

import tfdist
from tfdist.examples import data, settings

FLAGS = flags.FLAGS

_STAGES = {16: 1, 32: 2, 64: 2}
"""The filters of each stage, and the stride that it begins with."""

_BLOCKS = 2
_MOMENTUM = 0.9
_DECAY = 5e-4


def convolved(x: Any, filters: int, size: int, stride: int = 1) -> Any:
    """A convolution, and a normalization by the whole global batch, on any number of replicas."""
    x = layers.Conv2D(filters, size, stride, padding="same", use_bias=False)(x)
    return layers.BatchNormalization(momentum=0.9, synchronized=True)(x)


def block(x: Any, filters: int, stride: int) -> Any:
    """Two convolutions, and what goes round them."""
    around = x if x.shape[-1] == filters else convolved(x, filters, 1, stride)
    inner = layers.ReLU()(convolved(x, filters, 3, stride))
    return layers.ReLU()(layers.Add()([around, convolved(inner, filters, 3)]))


def build_model() -> keras.Model:
    """A residual network of 14 layers, 176,090 weights, behind three that change the images.

    Source: K. He et al., "Deep Residual Learning for Image Recognition", 2016, section 4.2.
    """
    images = keras.Input((8, 8, 1))
    x = layers.RandomTranslation(0.1, 0.1, fill_mode="constant")(images)
    x = layers.RandomRotation(0.04, fill_mode="constant")(x)
    x = layers.RandomZoom(0.1, fill_mode="constant")(x)
    x = layers.ReLU()(convolved(x, 16, 3))
    for filters, stride in _STAGES.items():
        for n in range(_BLOCKS):
            x = block(x, filters, 1 if n else stride)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, layers.Dense(10, activation="softmax")(x))


def make_optimizer(rate: float, steps: int) -> keras.optimizers.Optimizer:
    """Momentum, with a rate that falls to 0 in so many steps, as half a cosine does."""
    falling = keras.optimizers.schedules.CosineDecay(rate, max(1, steps))
    return keras.optimizers.SGD(falling, momentum=_MOMENTUM, weight_decay=_DECAY)


def main() -> None:
    """Trains, tests and, where asked, saves."""
    strategy = settings.strategy()
    train, test = data.digits()
    steps = FLAGS.epochs * -(-len(train[0]) // FLAGS.batch_size)
    with strategy.scope():
        model = build_model()
        model.compile(
            optimizer=make_optimizer(FLAGS.learning_rate, steps),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
    tfdist.plug(model)

    model.fit(
        *train,
        batch_size=FLAGS.batch_size,
        epochs=FLAGS.epochs,
        callbacks=settings.callbacks(),
    )
    _, accuracy = model.evaluate(*test, FLAGS.batch_size, verbose=0)

    if tfdist.is_chief():
        print(f"test accuracy: {accuracy:.4f}")
        if FLAGS.save:
            model.save(FLAGS.save)


if __name__ == "__main__":
    settings.run(main, epochs=20, batch_size=64, learning_rate=0.1)
