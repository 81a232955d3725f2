"""Layouts as users give them, and which axis is chosen where they give none."""

from __future__ import annotations

from typing import Any

import keras
import pytest
from keras import layers

from tfdist.errors import StrategyError
from tfdist.schedules.weight_layout import WeightLayout
from tfdist.training.tensor_parallel.split_weight import bounds
from tfdist.training.tensor_parallel.weight_axes import cuts_of


def mesh(model: int) -> Any:
    devices = [f"cpu:{i}" for i in range(2 * model)]
    return keras.distribution.DeviceMesh((2, model), ("batch", "model"), devices)


def test_a_layout_map_of_keras_is_read() -> None:
    given = keras.distribution.LayoutMap(mesh(2))
    given["dense.*kernel"] = (None, "model")
    given["dense.*bias"] = ("model",)
    given["embedding/.*"] = (None, None)
    layout = WeightLayout.of(given, 2)
    assert layout.axis("dense_1/kernel", 2) == 1
    assert layout.axis("dense_1/bias", 1) == 0
    assert layout.axis("embedding/embeddings", 2) is None
    assert layout.axis("conv/kernel", 4) is None


def test_a_mesh_of_another_size_is_refused() -> None:
    given = keras.distribution.LayoutMap(mesh(4))
    given["dense/kernel"] = (None, "model")
    with pytest.raises(StrategyError, match="has 4 devices, but weights are cut over 2"):
        WeightLayout.of(given, 2)
    WeightLayout.of(given, 4)


@pytest.mark.parametrize(("length", "parts"), [(6, 2), (7, 3), (3, 3)])
def test_parts_cover_an_axis_evenly(length: int, parts: int) -> None:
    found = bounds(length, parts)
    assert [i for start, stop in found for i in range(start, stop)] == list(range(length))
    sizes = [stop - start for start, stop in found]
    assert max(sizes) - min(sizes) <= 1


def test_a_transformer_is_cut_as_megatron_cuts_it() -> None:
    inputs = keras.Input((6,), dtype="int32")
    x = layers.Embedding(1000, 128, name="table")(inputs)
    for i in range(2):
        x = layers.Add()([x, layers.MultiHeadAttention(4, 32, name=f"heads_{i}")(x, x)])
        up = layers.Dense(512, activation="gelu", name=f"up_{i}")(x)
        x = layers.Add()([x, layers.Dense(128, name=f"down_{i}")(up)])
    model = keras.Model(inputs, layers.Dense(10, activation="softmax", name="head")(x))
    block = [("query", 1), ("key", 1), ("value", 1), ("attention_output", 0)]
    cuts = [(cut.layer.name, cut.axis) for cut in cuts_of(model, None, 2)]
    assert sorted(cuts) == sorted(
        [("table", 0), *block, *block, *((f"up_{i}", 1) for i in (0, 1))]
        + [(f"down_{i}", 0) for i in (0, 1)]
    )


def test_equal_products_alternate_so_that_nothing_travels_in_between() -> None:
    wide = [layers.Dense(256, activation="relu", name=f"d{i}") for i in range(4)]
    model = keras.Sequential([keras.Input((256,)), *wide, layers.Dense(10, name="last")])
    assert [(c.layer.name, c.axis) for c in cuts_of(model, None, 2)] == [
        ("d0", 1),
        ("d1", 0),
        ("d2", 1),
        ("d3", 0),
    ]


def test_heads_that_are_fewer_than_devices_stay_whole() -> None:
    inputs = keras.Input((6, 128))
    model = keras.Model(inputs, layers.MultiHeadAttention(2, 64)(inputs, inputs))
    assert cuts_of(model, None, 3) == []
