"""What is read of how a `tf.data.Dataset` was made."""

from __future__ import annotations

import tensorflow as tf

from tfdist.compat.tf_datasets import batch_size


def test_the_size_of_batches_is_known_where_they_are_made_last() -> None:
    numbers = tf.data.Dataset.range(10)
    batches = numbers.map(lambda n: n + 1).batch(4)
    for data in (
        batches,
        batches.prefetch(tf.data.AUTOTUNE),
        batches.repeat(2).with_options(tf.data.Options()),
        numbers.batch(4, drop_remainder=True, num_parallel_calls=2),
    ):
        assert batch_size(data) == 4
    assert batch_size(numbers.batch(64)) == 10
    assert batch_size(numbers.filter(lambda n: n > 3).batch(64)) == 64
    for data in (numbers, batches.map(lambda n: n[:2]), batches.rebatch(2)):
        assert batch_size(data) is None
