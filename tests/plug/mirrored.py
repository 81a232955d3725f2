"""An ordinary Keras 3 program for several devices of one machine."""

import sys

import keras
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
x, y = np.ones((41, 4), "float32"), np.ones((41, 1), "float32")
with strategy.scope():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(optimizer="sgd", loss="mse")
model.fit(x, y, batch_size=16, verbose=0)
alone = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
alone.compile(optimizer="sgd", loss="mse")
alone.fit(x, y, batch_size=16, verbose=0)
print("plugged:", "_tfdist_plugged" in vars(model), "_tfdist_plugged" in vars(alone), sys.argv[1:])
