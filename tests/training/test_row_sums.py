"""Sums over rows are told from means, and from sums over what has no rows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import tensorflow as tf

from tfdist.training.replica.row_sums import is_row_sum

SUMS: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "of all": lambda x: tf.reduce_sum(x),
    "of the rows": lambda x: tf.reduce_sum(tf.reduce_mean(x, 1), 0),
    "scaled": lambda x: 0.5 * tf.reduce_sum(x) / 64.0,
    "with a penalty": lambda x: tf.reduce_sum(x) + tf.reduce_mean(x),
    "in a list": lambda x: tf.add_n([tf.reduce_mean(x), -tf.reduce_sum(x)]),
    "stacked": lambda x: tf.reduce_sum(tf.stack([tf.reduce_sum(x), 1.0])),
    "of a sum": lambda x: tf.reduce_sum(tf.reduce_sum(x, 0)),
}
NONE: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "a mean": lambda x: tf.reduce_mean(x),
    "divided by the rows": lambda x: tf.reduce_sum(x) / tf.cast(tf.shape(x)[0], x.dtype),
    "of each row, then a mean": lambda x: tf.reduce_mean(tf.reduce_sum(x, 1)),
    "of weights": lambda x: tf.reduce_mean(x) + tf.reduce_sum(tf.ones([3, 2])),
    "a constant": lambda _: tf.constant(1.0),
}


@pytest.mark.parametrize("name", [*SUMS, *NONE])
def test_a_sum_over_rows_is_told(name: str) -> None:
    found = []

    @tf.function(input_signature=[tf.TensorSpec([None, 4])])
    def traced(x: tf.Tensor) -> tf.Tensor:
        value = (SUMS | NONE)[name](x)
        found.append(is_row_sum(value))
        return value

    traced.get_concrete_function()
    assert found == [name in SUMS]
