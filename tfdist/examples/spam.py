"""Tells spam from other e-mails by how often six words and signs occur: a feed-forward network.

    python -m tfdist.examples.spam                                  in this process
    python -m tfdist.examples.spam --logical_devices 2              two replicas in this process
    tfdist run --workers 2 -m tfdist.examples.spam                  two workers on this machine
    tfdist run --workers 2 --ps 1 -m tfdist.examples.spam           on parameter servers
    tfdist run --workers 2 --chief -m tfdist.examples.spam --strategy pipeline

The result is the same in one process, on replicas and on workers: above 87 % of the test e-mails,
where 58 % are none. On parameter servers with several workers it is about as good.
"""

from __future__ import annotations

import keras
from absl import flags
from keras import layers

import tfdist
from tfdist.examples import data, settings

FLAGS = flags.FLAGS


def build_model() -> keras.Model:
    """Two hidden layers, 4,673 weights."""
    return keras.Sequential(
        [
            layers.Input((6,)),
            layers.Dense(64, activation="relu"),
            layers.Dense(64, activation="relu"),
            layers.Dense(1, activation="sigmoid"),
        ]
    )


def main() -> None:
    """Trains, tests and, where asked, saves."""
    strategy = settings.strategy()
    train, test = data.emails()
    with strategy.scope():
        model = build_model()
        model.compile(
            optimizer=keras.optimizers.Adam(FLAGS.learning_rate),
            loss="binary_crossentropy",
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
    settings.run(main, epochs=20, batch_size=128, learning_rate=0.003)
