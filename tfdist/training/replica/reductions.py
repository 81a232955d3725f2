"""Whether a number of a step is a mean over the replica's rows or a sum over them.

Means of the replicas make the whole's by their shares; sums add up as they are. Keras' losses say
which they are. Of what a step computes itself the graph tells (`row_flow`): what does not grow with
the number of rows is a mean, what grows as it does is a sum, and so is a target that has rows
still, whose entries' gradients TensorFlow adds up. What is put together of both is taken apart.

Where the number of rows is a part of the graph (a dataset of whole batches only), a division by a
constant may be one by the rows: a sum that is divided by a multiple of them counts as a mean then.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfdist.compat import tf_graphs
from tfdist.training.replica import row_entries
from tfdist.training.replica.replication import Kind
from tfdist.training.replica.row_flow import Flow, RowFlow
from tfdist.training.replica.row_rules import RULES
from tfdist.training.replica.step import ReplicaStep
from tfdist.training.replica.terms import Term, Terms

__all__ = ["flow_of", "may_count_rows", "parts_of", "warn_of", "warn_of_rows", "weighted_part"]

_CURE = "take tfdist.gather_batch first"


def _terms(step: ReplicaStep) -> Terms:
    """What takes a step's numbers apart, by all that is known by now."""
    known = (step.replication.marks, len(step.means), len(step.with_rows))
    if step.terms is None or step.terms[0] != known:
        flow = RowFlow(
            RULES,
            row_entries.otherwise,
            None if step.rows is None else step.rows.static,
            lambda one: step.replication.peek(one) is Kind.REPLICATED,
            lambda one: id(one) in step.means,
            lambda one: id(one) in step.with_rows,
        )
        step.terms = (known, Terms(flow, step.share))
    return step.terms[1]


def flow_of(step: ReplicaStep, value: tf.Tensor) -> Flow:
    """What a tensor of a step has of the rows; of no use where the step runs eagerly."""
    return _terms(step).flow.of(value)


def parts_of(step: ReplicaStep, value: tf.Tensor, slopes: bool = True) -> list[Term]:
    """Takes a target apart into the sums and the means that it is made of.

    Args:
        step: the current step.
        value: a tensor of any shape.
        slopes: whether it is the gradients that are to be those of the whole, or the number.

    Returns:
        Terms: times their weights, they are this replica's part of the whole.
    """
    if tf_graphs.is_symbolic(value):
        return _terms(step).of(value, None, slopes)
    is_mean = id(value) in step.means or step.rows is None or not value.shape.rank
    has_rows = not is_mean and value.shape[0] == step.rows.static  # type: ignore[union-attr]
    return [Term.of(value, step.share, None, adds_up=has_rows)]


def weighted_part(step: ReplicaStep, value: tf.Tensor) -> tf.Tensor:
    """Returns this replica's part of a number: the sum over the replicas is one machine's."""
    if not value.dtype.is_floating:
        value = tf.cast(value, tf.float32)
    terms = parts_of(step, value, slopes=False)
    return tf.add_n([step.if_present(term.value * term.weight) for term in terms])


def warn_of(step: ReplicaStep, terms: Sequence[Term], what: str) -> None:
    """Says so where the replicas' parts do not make up a number, as far as tfdist can tell.

    Args:
        step: the current step.
        terms: of the number.
        what: it is, in a few words.
    """
    if step.rows is not None:
        _terms(step).warn(terms, what, _CURE)


def warn_of_rows(step: ReplicaStep, values: tf.Tensor, what: str) -> None:
    """Says so where numbers of the rows are computed of others, too, but of the replica's alone.

    Args:
        step: the current step.
        values: a number for each row, or several.
        what: they are, in a few words.
    """
    if step.rows is not None:
        _terms(step).warn_of_rows(values, what, _CURE)


def may_count_rows(step: ReplicaStep, number: tf.Tensor) -> bool:
    """Whether a constant may be the number of the replica's rows, or of entries."""
    assert step.rows is not None
    return row_entries.may_count(number, step.rows.static)
