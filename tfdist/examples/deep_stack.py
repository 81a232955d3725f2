"""Trains a stack of wide layers that is too large for the memory of one process.

    python -m tfdist.examples.deep_stack --memory_limit_mb 2150              too large: it says so
    tfdist run --workers 3 --chief -m tfdist.examples.deep_stack --memory_limit_mb 2150

24 residual blocks of 2,048 wide layers are 101 million weights; with Adam's two slots and the
gradients they take 1.6 GB. As the chief of a cluster the script cuts them into stages, one for each
worker, and runs microbatches through these. Each process, the chief included, watches its own
memory, and ends as a container of that size would be ended.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import keras
from absl import app, flags
from keras import layers

import tfdist
from tfdist.examples import data

FLAGS = flags.FLAGS
flags.DEFINE_integer("blocks", 24, "Residual blocks.", lower_bound=1)
flags.DEFINE_integer("width", 2048, "Units of each block.", lower_bound=1)
flags.DEFINE_integer("epochs", 2, "Passes over the training images.", lower_bound=0)
flags.DEFINE_integer("batch_size", 256, "Images a step.", lower_bound=1)
flags.DEFINE_integer("microbatches", 2, "Parts of each batch in the pipeline.", lower_bound=1)
flags.DEFINE_integer("memory_limit_mb", None, "Memory of each process, in MB.", lower_bound=1)

_OUT_OF_MEMORY = 137  # what a container ends with


def build_model(blocks: int, width: int) -> keras.Model:
    """A residual stack on 8 by 8 images, made of one layer of `width` units a block."""
    inputs = keras.Input((8, 8, 1))
    x = layers.Dense(width)(layers.Flatten()(inputs))
    for _ in range(blocks):
        update = layers.Dense(width, activation="relu")(layers.LayerNormalization()(x))
        update = layers.Rescaling(1 / blocks)(update)
        x = layers.Add()([x, update])
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


def limit_memory(megabytes: int) -> None:
    """Ends this process as soon as it holds more; Linux only."""

    def watch() -> None:
        statm = Path("/proc/self/statm")
        page = os.sysconf("SC_PAGE_SIZE")
        while (held := int(statm.read_text().split()[1]) * page >> 20) <= megabytes:
            time.sleep(0.02)
        print(
            f"out of memory: {held} MB, and {megabytes} MB are allowed; give the model more "
            "processes: tfdist run --workers 3 --chief -m tfdist.examples.deep_stack ...",
            file=sys.stderr,
            flush=True,
        )
        os._exit(_OUT_OF_MEMORY)

    threading.Thread(target=watch, name="memory limit", daemon=True).start()


def main(argv: list[str]) -> None:
    """Trains and tests."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}: options begin with --")
    if FLAGS.memory_limit_mb:
        limit_memory(FLAGS.memory_limit_mb)

    cluster = tfdist.Cluster.from_environment()
    if cluster is None or "chief" not in cluster.jobs:
        strategy = tfdist.strategy()
    else:
        strategy = tfdist.strategy("pipeline", microbatches=FLAGS.microbatches)
    (images, labels), (test_images, test_labels) = data.digits()
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = build_model(FLAGS.blocks, FLAGS.width)
        model.compile(
            optimizer=keras.optimizers.Adam(1e-4),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
    tfdist.plug(model)
    model.fit(images, labels, FLAGS.batch_size, epochs=FLAGS.epochs)
    _, accuracy = model.evaluate(test_images, test_labels, FLAGS.batch_size, verbose=0)
    print(f"{model.count_params():,} weights, test accuracy: {accuracy:.4f}")


if __name__ == "__main__":
    app.run(main)
