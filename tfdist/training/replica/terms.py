"""A number of a step, taken apart into the sums and the means over rows that it is made of.

With the share of the rows that they were computed of, these make a part of the whole batch's
number: a mean by the share, a sum as it is.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence

import tensorflow as tf

from tfdist import log
from tfdist.compat import tf_graphs
from tfdist.training.replica.row_flow import Flow, RowFlow
from tfdist.user_frames import last_own_line

__all__ = ["Term", "Terms"]


@dataclasses.dataclass(frozen=True)
class Term:
    """A term of a number.

    Attributes:
        value: what it is.
        weight: what it is to be multiplied by to be a part of the whole.
        by_share: whether the share is in that.
    """

    value: tf.Tensor
    weight: tf.Tensor
    by_share: bool

    @classmethod
    def of(
        cls, value: tf.Tensor, share: tf.Tensor, factor: tf.Tensor | None, adds_up: bool
    ) -> Term:
        """Returns a sum, or a mean, times a factor."""
        weight = tf.ones((), value.dtype) if adds_up else tf.cast(share, value.dtype)
        return cls(value, weight if factor is None else weight * factor, not adds_up)


_REPLICA = re.compile(r"^replica_\d+/")


def _is_mixed(flow: Flow) -> bool:
    return flow.mixed


def _is_inexact(flow: Flow) -> bool:
    return flow.varies and not flow.exact


def _is_of_any_degree(flow: Flow) -> bool:
    return flow.varies and not flow.has_rows and not (flow.exact and flow.degree in (0, 1))


@dataclasses.dataclass(frozen=True)
class Terms:
    """Takes numbers apart.

    Attributes:
        flow: follows the rows through their graph.
        share: of the rows of the whole batch.
    """

    flow: RowFlow
    share: tf.Tensor

    def warn(self, terms: Sequence[Term], what: str, cure: str) -> None:
        """Says so where parts do not make up a number, as far as tfdist can tell.

        Args:
            terms: of the number.
            what: it is, in a few words.
            cure: what to do where it looks across the rows.
        """
        for term in terms:
            if not tf_graphs.is_symbolic(term.value):
                continue
            flow = self.flow.of(term.value)
            if flow.mixed or flow.has_rows or flow.degree == 0:
                self.warn_of_rows(term.value, what, cure)
            elif not (flow.exact and flow.degree == 1):
                where = self._where(term.value, _is_of_any_degree)
                log.warning_once(
                    "%s may be a mean over the rows of a batch or a sum over them (%s), and counts "
                    "as a mean: write it with tf.reduce_mean or tf.reduce_sum, or see by tfdist "
                    "verify what it changes",
                    what,
                    where,
                    about=where,
                )

    def warn_of_rows(self, value: tf.Tensor, what: str, cure: str) -> None:
        """Says so of rows, or of a mean of them, that are not each computed of its own row.

        Of what it cannot follow, as the rows of ragged tensors, it says nothing.

        Args:
            value: the rows, or the mean.
            what: they are, in a few words.
            cure: what to do.
        """
        if not tf_graphs.is_symbolic(value):
            return
        flow = self.flow.of(value)
        known = flow.degree is not None and (flow.has_rows or flow.degree == 0)
        if flow.mixed or (known and not flow.exact):
            where = self._where(value, _is_mixed if flow.mixed else _is_inexact)
            log.warning_once(
                "%s is computed across the rows of a batch, but of each part of it by itself (%s): "
                "%s, or see by tfdist verify what it changes",
                what,
                where,
                cure,
                about=where,
            )

    def _where(self, value: tf.Tensor, is_so: Callable[[Flow], bool]) -> str:
        """The user's line that first makes it so; of a layer of Keras' the operation in it."""
        operation = self.flow.origin(value, is_so).op
        scope, _, _ = _REPLICA.sub("", operation.name).rpartition("/")
        layer = f"{operation.type} in {scope}" if scope else str(operation.type)
        return last_own_line(operation.traceback or ()) or layer

    def of(
        self, value: tf.Tensor, factor: tf.Tensor | None = None, slopes: bool = True
    ) -> list[Term]:
        """The terms of a tensor, times a factor.

        Args:
            value: the tensor, of any shape.
            factor: what it is to be multiplied by; None for 1.
            slopes: whether it is the gradients that are to be the whole's, or the number: what
                varies with a variable beside it is a term of the former only.
        """
        found: list[Term] = []
        waiting = [(value, factor)]
        while waiting:  # additions are many, one behind the other
            one, times = waiting.pop()
            flow = self.flow.of(one)
            if flow.degree is not None or flow.has_rows or one.shape.rank != 0:
                adds_up = flow.has_rows or flow.degree == 1
                found.append(Term.of(one, self.share, times, adds_up))
                continue
            inputs = list(one.op.inputs)
            if one.op.type in ("AddN", "AddV2", "Add", "Identity"):
                waiting += [(addend, times) for addend in reversed(inputs)]
            elif one.op.type in ("Neg", "Sub"):
                minus = -tf.ones((), one.dtype) if times is None else -times
                waiting.append((inputs[-1], minus))
                waiting += [(inputs[0], times)] if len(inputs) == 2 else []
            elif one.op.type in ("Reshape", "Squeeze") and inputs[0].shape.rank == 0:
                waiting.append((inputs[0], times))
            else:
                found += self._other(one, times, slopes)
        return found

    def _other(self, value: tf.Tensor, factor: tf.Tensor | None, slopes: bool) -> list[Term]:
        """The terms of what is no sum of two numbers."""
        operation = value.op
        inputs = list(operation.inputs)
        if operation.type in ("Sum", "Mean") and inputs[0].op.type == "Pack":
            packed = list(inputs[0].op.inputs)
            if all(one.shape.rank == 0 for one in packed):
                if operation.type == "Mean":
                    each = tf.ones((), value.dtype) / len(packed)
                    factor = each if factor is None else factor * each
                return [term for one in packed for term in self.of(one, factor, slopes)]
        if operation.type in ("Mul", "RealDiv", "DivNoNan"):
            fixed = [not self.flow.of(one).varies for one in inputs]
            if any(fixed) and all(one.shape.rank == 0 for one in inputs):
                return self._times(operation, factor, 0 if fixed[0] else 1, slopes)
        return [Term.of(value, self.share, factor, False)]

    def _times(
        self, operation: tf.Operation, factor: tf.Tensor | None, fixed: int, slopes: bool
    ) -> list[Term]:
        """The terms of a product, or quotient, one input of which is the same for all rows."""
        number, mixed = operation.inputs[fixed], operation.inputs[1 - fixed]
        if operation.type == "Mul":
            times, slope = number, tf.ones((), number.dtype)
        elif fixed == 1:
            times = tf.math.divide_no_nan(tf.ones((), number.dtype), number)
            slope = -times * times
        else:
            return [Term.of(operation.outputs[0], self.share, factor, False)]
        terms = self.of(mixed, times if factor is None else times * factor, slopes)
        if slopes and tf_graphs.constant_value(number) is None:  # it may depend on variables itself
            parts = [term.value * term.weight for term in self.of(mixed, factor, slopes=False)]
            part = tf.stop_gradient(tf.add_n(parts))
            terms.append(Term(number, slope * part, terms[0].by_share))
        return terms
