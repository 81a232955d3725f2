"""A program for parameter servers, as TensorFlow's own tutorial writes it; no tfdist in it."""

import json
import os
import sys

import keras
import numpy as np
import tensorflow as tf

resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
if resolver.task_type in ("worker", "ps"):
    os.environ["GRPC_FAIL_FAST"] = "use_caller"
    server = tf.distribute.Server(
        resolver.cluster_spec(),
        job_name=resolver.task_type,
        task_index=resolver.task_id,
        protocol=resolver.rpc_layer or "grpc",
        start=True,
    )
    server.join()
partitioner = tf.distribute.experimental.partitioners.MinSizePartitioner()
strategy = tf.distribute.ParameterServerStrategy(resolver, variable_partitioner=partitioner)
rng = np.random.default_rng(1)
x = rng.normal(size=(41, 4)).astype("float32")
y = x.sum(1, keepdims=True)
with strategy.scope():
    keras.utils.set_random_seed(3)
    layers = [keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(keras.optimizers.Adam(0.01), "mse", metrics=["mae"])
history = model.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0).history
with open(sys.argv[1], "w") as file:
    json.dump(history, file)
if len(sys.argv) > 2:
    try:
        with strategy.scope(), tf.GradientTape() as tape:
            loss = tf.reduce_mean(model(x) - y)
        with strategy.scope():
            weights = model.trainable_variables
            model.optimizer.apply(tape.gradient(loss, weights), weights)
    except Exception as error:
        print(f"own loop: {type(error).__name__}: {error}")
    raise ValueError("the script's own error")
