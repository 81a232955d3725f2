"""What a probe reads off a model is what the strategies would do with it."""

from __future__ import annotations

import subprocess
import sys

import keras
import tensorflow as tf

from tfdist.planning import probed_layers
from tfdist.planning.stage_cuts import cut_layers
from tfdist.schedules.pipeline_plan import PipelinePlan
from tfdist.training.pipelined import layer_graph
from tfdist.training.plug_options import TrainingOptions


def bottleneck() -> keras.Model:
    """Layers of different widths, and one output that goes past a layer."""
    inputs = keras.Input((64,))
    wide = keras.layers.Dense(96, activation="relu")(inputs)
    narrow = keras.layers.Dense(8)(wide)
    again = keras.layers.Dense(64)(narrow)
    both = keras.layers.Add()([again, keras.layers.Dense(64)(again)])
    return keras.Model(inputs, keras.layers.Dense(1)(both))


def test_layers_are_cut_as_a_pipeline_cuts_them() -> None:
    model = bottleneck()
    layers, why = probed_layers.layers_of(model)
    assert why == ""
    graph = layer_graph.graph_of(model)
    for count in range(2, len(layers) + 1):
        plan = PipelinePlan(tasks=tuple(f"worker:{i}" for i in range(count)))
        stages = layer_graph.cut(graph, plan)
        real = [[piece.name for piece in stage.pieces] for stage in stages]
        assert [[one.name for one in own] for own in cut_layers(layers, count)] == real
    assert [one.crossing for one in layers] == [4 * n for n in (96, 8, 64, 128, 64, 0)]


def test_what_no_strategy_could_train_is_told() -> None:
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    model.compile("adam", "mse", run_eagerly=True)
    assert "run_eagerly=True" in probed_layers.layers_of(model)[1]
    model.compile(keras.optimizers.Adam(gradient_accumulation_steps=2), "mse")
    assert "gradient_accumulation_steps" in probed_layers.why_no_servers(model)
    model.compile("adam", "mse")
    assert probed_layers.why_no_servers(model) == ""


def test_why_no_shares_of_the_optimizer_is_told() -> None:
    model = bottleneck()
    model.compile("adam", "mse")
    assert probed_layers.why_no_shards(model, None) == ""
    assert "by itself" in probed_layers.why_no_shards(model, TrainingOptions(shard_optimizer=True))
    half = TrainingOptions(gradient_dtype="bfloat16")
    assert "gradient_dtype" in probed_layers.why_no_shards(model, half)
    model.compile(keras.optimizers.Lamb(), "mse")
    assert "Lamb may look" in probed_layers.why_no_shards(model, None)


_TWO_REPLICAS = """
import keras, tensorflow as tf
from tfdist.planning import probed_layers
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    model = keras.Sequential([keras.Input((3,), dtype="int32"), keras.layers.Embedding(5000, 16)])
with probed_layers.counted_ids() as ids:
    ids.clear()
    tf.function(lambda: strategy.run(model, [tf.zeros((2, 3), tf.int32)])).get_concrete_function()
(table,) = probed_layers.tables_of(model, ids).values()
print("ids", table.ids, "replicas", len(ids), "programs", len({graph for _, graph, _ in ids}))
"""


def test_replicas_in_one_program_do_not_add_up_an_examples_ids() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _TWO_REPLICAS],
        capture_output=True,
        text=True,
        timeout=200,  # on a busy machine
        check=False,
    )
    assert "ids 3 replicas 2 programs 1" in ran.stdout, ran.stdout + ran.stderr


def test_large_tables_are_found_with_the_ids_of_an_example() -> None:
    class Twice(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.items = keras.layers.Embedding(5000, 16)
            self.small = keras.layers.Embedding(10, 16)

        def call(self, ids: tf.Tensor) -> tf.Tensor:
            return self.items(ids) + self.items(ids + 1) + self.small(ids % 10)

    model = Twice()
    model(tf.zeros((1, 3), tf.int32))
    call = keras.layers.Embedding.call
    with probed_layers.counted_ids() as ids:
        for rows in (1, 2):  # two programs, which count once
            tf.function(model).get_concrete_function(tf.TensorSpec((rows, 3), tf.int32))
    assert keras.layers.Embedding.call is call
    ((path, table),) = probed_layers.tables_of(model, ids).items()
    assert path == model.items.embeddings.path
    assert (table.ids, table.height, table.weights) == (6, 5000, 5000 * 16 * 4)
    assert (table.rows_of(100), table.rows_of(1000)) == (600, 5000)
    assert table.bytes_of(100) == 600 * 64
