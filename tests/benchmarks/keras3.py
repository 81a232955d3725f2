"""Keras 3: tfdist's `fit`, Keras' own `fit`, and loops written by hand on the same strategy."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

import tfdist
from tests.benchmarks.models import (
    LEARNING_RATE,
    REPLICA_BATCH,
    Model,
    compiled,
    dataset,
    keras_layers,
)
from tests.benchmarks.turns import Assignment, Turns, fit_in_turns, loop_in_turns
from tests.benchmarks.variants import MIRRORED, ONE

__all__ = ["run"]


def run(assignment: Assignment, turns: Turns) -> None:
    """Takes this worker's turns."""
    way, group, model = assignment.variant.way, assignment.variant.group, assignment.model
    if group == MIRRORED:
        strategy = tfdist.strategy("mirrored", logical_devices=assignment.replicas)
    elif group == ONE and way != "tfdist_fit":
        strategy = tf.distribute.get_strategy()  # none: what one writes for one device
    else:
        strategy = tfdist.strategy()
    turns.stage("strategy")
    batch = REPLICA_BATCH * strategy.num_replicas_in_sync
    data = dataset(tf, model, batch)
    if way in ("loop", "step"):
        loop = _by_hand(strategy, model, data, batch, in_graph=way == "loop")
        turns.stage("build")
        loop_in_turns(turns, assignment, loop)
        return
    with strategy.scope():
        network = compiled(keras, model, jit_compile=way == "tfdist_fit_jit")
    if way == "tfdist_fit_bfloat16":
        tfdist.plug(network, gradient_dtype="bfloat16")
    elif way.startswith("tfdist_fit_virtual"):
        tfdist.plug(network, virtual_replicas=int(way.rpartition("_")[2]))
    elif way in ("tfdist_fit", "tfdist_fit_jit"):
        tfdist.plug(network)
    turns.stage("build")
    fit = functools.partial(network.fit, data, verbose=1)
    fit_in_turns(turns, assignment, keras.callbacks.Callback, fit)


def _by_hand(
    strategy: tf.distribute.Strategy, model: Model, data: Any, batch: int, in_graph: bool
) -> Callable[[int], None]:
    """The loop that TensorFlow's guides on custom training show."""
    with strategy.scope():
        network = keras.Sequential([keras.Input(model.shape), *keras_layers(keras, model.name)])
        optimizer = keras.optimizers.SGD(LEARNING_RATE)
        optimizer.build(network.trainable_variables)
        losses = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")

    def step(examples: Any) -> None:
        x, y = examples
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(losses(y, network(x, training=True))) / batch
        gradients = tape.gradient(loss, network.trainable_variables)
        optimizer.apply(gradients, network.trainable_variables)

    iterator = iter(strategy.experimental_distribute_dataset(data))

    @tf.function
    def one(iterator: Any) -> None:
        strategy.run(step, args=(next(iterator),))

    @tf.function
    def many(iterator: Any, steps: tf.Tensor) -> None:
        for _ in tf.range(steps):
            strategy.run(step, args=(next(iterator),))

    def loop(steps: int) -> None:
        if in_graph:
            many(iterator, tf.constant(steps))
            return
        for _ in range(steps):
            one(iterator)

    return loop
