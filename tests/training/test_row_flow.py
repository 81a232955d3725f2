"""What the graph tells of sums and means over rows is what their numbers do.

Each number of rows is computed of two batches, and of both together: what is said to be a mean must
be the mean by rows of the two, a sum their sum, and either must grow as its degree says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdist.training.replica import row_entries
from tfdist.training.replica.row_flow import Flow, RowFlow
from tfdist.training.replica.row_rules import RULES

Number = Callable[[Any, Any], Any]
RNG = np.random.default_rng(0)
WIDTH = 5
KERNEL = RNG.normal(size=(WIDTH, 3)).astype("float32")
ROWS = 7


RECURRENT = keras.layers.LSTM(3, return_sequences=True)
RECURRENT.build((None, WIDTH, 1))


def over_time(x: Any) -> Any:
    """Each step of time, of all rows, by itself, `[time, rows, 1]`."""
    flat = tf.reshape(tf.transpose(x), [-1, 1])
    return tf.reshape(tf.square(flat), [WIDTH, -1, 1])


def slopes(x: Any, y: Any) -> Any:
    """The gradient of a score with respect to each row."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        hidden = tf.nn.conv1d(x[:, :, None], KERNEL[:3, None, :2], 1, "SAME")
        scores = tf.reduce_sum(tf.tanh(hidden), [1, 2])[:, None] * y + KERNEL[0, 0]
    return tape.gradient(scores, x)


def square(x: Any) -> Any:
    return tf.reduce_sum(tf.square(x), axis=1)


def mean_of(x: Any) -> Any:
    return tf.reduce_mean(x)


