"""Why workers may read different data is found in the dataset, and told."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfdist.compat import tf_datasets
from tfdist.errors import DataError
from tfdist.training.data import fingerprint


def noisy(x: Any) -> Any:
    return x + tf.random.normal(tf.shape(x))


def seeded(x: Any) -> Any:
    return x + tf.random.stateless_normal(tf.shape(x), [1, 2])


def in_python(x: Any) -> Any:
    return tf.numpy_function(lambda v: v, [x], tf.float32)


def rows(function: Any, parallel: int | None = None, deterministic: bool | None = None) -> Any:
    dataset = tf.data.Dataset.from_tensor_slices(np.ones((4, 2), "float32"))
    return dataset.map(function, parallel, deterministic=deterministic).batch(2).prefetch(1)


def in_any_order() -> Any:
    options = tf.data.Options()
    options.deterministic = False
    return rows(seeded).with_options(options)


def made_in_python() -> Any:
    made = tf.data.Dataset.from_generator(lambda: iter([np.ones(2)]), tf.float32)
    return made.map(seeded).batch(2)


@pytest.mark.parametrize(
    ("dataset", "found", "says"),
    [
        (functools.partial(rows, noisy), set(), "give every shuffle a seed"),
        (functools.partial(rows, seeded, 4), set(), "give every shuffle a seed"),
        (functools.partial(rows, noisy, 4), {"random"}, "num_parallel_calls draws random numbers"),
        (functools.partial(rows, seeded, 4, False), {"order"}, "leave deterministic=False out"),
        (in_any_order, {"order"}, "leave deterministic=False out"),
        (functools.partial(rows, in_python), {"python"}, r"a map runs Python code \(py_function"),
        (made_in_python, {"generator"}, r"step: Python code makes them \(a generator"),
    ],
    ids=[
        "random",
        "stateless",
        "random, parallel",
        "no order",
        "no order at all",
        "python",
        "generator",
    ],
)
def test_the_cause_is_found_and_told(dataset: Any, found: set[str], says: str) -> None:
    varies_with = functools.partial(tf_datasets.varies_with, dataset())
    assert varies_with() == found
    fingerprint.check([[1.0, 2.0, 3.0]] * 2, varies_with)
    with pytest.raises(DataError, match=says):
        fingerprint.check([[1.0, 2.0, 3.0], [1.0, 2.0, 4.0]], varies_with)
