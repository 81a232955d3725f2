"""The sharded embedding layer beside the plain one, on one device."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdist.errors import PlugError
from tfdist.training.embeddings.lookup import unique_rows
from tfdist.training.embeddings.sharded_embedding import (
    ShardedEmbedding,
    shard_embeddings,
    sharded_embeddings,
)
from tfdist.training.embeddings.sharded_variable import ShardedVariable

ROWS, COLUMNS = 23, 4
EVERY_ID = np.arange(ROWS).reshape(1, ROWS)


def model_of(layer: Any) -> keras.Model:
    return keras.Sequential(
        [keras.Input((None,), dtype="int64"), layer, keras.layers.GlobalAveragePooling1D()]
    )


def pair(shards: int) -> tuple[keras.Model, keras.Model]:
    """A plain model and a sharded one of the same weights."""
    plain = model_of(keras.layers.Embedding(ROWS, COLUMNS))
    other = model_of(keras.layers.Embedding(ROWS, COLUMNS))
    other.set_weights(plain.get_weights())
    shard_embeddings(other, shards, min_bytes=0)
    return plain, other


@pytest.mark.parametrize("shards", [1, 2, 3, ROWS, ROWS + 5])
def test_a_turned_layer_looks_up_what_the_plain_one_does(shards: int) -> None:
    plain, other = pair(shards)
    ids = np.random.default_rng(0).integers(-ROWS, ROWS, (7, 5))
    np.testing.assert_array_equal(plain(ids), other(ids))
    assert len(other.layers[0].weights) == min(shards, ROWS)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint32", "int64", "uint64"])
def test_ids_of_any_integer_type_are_looked_up(dtype: str) -> None:
    layer = ShardedEmbedding(ROWS, COLUMNS, shards=3)
    ids = tf.constant([[1, 22], [22, 0]], dtype)
    expected = layer(np.array([[1, 22], [22, 0]]))
    np.testing.assert_array_equal(layer(ids), expected)


def test_an_empty_batch_gives_no_rows() -> None:
    layer = ShardedEmbedding(ROWS, COLUMNS, shards=3)
    assert layer(np.zeros((0, 5), "int32")).shape == (0, 5, COLUMNS)


@pytest.mark.parametrize("wrong", [ROWS, -ROWS - 1, 2**32, 2**40 + 1])
def test_an_id_out_of_range_is_an_error_as_in_the_plain_layer(wrong: int) -> None:
    for layer in (
        keras.layers.Embedding(ROWS, COLUMNS),
        ShardedEmbedding(ROWS, COLUMNS, shards=3),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError):
            layer(np.array([[1, wrong]], "int64"))


def test_ragged_and_sparse_ids_give_what_the_plain_layer_gives() -> None:
    plain, other = pair(3)
    ragged = tf.ragged.constant([[1, 2, 2], [], [22]])
    expected = plain.layers[0](ragged)
    found = other.layers[0](ragged)
    np.testing.assert_array_equal(found.flat_values, expected.flat_values)
    np.testing.assert_array_equal(found.row_splits, expected.row_splits)
    sparse = tf.sparse.from_dense([[0, 5], [7, 0]])
    np.testing.assert_array_equal(other.layers[0](sparse), plain.layers[0](sparse))


def test_masks_are_the_plain_layers() -> None:
    layer = ShardedEmbedding(ROWS, COLUMNS, mask_zero=True, shards=2)
    np.testing.assert_array_equal(layer.compute_mask(np.array([[0, 3]])), [[False, True]])
    assert layer.supports_masking


def test_mixed_precision_computes_in_its_own_type_and_keeps_float32_shards() -> None:
    layer = ShardedEmbedding(ROWS, COLUMNS, dtype="mixed_bfloat16", shards=2)
    assert layer(EVERY_ID).dtype == tf.bfloat16
    assert {weight.dtype for weight in layer.weights} == {"float32"}


def test_it_is_a_keras_embedding_with_sensible_weights() -> None:
    _, model = pair(3)
    layer = model.layers[0]
    assert isinstance(layer, keras.layers.Embedding)
    assert [w.path.rsplit("/", 1)[1] for w in layer.weights] == [
        f"embeddings_shard_{k}" for k in range(3)
    ]
    assert len({w.path.rsplit("/", 1)[0] for w in layer.weights}) == 1
    assert model.count_params() == ROWS * COLUMNS
    assert layer.trainable_weights == layer.weights == model.weights
    lines: list[str] = []
    model.summary(print_fn=lambda line, **_: lines.append(line))
    assert "(Embedding)" in "\n".join(lines)


def test_a_turned_layers_variables_have_the_path_of_the_plain_one() -> None:
    for build_first in (True, False):
        layer = keras.layers.Embedding(ROWS, COLUMNS, name="items")
        model = keras.Sequential([layer], name="tower")
        if build_first:
            model.build((None, 3))
        shard_embeddings(model, 2, min_bytes=0)
        model.build((None, 3))
        assert [weight.path for weight in model.weights] == [
            "tower/items/embeddings_shard_0",
            "tower/items/embeddings_shard_1",
        ]


def test_turning_frees_the_plain_table() -> None:
    model = model_of(keras.layers.Embedding(ROWS, COLUMNS))
    table = weakref.ref(model.layers[0]._embeddings.value)
    shard_embeddings(model, 2, min_bytes=0)
    gc.collect()
    assert table() is None


def test_weights_are_read_and_set_whole_or_by_shard() -> None:
    layer = ShardedEmbedding(ROWS, COLUMNS, shards=3)
    layer.build()
    table = np.arange(ROWS * COLUMNS, dtype="float32").reshape(ROWS, COLUMNS)
    layer.set_weights([table])
    np.testing.assert_array_equal(layer.get_weights()[0], table)
    np.testing.assert_array_equal(layer(EVERY_ID)[0], table)
    layer.set_weights([table[k::3] + 1 for k in range(3)])
    np.testing.assert_array_equal(layer.get_weights()[0], table + 1)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer.embeddings), table + 1)
    np.testing.assert_array_equal(
        keras.ops.matmul(table, keras.ops.transpose(layer.embeddings)), table @ (table + 1).T
    )


def test_initial_weights_are_taken_whole() -> None:
    table = np.random.default_rng(1).normal(size=(ROWS, COLUMNS)).astype("float32")
    layer = ShardedEmbedding(ROWS, COLUMNS, weights=[table], shards=4)
    np.testing.assert_array_equal(layer.get_weights()[0], table)


def test_a_table_of_another_shape_is_refused() -> None:
    layer = ShardedEmbedding(ROWS, COLUMNS, shards=3)
    layer.build()
    with pytest.raises(ValueError, match=r"\(22, 4\).*\(23, 4\)"):
        layer.set_weights([np.zeros((22, 4), "float32")])


def test_a_large_table_is_set_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tfdist.training.embeddings.sharded_variable._BLOCK_BYTES", 6 * COLUMNS * 4)
    read = []

    class Recording:
        shape = (ROWS, COLUMNS)

        def __getitem__(self, rows: slice) -> Any:
            read.append(rows.stop - rows.start)
            return table[rows]

    table = np.random.default_rng(2).normal(size=(ROWS, COLUMNS)).astype("float32")
    layer = ShardedEmbedding(ROWS, COLUMNS, shards=3)
    layer.build()
    layer.table.assign(Recording())
    np.testing.assert_array_equal(layer.get_weights()[0], table)
    assert max(read) == 6
    assert len(read) == 4


# ---------------------------------------------------------------- gradients


@tf.function
def gradients_of(model: keras.Model, ids: Any, calls: int = 1) -> tuple[Any, list[Any]]:
    with tf.GradientTape() as tape:
        loss = sum(tf.reduce_sum(tf.sin(model(ids + k))) for k in range(calls))
    raw = tape.gradient(loss, [v.value for v in model.trainable_variables])
    return loss, [unique_rows(g) for g in raw]


@pytest.mark.parametrize("calls", [1, 2])
def test_gradients_name_each_row_once_and_sum_to_the_plain_layers(calls: int) -> None:
    plain, other = pair(3)
    ids = tf.constant([[1, 1, 4], [4, 1, 20], [0, 0, 0]])
    with tf.GradientTape() as tape:
        loss = sum(tf.reduce_sum(tf.sin(plain(ids + k))) for k in range(calls))
    expected = tf.convert_to_tensor(tape.gradient(loss, plain.trainable_variables[0].value))
    _, found = gradients_of(other, ids, calls)
    whole = np.zeros((ROWS, COLUMNS), "float32")
    for k, gradient in enumerate(found):
        assert isinstance(gradient, tf.IndexedSlices)
        rows = gradient.indices.numpy()
        assert len(set(rows)) == len(rows)
        whole[k::3] = tf.convert_to_tensor(gradient)
    np.testing.assert_allclose(whole, expected, rtol=1e-6, atol=1e-7)


def test_a_single_lookup_is_made_unique_once() -> None:
    _, other = pair(2)
    graph = gradients_of.get_concrete_function(other, tf.zeros((3, 2), tf.int32)).graph
    assert [op.type for op in graph.get_operations()].count("Unique") == 1


# ---------------------------------------------------------------- initial values


@pytest.mark.parametrize(
    "kind",
    ["uniform", "normal", "truncated_normal", "glorot_uniform", "he_normal", "lecun_uniform"],
)
def test_shards_are_drawn_apart_from_the_distribution_of_the_whole_table(kind: str) -> None:
    keras.utils.set_random_seed(3)  # the largest of 64,000 numbers varies by more than a quarter
    layer = ShardedEmbedding(4000, 16, embeddings_initializer=kind, shards=4)
    layer.build()
    plain = keras.layers.Embedding(4000, 16, embeddings_initializer=kind)
    plain.build()
    found, expected = layer.get_weights()[0], plain.get_weights()[0]
    assert len(np.unique(found[:, 0])) > 3900
    assert found.std() == pytest.approx(expected.std(), rel=0.03)
    assert abs(found).max() == pytest.approx(abs(expected).max(), rel=0.25)


def test_the_same_seed_draws_the_same_shards() -> None:
    tables = []
    for _ in range(2):
        initializer = keras.initializers.RandomNormal(seed=7)
        layer = ShardedEmbedding(ROWS, COLUMNS, initializer, shards=3)
        layer.build()
        tables.append(layer.get_weights()[0])
    np.testing.assert_array_equal(tables[0], tables[1])


@pytest.mark.parametrize(
    "initializer",
    [
        "zeros",
        "ones",
        keras.initializers.Constant(3.0),
        keras.initializers.Orthogonal(seed=1),
        lambda shape, dtype=None: np.arange(np.prod(shape), dtype=dtype).reshape(shape),
    ],
)
def test_other_initializers_give_the_plain_layers_values(initializer: Any) -> None:
    layers = [
        keras.layers.Embedding(ROWS, COLUMNS, embeddings_initializer=initializer),
        ShardedEmbedding(ROWS, COLUMNS, embeddings_initializer=initializer, shards=3),
    ]
    for layer in layers:
        layer.build()
    np.testing.assert_array_equal(layers[0].get_weights()[0], layers[1].get_weights()[0])


# ---------------------------------------------------------------- turning models


def test_layers_stay_the_same_objects_in_shared_and_nested_graphs() -> None:
    shared = keras.layers.Embedding(ROWS, COLUMNS)
    inputs = keras.Input((3,), dtype="int32")
    inner = keras.Model(inputs, keras.layers.add([shared(inputs), shared(inputs)]))
    outer = keras.Sequential([inner, keras.layers.Flatten(), keras.layers.Dense(1)])
    before = outer(EVERY_ID[:, :3])
    assert shard_embeddings(outer, 2, min_bytes=0) == [shared]
    np.testing.assert_array_equal(outer(EVERY_ID[:, :3]), before)
    assert len(outer.trainable_variables) == 2 + 2


def test_small_tables_and_other_layers_stay_as_they_are() -> None:
    class Own(keras.layers.Embedding):
        pass

    layers = [keras.layers.Embedding(ROWS, COLUMNS), Own(5000, 16)]
    model = keras.Sequential([keras.Input((2,)), layers[0], keras.layers.Flatten(), layers[1]])
    assert shard_embeddings(model, 2) == []
    assert [type(layer) for layer in layers] == [keras.layers.Embedding, Own]


def test_the_threshold_is_inclusive_and_the_user_may_say_how_many() -> None:
    model = model_of(keras.layers.Embedding(ROWS, COLUMNS))
    bytes_of_table = ROWS * COLUMNS * 4
    assert shard_embeddings(model, 2, min_bytes=bytes_of_table + 1) == []
    assert len(shard_embeddings(model, 2, min_bytes=bytes_of_table, shards=5)[0].weights) == 5
    assert sharded_embeddings(model) == [model.layers[0]]
    assert shard_embeddings(model, 2, min_bytes=0) == [model.layers[0]]
    assert len(model.layers[0].weights) == 5


def test_a_frozen_table_stays_frozen() -> None:
    model = model_of(keras.layers.Embedding(ROWS, COLUMNS, trainable=False))
    shard_embeddings(model, 2, min_bytes=0)
    assert model.trainable_variables == []
    assert len(model.non_trainable_variables) == 2
    model.layers[0].trainable = True
    assert len(model.trainable_weights) == 2  # and is trained again when it is let go


def test_a_built_optimizer_is_refused_with_the_cure() -> None:
    model = model_of(keras.layers.Embedding(ROWS, COLUMNS))
    model.compile("adam")
    model.optimizer.build(model.trainable_variables)
    with pytest.raises(PlugError, match=r"compile=False.*load_weights"):
        shard_embeddings(model, 2, min_bytes=0)
    assert type(model.layers[0]) is keras.layers.Embedding


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("embeddings_regularizer", {"embeddings_regularizer": "l2"}),
        ("embeddings_constraint", {"embeddings_constraint": "non_neg"}),
        ("lora_rank", {"lora_rank": 2}),
        ("quantization", {"dtype": "int8_from_float32"}),
    ],
)
def test_what_needs_the_whole_table_is_refused_before_anything_changes(
    name: str, options: dict[str, Any]
) -> None:
    with pytest.raises(PlugError, match=name):
        ShardedEmbedding(ROWS, COLUMNS, shards=2, **options)
    good, bad = keras.layers.Embedding(ROWS, 2), keras.layers.Embedding(ROWS, 2, **options)
    model = keras.Sequential([good, keras.layers.Flatten(), bad])
    with pytest.raises(PlugError, match=name):
        shard_embeddings(model, 2, min_bytes=0)
    assert type(good) is keras.layers.Embedding


@pytest.mark.parametrize("shards", [0, -1, ROWS + 1, True, 2.0])
def test_a_wrong_number_of_shards_is_refused(shards: Any) -> None:
    with pytest.raises(PlugError, match="from 1 to 23"):
        ShardedEmbedding(ROWS, COLUMNS, shards=shards)


# ---------------------------------------------------------------- files of weights


def test_the_saved_file_is_the_plain_layers(tmp_path: Path) -> None:
    plain, other = pair(3)
    for name, model in (("plain", plain), ("other", other)):
        model.save(tmp_path / f"{name}.keras")
        model.save_weights(tmp_path / f"{name}.weights.h5")
    loaded = keras.models.load_model(tmp_path / "other.keras")
    assert type(loaded.layers[0]) is keras.layers.Embedding
    np.testing.assert_array_equal(loaded(EVERY_ID), plain(EVERY_ID))
    configs = [keras.saving.serialize_keras_object(m.layers[0]) for m in (plain, loaded, other)]
    assert configs[0]["module"] == configs[2]["module"] == "keras.layers"
    assert configs[0]["class_name"] == configs[2]["class_name"] == "Embedding"
    assert {**configs[1]["config"]} == {**configs[2]["config"]}


@pytest.mark.parametrize("shards", [1, 4])
def test_weights_of_any_number_of_shards_load_into_any_other(tmp_path: Path, shards: int) -> None:
    plain, other = pair(3)
    for source in (plain, other):
        path = tmp_path / f"{shards}.weights.h5"
        source.save_weights(path)
        target = model_of(keras.layers.Embedding(ROWS, COLUMNS))
        shard_embeddings(target, shards, min_bytes=0)
        target.load_weights(path)
        np.testing.assert_array_equal(target(EVERY_ID), plain(EVERY_ID))
        back = model_of(keras.layers.Embedding(ROWS, COLUMNS))
        back.load_weights(path)
        np.testing.assert_array_equal(back(EVERY_ID), plain(EVERY_ID))


def test_a_clone_is_a_layer_of_its_own_with_the_same_configuration() -> None:
    _, other = pair(3)
    clone = keras.models.clone_model(other)
    assert clone.layers[0].get_config() == other.layers[0].get_config()
    assert clone.layers[0].table.shape == (ROWS, COLUMNS)
    assert isinstance(clone.layers[0], keras.layers.Embedding)


def test_an_exported_model_serves_the_same(tmp_path: Path) -> None:
    _, other = pair(3)
    other.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(tmp_path / "served")
    ids = tf.constant(EVERY_ID, tf.int64)
    np.testing.assert_array_equal(served.serve(ids), other(ids))


def test_a_table_tells_what_it_is() -> None:
    _, other = pair(3)
    table = other.layers[0].embeddings
    assert isinstance(table, ShardedVariable)
    assert (table.shape, table.dtype) == ((ROWS, COLUMNS), "float32")
    assert repr(table) == "<Table embeddings, shape=(23, 4), shards=3>"
