"""A Keras 3 program that knows no other process: no strategy, then those of one machine.

    python no_strategy.py FOLDER

What it finds is in FOLDER/found-<task>.json; what Keras writes is in FOLDER.
"""

import json
import os
import random
import sys
from collections.abc import Callable
from typing import Any

import tensorflow as tf

folder = sys.argv[1]
tf.config.set_visible_devices([], "GPU")  # only possible before TensorFlow's first operation
rows = tf.data.Dataset.range(41).batch(16)

import keras  # noqa: E402
import numpy as np  # noqa: E402

found: dict[str, Any] = {
    "drawn": [random.random(), float(np.random.rand())],
    "words": list({"a", "b", "c", "d"}),
}
rng = np.random.default_rng(1)
x = rng.normal(size=(41, 4)).astype("float32")
y = x.sum(1, keepdims=True)


class Prepares(keras.Sequential):
    """Everybody gives raw numbers; its own methods prepare them."""

    def fit(self, x: Any, y: Any, **given: Any) -> Any:
        return super().fit(x / 2, y, **given)

    def evaluate(self, x: Any, y: Any, **given: Any) -> Any:
        return super().evaluate(x / 2, y, **given)


class ByHand(keras.Sequential):
    """Takes its steps itself."""

    def fit(self, x: Any, y: Any) -> None:
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)


def make(kind: Any = keras.Sequential) -> Any:
    keras.utils.set_random_seed(3)
    layers = [keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1)]
    model = kind([keras.Input((4,)), *layers])
    model.compile(keras.optimizers.Adam(0.01), "mse", metrics=["mae"])
    return model


def train(model: Any, **options: Any) -> dict[str, Any]:
    history = model.fit(x, y, batch_size=16, shuffle=False, verbose=0, **options).history
    weights = [weight.tolist() for weight in model.get_weights()]
    return {"history": history, "weights": weights, "evaluated": model.evaluate(x, y, verbose=0)}


def refused(function: Callable[[], Any]) -> str:
    try:
        function()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


with tf.device("/CPU:0"):
    model = make()
    model.save(os.path.join(folder, "initial.keras"))
    callbacks = [
        keras.callbacks.ModelCheckpoint(os.path.join(folder, "epoch.{epoch}.keras")),
        keras.callbacks.CSVLogger(os.path.join(folder, "log.csv")),
    ]
    found["none"] = train(model, epochs=2, validation_data=(x, y), callbacks=callbacks)
found["predicted"] = model.predict(x, verbose=0).tolist()
model.save(os.path.join(folder, "model.keras"))
found["own methods"] = train(make(Prepares))
found["loaded"] = train(keras.models.load_model(os.path.join(folder, "model.keras")))

for kind, devices in (("MirroredStrategy", ["CPU:0"]), ("OneDeviceStrategy", "/cpu:0")):
    strategy = getattr(tf.distribute, kind)(devices)
    with strategy.scope():
        model = make()
    found[kind] = train(model, epochs=2)

central = tf.distribute.experimental.CentralStorageStrategy
found["central"] = refused(central)
found["servers"] = refused(
    lambda: tf.distribute.ParameterServerStrategy(
        tf.distribute.cluster_resolver.TFConfigClusterResolver()
    )
)
found["devices"] = refused(lambda: tf.distribute.MirroredStrategy(["GPU:7"]))


def step() -> None:
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(x) - y) ** 2)
    gradients = tape.gradient(loss, model.trainable_variables)
    model.optimizer.apply(gradients, model.trainable_variables)


found["loop"] = refused(step)
found["own steps"] = refused(lambda: make(ByHand).fit(tf.constant(x), tf.constant(y)))
task = json.loads(os.environ["TF_CONFIG"])["task"]
with open(os.path.join(folder, f"found-{task['type']}-{task['index']}.json"), "w") as file:
    json.dump(found, file)
