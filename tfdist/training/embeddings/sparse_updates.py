"""Optimizer updates of sharded tables, where the tables are.

By default they touch only the looked-up rows; the rules of the optimizers are in `sparse_rules`.
Exact ones are Keras' own, of whole shards. The slots are the ones that Keras' optimizer has made,
so that saving keeps them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfdist.compat import keras_optimizers
from tfdist.errors import PlugError
from tfdist.structures import Gradient
from tfdist.training.embeddings.lookup import unique_rows
from tfdist.training.embeddings.sharded_embedding import ShardedEmbedding
from tfdist.training.embeddings.sparse_rules import TableRows, is_elementwise, rule_of
from tfdist.training.embeddings.table_slots import find_slots, keep_files_plain

__all__ = ["SparseUpdates"]

Pairs = Sequence[tuple[Gradient, keras.Variable]]


class SparseUpdates:
    """The updates of all sharded tables of a model by its optimizer.

    Args:
        optimizer: the model's optimizer, built or not.
        layers: the sharded layers; not trainable ones are left alone.
        exact: has Keras' own code update every row at every step, with the numbers of one process.
            The gradients are to hold each lookup by itself (`ShardedEmbedding.keep_lookups_apart`).

    Example:
        >>> updates = SparseUpdates(model.optimizer, sharded_embeddings(model))
        >>> updates.check()
        >>> updates.keep_files_plain()  # when the optimizer is built
        >>> gradients = updates.clip(gradients, variables)
        >>> sparse, dense = updates.split(gradients, variables)
        >>> updates.apply(updates.ready(sparse), optimizer.learning_rate, optimizer.iterations)
    """

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        layers: Sequence[ShardedEmbedding],
        exact: bool = False,
    ) -> None:
        self._optimizer = optimizer
        self._exact = exact
        self._tables = [layer.table for layer in layers]
        self._table_of = {id(s): table for table in self._tables for s in table.shards}
        self._slots: dict[tuple[int, str], keras.Variable] = {}

    def check(self) -> None:
        """Checks that the optimizer's update of a table in parts can be right.

        Raises:
            PlugError: it cannot.
        """
        optimizer = self._optimizer
        kind = type(optimizer).__name__
        if not self._tables:
            return
        if self._exact and not is_elementwise(optimizer):
            raise PlugError(
                f"the optimizer {kind} was given for sharded embeddings, which it would have to "
                "see whole: use SGD, Adagrad, Adam, AdamW, Ftrl, RMSprop, Adadelta, Adamax, Lion "
                "or Nadam of keras.optimizers as it is, or keep the tables whole by a larger size "
                "threshold"
            )
        if not self._exact and rule_of(optimizer) is None:
            raise PlugError(
                f"the optimizer {kind} was given for sharded embeddings, whose updates are sparse: "
                "use SGD, Adagrad, Adam, AdamW, Ftrl or RMSprop of keras.optimizers as it is, or "
                "keep the tables whole by a larger size threshold"
            )
        asked = {
            "use_ema": optimizer.use_ema,
            "gradient_accumulation_steps": optimizer.gradient_accumulation_steps,
            "loss_scale_factor": optimizer.loss_scale_factor,
        }
        for name, value in asked.items():
            if value:
                raise PlugError(
                    f"the optimizer {kind} has {name}={value}, which needs whole tables at every "
                    f"step, and the model has sharded embeddings: leave {name} away, or keep the "
                    "tables whole by a larger size threshold"
                )
        if optimizer.weight_decay:
            self._check_weight_decay()

    def _check_weight_decay(self) -> None:
        optimizer = self._optimizer
        kind = f"the optimizer {type(optimizer).__name__}"
        if self._exact and keras_optimizers.excludes_unknown_variables(optimizer):
            raise PlugError(
                f"{kind} was told by exclude_from_weight_decay(var_list=...) of a variable that it "
                "does not train, perhaps a table that is sharded now: name variables by "
                "var_names=... instead"
            )
        if not self._exact and any(
            keras_optimizers.decays(optimizer, s.value)
            for table in self._tables
            for s in table.shards
        ):
            raise PlugError(
                f"{kind} has weight_decay={optimizer.weight_decay}, which changes every row of a "
                "sharded embedding at every step: call optimizer."
                'exclude_from_weight_decay(var_names=["embeddings"]) before plug, use none, or '
                "give tfdist.plug(model, exact_embeddings=True)"
            )

    # ------------------------------------------------------------ a step

    def split(
        self, gradients: Sequence[Gradient], variables: Sequence[keras.Variable]
    ) -> tuple[list[tuple[Any, Any]], list[tuple[Any, Any]]]:
        """Returns the (gradient, variable) pairs of the shards, and those of all other variables.

        Shards without a gradient are left out.
        """
        sparse, dense = [], []
        for gradient, variable in zip(gradients, variables, strict=True):
            if id(variable) not in self._table_of:
                dense.append((gradient, variable))
            elif gradient is not None:
                sparse.append((gradient, variable))
        return sparse, dense

    def clip(self, gradients: Sequence[Gradient], variables: Sequence[keras.Variable]) -> list[Any]:
        """Clips all gradients of a step as the optimizer would with each table in one variable.

        Clipping twice changes nothing: the dense ones may go through the optimizer's own `apply`
        afterwards. Lookups of one id in a batch are summed before, those of tables unless the
        updates are exact. Where they are not, they count as for Keras: `clipvalue` and the norms
        take each by itself, and `global_clipnorm` sums them after.

        Args:
            gradients: one a variable: tensors, `tf.IndexedSlices` or None.
            variables: the Keras variables, shards and others.

        Returns:
            The clipped gradients, on the device where this is called.
        """
        optimizer = self._optimizer
        gradients = [
            _summed(g) if id(v) in self._table_of and not self._exact else g
            for g, v in zip(gradients, variables, strict=True)
        ]
        if optimizer.clipvalue:
            limit = optimizer.clipvalue
            return [_map(g, lambda v: tf.clip_by_value(v, -limit, limit)) for g in gradients]
        limit = optimizer.clipnorm or optimizer.global_clipnorm
        if not limit:
            return gradients
        groups: dict[int, list[int]] = {}
        for i, variable in enumerate(variables):
            whole = self._table_of.get(id(variable), variable)
            if gradients[i] is not None:
                groups.setdefault(id(whole) if optimizer.clipnorm else 0, []).append(i)
        for members in groups.values():
            squares = [tf.reduce_sum(tf.square(_values(gradients[i]))) for i in members]
            exact = tf.float64 if any(s.dtype == tf.float64 for s in squares) else tf.float32
            norm = tf.sqrt(tf.add_n([tf.cast(square, exact) for square in squares]))
            factor = limit / tf.maximum(norm, limit)
            scale = functools.partial(_scaled, factor)
            for i in members:
                gradients[i] = _map(gradients[i], scale)
        return [_summed(g) for g in gradients] if optimizer.global_clipnorm else gradients

    def ready(self, pairs: Pairs) -> list[tuple[Gradient, keras.Variable]]:
        """Gets gradients ready for `apply`: each row once, unless the updates are exact.

        To be called where the gradients are (on the worker), eagerly or while a step is traced.

        Args:
            pairs: gradients, clipped if need be, and their shards.

        Raises:
            PlugError: a shard's gradient is dense, the loss reads the whole table, and the updates
                are not exact.
        """
        return [(g if self._exact else _sparse(g, variable), variable) for g, variable in pairs]

    def apply(self, pairs: Pairs, learning_rate: tf.Tensor, step: tf.Tensor) -> None:
        """Updates the touched rows of the shards and of their slots; all rows if that is exact.

        Args:
            pairs: what `ready` has returned.
            learning_rate: the current one, a scalar.
            step: steps done before this one (`optimizer.iterations`), a scalar integer.
        """
        if self._exact:
            for gradient, variable in pairs:
                with tf.device(variable.value.device):
                    self._optimizer.update_step(gradient, variable.value, learning_rate)
            return
        rule = rule_of(self._optimizer)
        assert rule is not None, "check() has refused it"
        if not self._slots:
            self._slots = find_slots(self._optimizer, self._tables)
        for gradient, variable in pairs:
            rate = tf.cast(tf.convert_to_tensor(learning_rate), variable.value.dtype)
            slots = {n: s.value for (of, n), s in self._slots.items() if of == id(variable)}
            rows = TableRows(variable.value, slots, gradient.indices, gradient.values)
            rule(rows, self._optimizer, rate, step)

    # ------------------------------------------------------------ files

    def keep_files_plain(self) -> None:
        """Has the optimizer write and read its slots as if each table were one variable."""
        keep_files_plain(self._optimizer, self._tables)


def _sparse(gradient: Gradient, variable: keras.Variable) -> tf.IndexedSlices:
    """A shard's gradient with each row once, of the shard's type."""
    if not isinstance(gradient, tf.IndexedSlices):
        raise PlugError(
            f"the gradient of {variable.path} is dense: the loss reads a sharded table whole (a "
            "penalty, or tied weights); look rows up instead, keep the table whole by a larger "
            "size threshold, or give tfdist.plug(model, exact_embeddings=True)"
        )
    once = unique_rows(gradient)
    values = tf.cast(once.values, variable.value.dtype)
    return tf.IndexedSlices(values, once.indices, once.dense_shape)


def _summed(gradient: Gradient) -> Any:
    """Slices with each row once."""
    return unique_rows(gradient) if isinstance(gradient, tf.IndexedSlices) else gradient


def _values(gradient: Gradient) -> tf.Tensor:
    return gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient


def _scaled(factor: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    return values * tf.cast(factor, values.dtype)


def _map(gradient: Gradient, function: Callable[[tf.Tensor], tf.Tensor]) -> Any:
    if gradient is None:
        return None
    if isinstance(gradient, tf.IndexedSlices):
        values = function(gradient.values)
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return function(gradient)
