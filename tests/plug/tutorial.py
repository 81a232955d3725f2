"""An ordinary Keras 3 program for several workers; it knows nothing of tfdist."""

import json
import os
import sys

import keras
import tensorflow as tf
from sklearn.datasets import load_digits

folder = sys.argv[1]
config = json.loads(os.environ["TF_CONFIG"])
workers = len(config["cluster"]["worker"])

strategy = tf.distribute.MultiWorkerMirroredStrategy()
digits = load_digits()
images = (digits.images[..., None] / 16.0).astype("float32")
dataset = tf.data.Dataset.from_tensor_slices((images, digits.target))
dataset = dataset.shuffle(2000).repeat().batch(64 * workers)

with strategy.scope():
    model = keras.Sequential(
        [
            keras.layers.Input((8, 8, 1)),
            keras.layers.Conv2D(16, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    model.compile(
        optimizer=keras.optimizers.Adam(0.01),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
history = model.fit(dataset, epochs=3, steps_per_epoch=20)

task = strategy.cluster_resolver.task_type, strategy.cluster_resolver.task_id
path = os.path.join(folder, "model.keras")
if task != ("worker", 0):
    path = os.path.join(folder, f"temporary-{task[1]}", "model.keras")
    os.makedirs(os.path.dirname(path))
model.save(path)
with open(os.path.join(folder, f"history-{task[1]}.json"), "w") as file:
    json.dump(history.history, file)