def steepness(x: Any, y: Any) -> Any:
    """The gradient of a mean's square with respect to each row."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        score = tf.square(tf.reduce_mean(square(x) * y[:, 0]))
    return tape.gradient(score, x)


def rows_of(x: Any) -> Any:
    return tf.cast(tf.shape(x)[0], tf.float32)


SUMS: dict[str, Number] = {
    "masked by lengths": lambda x, y: tf.reduce_sum(
        x * tf.sequence_mask(tf.where(y[:, 0] > 0, WIDTH, 2), dtype="float32")
    ),
    "all at once": lambda x, y: tf.reduce_sum(tf.square(x)),
    "of a number for each row": lambda x, y: tf.reduce_sum(square(x) * y[:, 0]),
    "of a product with weights": lambda x, y: tf.reduce_sum(tf.square(x @ KERNEL)),
    "one dimension after the other": lambda x, y: tf.reduce_sum(tf.reduce_sum(x, 0)),
    "kept dimensions": lambda x, y: tf.squeeze(tf.reduce_sum(x[:, :1], 0, keepdims=True)),
    "transposed": lambda x, y: tf.reduce_sum(tf.transpose(x)),
    "flattened": lambda x, y: tf.reduce_sum(tf.reshape(x, [-1])),
    "two batches behind each other": lambda x, y: tf.reduce_sum(tf.concat([x, x * x], 0)),
    "two batches beside each other": lambda x, y: tf.reduce_sum(tf.concat([x, y], 1)),
    "stacked batches": lambda x, y: tf.reduce_sum(tf.stack([x, x * x], 0)),
    "an unstacked column": lambda x, y: tf.reduce_sum(tf.unstack(x, axis=1)[2]),
    "scaled": lambda x, y: 0.5 * (tf.reduce_sum(x) + tf.reduce_sum(tf.abs(y))) / 3.0,
    "negative": lambda x, y: -tf.reduce_sum(x) - tf.reduce_sum(y),
    "l2_loss": lambda x, y: tf.nn.l2_loss(x),
    "einsum": lambda x, y: tf.einsum("bi,bi->", x, x),
    "einsum of the dots": lambda x, y: tf.reduce_sum(tf.einsum("...i,ij->...j", x, KERNEL)),
    "a product of matrices": lambda x, y: tf.reduce_sum(tf.matmul(x, x, transpose_a=True)),
    "tensordot": lambda x, y: tf.tensordot(x, x, [[0, 1], [0, 1]]),
    "vdot": lambda x, y: keras.ops.vdot(x, x),
    "masked": lambda x, y: tf.reduce_sum(tf.boolean_mask(x, y[:, 0] > 0)),
    "picked by the rows": lambda x, y: tf.reduce_sum(tf.gather(x, tf.where(y[:, 0] > 0)[:, 0])),
    "of a column": lambda x, y: tf.reduce_sum(x[:, 1]),
    "of a new dimension": lambda x, y: tf.reduce_sum(x[:, tf.newaxis, ..., 1:3]),
    "chosen": lambda x, y: tf.where(KERNEL[0, 0] > 0, tf.reduce_sum(x), tf.reduce_sum(x * x)),
    "of a condition": lambda x, y: tf.cond(
        tf.constant(KERNEL[0, 0]) > 0, lambda: tf.reduce_sum(x), lambda: tf.reduce_sum(x * x)
    ),
    "mean of sums": lambda x, y: tf.reduce_mean(tf.stack([tf.reduce_sum(x), tf.reduce_sum(y)])),
    "weighted sums": lambda x, y: tf.tensordot(
        tf.constant([0.3, 0.7]), tf.stack([tf.reduce_sum(x), tf.reduce_sum(y)]), 1
    ),
    "segments": lambda x, y: tf.reduce_sum(
        tf.math.unsorted_segment_sum(x[:, 0], tf.cast(y[:, 0] > 0, tf.int32), 2)
    ),
    "mapped": lambda x, y: tf.reduce_sum(tf.map_fn(tf.reduce_sum, x)),
    "of some rows, of some columns": lambda x, y: tf.reduce_sum(
        tf.transpose(tf.boolean_mask(x, y[:, 0] > 0))[1:3]
    ),
    "recurrent": lambda x, y: tf.reduce_sum(RECURRENT(x[:, :, None])),
    "a half": lambda x, y: tf.reduce_sum(tf.concat([x, x * x], 0)[: tf.shape(x)[0]]),
    "with a condition's zero": lambda x, y: tf.cond(
        tf.constant(KERNEL[0, 0]) > 9, lambda: 0.0, lambda: tf.reduce_sum(x)
    ),
    "looked up": lambda x, y: tf.reduce_sum(
        tf.gather(KERNEL, tf.cast(y[:, 0] > 0, tf.int32)) * x[:, :3]
    ),
    "huber": lambda x, y: tf.reduce_sum(keras.losses.huber(x, x * y)),
    "cross-entropy": lambda x, y: tf.reduce_sum(
        keras.losses.sparse_categorical_crossentropy(
            tf.cast(y[:, 0] > 0, tf.int32), tf.nn.softmax(x)
        )
    ),
    "the number of rows": lambda x, y: rows_of(x),
    "the number of entries": lambda x, y: tf.cast(tf.size(x), tf.float32),
    "a mean times the rows": lambda x, y: tf.reduce_mean(x) * rows_of(x),
    "convolved": lambda x, y: tf.reduce_sum(
        tf.nn.conv1d(x[:, :, tf.newaxis], KERNEL[:3, :1, np.newaxis], 1, "SAME")
    ),
}
MEANS: dict[str, Number] = {
    "rolled along a row": lambda x, y: tf.reduce_mean(x * tf.roll(x, 1, 1)),
    "reversed along a row": lambda x, y: tf.reduce_mean(x * tf.reverse(x, [1])),
    "padded along a row": lambda x, y: tf.reduce_mean(tf.square(tf.pad(x, [[0, 0], [1, 0]]))),
    "transformed along a row": lambda x, y: tf.reduce_mean(
        tf.abs(tf.signal.fft(tf.complex(x, 0.0)))
    ),
    "a slice of each row": lambda x, y: tf.reduce_mean(tf.slice(x, [0, 1], [-1, 2]) ** 2),
    "with a row for each": lambda x, y: tf.reduce_mean(
        square(x)
        * tf.ones(tf.shape(x)[:1])
        * (1 + 0 * tf.random.stateless_uniform(tf.shape(x), [1, 2])[:, 0])
    ),
    "all at once": lambda x, y: tf.reduce_mean(tf.square(x)),
    "plus a constant": lambda x, y: tf.reduce_mean(x) + 3.0,
    "difference": lambda x, y: 2.0 * tf.reduce_mean(x) - tf.reduce_mean(y) / 3.0,
    "over the rows": lambda x, y: tf.reduce_sum(square(x)) / rows_of(x),
    "over the entries": lambda x, y: tf.reduce_sum(x) / tf.cast(tf.size(x), tf.float32),
    "each over the rows": lambda x, y: tf.reduce_sum(x / rows_of(x)),
    "times one over the rows": lambda x, y: tf.reduce_sum(x * (1.0 / rows_of(x))),
    "of sums": lambda x, y: tf.reduce_mean(tf.reduce_sum(x, axis=1)),
    "as wide as the rows are many": lambda x, y: tf.reduce_sum(
        tf.linalg.matvec(tf.eye(ROWS), tf.reduce_mean(tf.tile(x, [1, 2])[:, :ROWS], 0))
    ),
    "stacked": lambda x, y: tf.reduce_sum(
        tf.stack([tf.reduce_mean(x * float(i)) for i in range(ROWS)]) * np.arange(7.0, dtype="f4")
    ),
    "recurrent": lambda x, y: tf.reduce_mean(tf.reduce_sum(RECURRENT(x[:, :, None]), [1, 2])),
    "a half": lambda x, y: tf.reduce_mean(tf.concat([x, x * x], 0)[: tf.shape(x)[0]]),
    "scanned over time": lambda x, y: tf.reduce_mean(
        tf.reduce_sum(tf.scan(tf.add, tf.transpose(tf.tile(x, [1, 2])[:, :ROWS])), 0)
    ),
    "a penalty of gradients": lambda x, y: tf.reduce_mean(
        (tf.norm(slopes(tf.convert_to_tensor(x), y), axis=1) - 1) ** 2
    ),
    "no_nan": lambda x, y: tf.math.divide_no_nan(tf.reduce_sum(x), rows_of(x)),
}
ACROSS: dict[str, Number] = {
    "the largest": lambda x, y: tf.reduce_max(x),
    "squared mean": lambda x, y: tf.square(tf.reduce_mean(x)),
    "root of a mean": lambda x, y: tf.sqrt(tf.reduce_mean(tf.square(x))),
    "quotient of sums": lambda x, y: tf.reduce_sum(x) / tf.reduce_sum(tf.abs(y)),
    "pairs": lambda x, y: tf.reduce_mean(tf.matmul(x, x, transpose_b=True) ** 2),
    "differences of pairs": lambda x, y: tf.reduce_sum((x[:, None, 0] - x[None, :, 0]) ** 2),
    "a mean of some rows": lambda x, y: tf.reduce_mean(tf.boolean_mask(x, y[:, 0] > 0)),
    "a mean without the first": lambda x, y: tf.reduce_mean(tf.square(x[1:])),
    "softmax of pairs": lambda x, y: tf.reduce_mean(
        -tf.linalg.diag_part(tf.nn.log_softmax(tf.matmul(x, x, transpose_b=True)))
    ),
    "softmax over the rows": lambda x, y: tf.reduce_sum(tf.nn.softmax(x, axis=0) * x),
    "a condition on the rows": lambda x, y: tf.cond(
        tf.reduce_mean(y) > 0, lambda: tf.reduce_mean(x), lambda: 2.0 * tf.reduce_mean(x) + 1.0
    ),
    "over those that are left": lambda x, y: (
        tf.reduce_sum(tf.boolean_mask(x, y[:, 0] > 0))
        / tf.cast(tf.size(tf.boolean_mask(x, y[:, 0] > 0)), tf.float32)
    ),
    "the hardest": lambda x, y: tf.reduce_mean(tf.math.top_k(square(x), 3).values),
    "the first": lambda x, y: tf.reduce_sum(x[0]),
    "cumulative": lambda x, y: tf.cumsum(square(x))[-1],
    "folded": lambda x, y: tf.foldl(lambda a, r: a + tf.reduce_sum(r), x, tf.constant(0.0)),
    "one row less": lambda x, y: tf.reduce_sum(x) / (rows_of(x) - 1.0),
    "sum and mean": lambda x, y: tf.reduce_sum(x) + tf.reduce_mean(y),
    "root of a sum": lambda x, y: tf.sqrt(tf.reduce_sum(tf.square(x))),
    "weights over their mean": lambda x, y: tf.reduce_mean(square(x) * y[:, 0] / mean_of(y)),
    "a sum of weights over their mean": lambda x, y: tf.reduce_sum(
        square(x) * y[:, 0] / mean_of(y)
    ),
    "normalized by its own moments": lambda x, y: tf.reduce_mean(
        y[:, 0] * (square(x) - mean_of(square(x))) / tf.math.reduce_std(square(x))
    ),
    "normalized by nn.moments": lambda x, y: tf.reduce_mean(
        tf.nn.batch_normalization(x, *tf.nn.moments(x, 0), None, None, 1e-3) ** 3
    ),
    "less the first": lambda x, y: tf.reduce_mean(tf.abs(x - x[:1])),
    "beside the next": lambda x, y: tf.reduce_mean(x * tf.roll(x, 1, 0)),
    "beside the last": lambda x, y: tf.reduce_mean(x * tf.reverse(x, [0])),
    "transformed along the rows": lambda x, y: tf.reduce_mean(
        tf.abs(tf.signal.fft(tf.complex(tf.transpose(x), 0.0)))
    ),
    "padded": lambda x, y: tf.reduce_mean(tf.square(tf.pad(x, [[1, 0], [0, 0]]))),
    "in closed form": lambda x, y: tf.reduce_mean((x @ tf.matmul(x, y, transpose_a=True) - y) ** 2),
    "a slice": lambda x, y: tf.reduce_mean(tf.slice(x, [1, 0], [-1, 2]) ** 2),
    "a penalty of a mean's gradients": lambda x, y: tf.reduce_mean(
        steepness(tf.convert_to_tensor(x), y) ** 2
    ),
    "log of a sum": lambda x, y: tf.math.log(tf.reduce_sum(tf.square(x))),
}


def batches() -> tuple[Any, Any, Any, Any]:
    """The rows of two batches, of 7 and of 3, which have little in common."""
    rng = np.random.default_rng(5)
    x, v = (rng.normal(size=(rows, WIDTH)).astype("float32") for rows in (ROWS, 3))
    y = rng.normal(size=(ROWS, 1)).astype("float32") + 0.5
    return x, y, 3 * v + 2, np.array([[0.5], [-2.0], [-3.0]], "float32")


def never(tensor: Any) -> bool:
    del tensor
    return False


def told(number: Number, rows: int | None) -> Flow:
    """What the graph tells of a number, which knows the rows or does not."""
    found: list[Flow] = []

    @tf.function(
        autograph=False,
        input_signature=[tf.TensorSpec([rows, WIDTH]), tf.TensorSpec([rows, 1])],
    )
    def trace(x: Any, y: Any) -> Any:
        result = number(x, y)
        flow = RowFlow(RULES, row_entries.otherwise, rows, never, never, never)
        found.append(flow.of(result))
        return result

    trace.get_concrete_function()
    return found[0]


@pytest.mark.parametrize("rows", [None, ROWS], ids=["any rows", "rows known"])
@pytest.mark.parametrize("name", SUMS)
def test_sums_over_rows_are_told(name: str, rows: int | None) -> None:
    if rows and name in ("the number of rows", "the number of entries", "a mean times the rows"):
        pytest.skip("a constant then")
    flow = told(SUMS[name], rows)
    assert (flow.axis, flow.degree, flow.exact) == (None, 1, True)


@pytest.mark.parametrize("rows", [None, ROWS], ids=["any rows", "rows known"])
@pytest.mark.parametrize("name", MEANS)
def test_means_over_rows_are_told(name: str, rows: int | None) -> None:
    flow = told(MEANS[name], rows)
    assert (flow.axis, flow.degree, flow.exact) == (None, 0, True)


@pytest.mark.parametrize("rows", [None, ROWS], ids=["any rows", "rows known"])
@pytest.mark.parametrize("name", ACROSS)
def test_what_parts_cannot_make_up_is_not_called_exact(name: str, rows: int | None) -> None:
    if rows and name == "one row less":
        pytest.skip("a constant then")
    flow = told(ACROSS[name], rows)
    assert not (flow.exact and flow.degree in (0, 1))


@pytest.mark.parametrize("rows", [None, ROWS], ids=["any rows", "rows known"])
def test_a_dimension_that_was_merged_with_the_rows_is_none_of_them(rows: int | None) -> None:
    flow = told(lambda x, y: tf.reduce_mean(tf.reduce_sum(over_time(x), 0)), rows)
    assert flow.degree is None  # a mean, which is not called a sum


@pytest.mark.parametrize("name", [*SUMS, *(f"mean: {name}" for name in MEANS)])
def test_the_numbers_are_what_this_file_calls_them(name: str) -> None:
    is_mean = name.startswith("mean: ")
    number = MEANS[name.removeprefix("mean: ")] if is_mean else SUMS[name]
    x, y, v, w = batches()
    one, other = float(number(x, y)), float(number(v, w))
    whole = float(number(np.concatenate([x, v]), np.concatenate([y, w])))
    parts = (ROWS * one + 3 * other) / (ROWS + 3) if is_mean else one + other
    assert whole == pytest.approx(parts, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", ACROSS)
def test_no_parts_make_up_what_looks_across_the_rows(name: str) -> None:
    if name in ("cumulative", "folded"):
        pytest.skip("sums, which nobody can tell to be one")
    number = ACROSS[name]
    x, y, v, w = batches()
    one, other = float(number(x, y)), float(number(v, w))
    whole = float(number(np.concatenate([x, v]), np.concatenate([y, w])))
    for parts in ((ROWS * one + 3 * other) / (ROWS + 3), one + other):
        assert whole != pytest.approx(parts, rel=1e-3)
