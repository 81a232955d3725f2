"""Foretells next month's sunspots from those of two years: a recurrent network on a real series.

    python -m tfdist.examples.sunspots                                  in this process
    python -m tfdist.examples.sunspots --logical_devices 2              two replicas in this process
    tfdist run --workers 2 -m tfdist.examples.sunspots                  two workers on this machine
    tfdist run --workers 2 --ps 1 -m tfdist.examples.sunspots           on parameter servers
    tfdist run --workers 2 --chief -m tfdist.examples.sunspots --strategy pipeline

The result is the same in one process, on replicas and on workers: wrong by 13.5 sunspots (mean of
the absolute errors), where the month before is wrong by 14.8.
"""

from __future__ import annotations

import keras
from absl import flags
from keras import layers

import tfdist
from tfdist.examples import data, settings

FLAGS = flags.FLAGS


def build_model() -> keras.Model:
    """A layer of 32 LSTM cells, 4,385 weights."""
    return keras.Sequential([layers.Input((data.MONTHS, 1)), layers.LSTM(32), layers.Dense(1)])


def main() -> None:
    """Trains, tests and, where asked, saves."""
    strategy = settings.strategy()
    train, test = data.sunspots()
    with strategy.scope():
        model = build_model()
        model.compile(
            optimizer=keras.optimizers.Adam(FLAGS.learning_rate),
            loss="mean_squared_error",
            metrics=["mean_absolute_error"],
        )
    tfdist.plug(model)

    model.fit(
        *train,
        batch_size=FLAGS.batch_size,
        epochs=FLAGS.epochs,
        callbacks=settings.callbacks(),
    )
    _, error = model.evaluate(*test, FLAGS.batch_size, verbose=0)

    if tfdist.is_chief():
        print(f"test MAE: {data.SUNSPOTS * error:.2f}")
        if FLAGS.save:
            model.save(FLAGS.save)


if __name__ == "__main__":
    settings.run(main, epochs=12, batch_size=64, learning_rate=0.005)
