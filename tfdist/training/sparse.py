"""Optimizer updates that touch only the looked-up rows of a sharded table, where the table is.

Every update runs on the server that holds the shard and its slots: indices and gradient rows
travel there, and nothing travels back. The slots are the ones that Keras' optimizer has made, so
that saving keeps them.

| optimizer | how | beside Keras' dense update |
|---|---|---|
| SGD | `ResourceScatterAdd` | the same |
| SGD with momentum | `ResourceSparseApplyKerasMomentum` | lazy: other rows do not go on moving |
| Adagrad | `ResourceSparseApplyAdagradV2` | the same, to rounding (see `_adagrad`) |
| Adam, AdamW | gather, `ResourceScatterAdd` | lazy: moments of other rows do not decay |
| Ftrl | `ResourceSparseApplyFtrlV2` | the same, for rows that were ever looked up; the dense \
update sets the others to 0 at the first step, this one leaves them as they were initialised |
| RMSprop | gather, `ResourceScatterAdd` | lazy, as Adam |

All lazy forms equal the dense update where every row is touched at every step.

**Asynchrony.** The three kernels hold their variables' locks: two workers' updates of one row are
one after the other. Scatters do not: each adds (never overwrites what it has not read), but two
workers that add to the same element within the same nanoseconds can lose one of the two additions,
and Adam's and RMSprop's steps may see a row's moments between two updates of another worker.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfdist.errors import PlugError
from tfdist.training.embedding import ShardedEmbedding, Table, unique_rows

__all__ = ["SparseUpdates"]

Pairs = Sequence[tuple[keras.Variable, tf.IndexedSlices]]


class SparseUpdates:
    """The updates of all sharded tables of a model by its optimizer.

    Args:
        optimizer: the model's optimizer, built or not.
        layers: the sharded layers; not trainable ones are left alone.

    Example:
        >>> updates = SparseUpdates(model.optimizer, sharded_embeddings(model))
        >>> updates.check()
        >>> updates.keep_files_plain()  # when the optimizer is built
        >>> gradients = updates.clip(gradients, variables)
        >>> sparse, dense = updates.split(gradients, variables)
        >>> updates.apply(sparse, optimizer.learning_rate, optimizer.iterations)
    """

    def __init__(self, optimizer: Any, layers: Sequence[ShardedEmbedding]) -> None:
        self._optimizer = optimizer
        self._tables = [layer.table for layer in layers]
        self._table_of = {id(s): table for table in self._tables for s in table.shards}
        self._slots: dict[tuple[int, str], keras.Variable] = {}

    def check(self) -> None:
        """Checks that the optimizer's update can be sparse and right.

        Raises:
            PlugError: it cannot.
        """
        optimizer = self._optimizer
        kind = type(optimizer).__name__
        if not self._tables:
            return
        if _rule_of(optimizer) is None:
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
        if optimizer.weight_decay and any(
            optimizer._use_weight_decay(s.value) for table in self._tables for s in table.shards
        ):
            raise PlugError(
                f"the optimizer {kind} has weight_decay={optimizer.weight_decay}, which changes "
                "every row of a sharded embedding at every step: call optimizer."
                'exclude_from_weight_decay(var_names=["embeddings"]) before plug, or use none'
            )

    # ------------------------------------------------------------ a step

    def split(
        self, gradients: Sequence[Any], variables: Sequence[keras.Variable]
    ) -> tuple[list[tuple[Any, Any]], list[tuple[Any, Any]]]:
        """Returns the (variable, gradient) pairs of the shards, and those of all other variables.

        Shards without a gradient are left out.
        """
        sparse, dense = [], []
        for gradient, variable in zip(gradients, variables, strict=True):
            if id(variable) not in self._table_of:
                dense.append((variable, gradient))
            elif gradient is not None:
                sparse.append((variable, gradient))
        return sparse, dense

    def clip(self, gradients: Sequence[Any], variables: Sequence[keras.Variable]) -> list[Any]:
        """Clips all gradients of a step as the optimizer would with each table in one variable.

        Clipping twice changes nothing: the dense ones may go through the optimizer's own `apply`
        afterwards. Norms are those of gradients summed over duplicate ids.

        Args:
            gradients: one a variable: tensors, `tf.IndexedSlices` or None.
            variables: the Keras variables, shards and others.

        Returns:
            The clipped gradients, on the device where this is called.
        """
        optimizer = self._optimizer
        gradients = [unique_rows(g) if isinstance(g, tf.IndexedSlices) else g for g in gradients]
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
        return gradients

    def apply(self, pairs: Pairs, learning_rate: Any, step: Any) -> None:
        """Updates the touched rows of the shards and of their slots.

        To be called where the gradients are (on the worker), eagerly or while a step is traced.

        Args:
            pairs: shards and their gradients, clipped if need be; dense gradients are refused.
            learning_rate: the current one, a scalar.
            step: steps done before this one (`optimizer.iterations`), a scalar integer.

        Raises:
            PlugError: a shard's gradient is dense: the loss reads the whole table.
        """
        rule = _rule_of(self._optimizer)
        assert rule is not None, "check() has refused it"
        if not self._slots:
            self._slots = _find_slots(self._optimizer, self._tables)
        step = tf.cast(tf.convert_to_tensor(step), tf.float32)
        for variable, gradient in pairs:
            if not isinstance(gradient, tf.IndexedSlices):
                raise PlugError(
                    f"the gradient of {variable.path} is dense: the loss reads a sharded table "
                    "whole (a penalty, or tied weights); look rows up instead, or keep the table "
                    "whole by a larger size threshold"
                )
            dtype = variable.value.dtype
            gradient = unique_rows(gradient)
            slots = {n: s.value for (of, n), s in self._slots.items() if of == id(variable)}
            rate = tf.cast(tf.convert_to_tensor(learning_rate), dtype)
            values = tf.cast(gradient.values, dtype)
            rule(
                _Rows(variable.value, slots, gradient.indices, values), self._optimizer, rate, step
            )

    # ------------------------------------------------------------ files

    def keep_files_plain(self) -> None:
        """Has the optimizer write and read its slots as if each table were one variable.

        Its `save_own_variables` and `load_own_variables` are replaced on the object. Files then
        fit plain Keras and any number of shards.
        """
        optimizer = self._optimizer

        def save_own_variables(store: Any) -> None:
            for i, variable in enumerate(self._as_plain()):
                store[str(i)] = variable.numpy()

        def load_own_variables(store: Any) -> None:
            whole = self._as_plain()
            if len(store.keys()) != len(whole):
                type(optimizer).load_own_variables(optimizer, store)  # warns, loads nothing
                return
            for i, variable in enumerate(whole):
                variable.assign(store[str(i)])

        object.__setattr__(optimizer, "save_own_variables", save_own_variables)
        object.__setattr__(optimizer, "load_own_variables", load_own_variables)

    def _as_plain(self) -> list[keras.Variable | Table]:
        """The optimizer's variables, the slots of a table's shards as one."""
        slots = _find_slots(self._optimizer, self._tables)
        names = {id(slot): (of, name) for (of, name), slot in slots.items()}
        found: list[keras.Variable | Table] = []
        seen: set[tuple[int, str]] = set()
        for variable in self._optimizer.variables:
            if id(variable) not in names:
                found.append(variable)
                continue
            of, name = names[id(variable)]
            table = self._table_of[of]
            if (id(table), name) not in seen:
                seen.add((id(table), name))
                found.append(Table([slots[id(s), name] for s in table.shards], name))
        return found


# ---------------------------------------------------------------- slots


def _find_slots(optimizer: Any, tables: Sequence[Table]) -> dict[tuple[int, str], keras.Variable]:
    """The optimizer's slots of all shards, by the shard's identity and the slot's name.

    Keras names a slot `<path of the variable, / as _>_<name of the slot>`. Variables of the same
    path have their slots in the order of the variables.
    """
    by_name: dict[str, list[keras.Variable]] = {}
    for variable in optimizer.variables:
        by_name.setdefault(variable.name, []).append(variable)
    found: dict[tuple[int, str], keras.Variable] = {}
    taken: dict[str, int] = {}
    for table in tables:
        for shard in table.shards:
            for slot in _SLOT_NAMES:
                name = f"{shard.path.replace('/', '_')}_{slot}"
                candidates, place = by_name.get(name, []), taken.get(name, 0)
                if place < len(candidates):
                    found[id(shard), slot] = candidates[place]
                    taken[name] = place + 1
    return found


_SLOT_NAMES = (
    "momentum",
    "velocity",
    "velocity_hat",
    "accumulator",
    "linear",
    "average_gradient",
)


# ---------------------------------------------------------------- the optimizers' rules


@dataclasses.dataclass(frozen=True)
class _Rows:
    """The touched rows of one shard, and what to do with them on its server.

    Attributes:
        variable: the shard.
        slots: its slots by name, on the same server.
        indices: which rows, each once.
        gradient: their gradients.
    """

    variable: tf.Variable
    slots: dict[str, tf.Variable]
    indices: tf.Tensor
    gradient: tf.Tensor

    def there(self) -> Any:
        return tf.device(self.variable.device)

    def read(self, slot: str) -> tf.Tensor:
        return tf.gather(self.slots[slot], self.indices)

    def add(self, variable: tf.Variable, values: tf.Tensor) -> None:
        tf.raw_ops.ResourceScatterAdd(
            resource=variable.handle, indices=self.indices, updates=values
        )

    def kernel(self, kernel: Callable[..., Any], slots: dict[str, str], **kwargs: Any) -> None:
        handles = {argument: self.slots[name].handle for argument, name in slots.items()}
        kernel(
            var=self.variable.handle,
            grad=self.gradient,
            indices=self.indices,
            use_locking=True,
            **handles,
            **kwargs,
        )


def _sgd(rows: _Rows, optimizer: Any, rate: tf.Tensor, step: tf.Tensor) -> None:
    del step
    if not optimizer.momentum:
        scaled = -rate * rows.gradient  # on the worker: one message fewer
        with rows.there():
            rows.add(rows.variable, scaled)
        return
    with rows.there():
        rows.kernel(
            tf.raw_ops.ResourceSparseApplyKerasMomentum,
            {"accum": "momentum"},
            lr=rate,
            momentum=tf.cast(optimizer.momentum, rate.dtype),  # as Keras rounds it
            use_nesterov=bool(optimizer.nesterov),
        )


def _adagrad(rows: _Rows, optimizer: Any, rate: tf.Tensor, step: tf.Tensor) -> None:
    """Keras divides by sqrt(a + epsilon), TensorFlow's kernel by sqrt(a) + epsilon'.

    With epsilon' = epsilon / (2 sqrt(a0)) and a >= a0, the initial accumulator, they differ by less
    than epsilon / (8 a0) of an update: less than rounding for Keras' defaults (1e-7 and 0.1).
    """
    del step
    smallest, epsilon = optimizer.initial_accumulator_value, optimizer.epsilon
    with rows.there():
        if smallest > 0 and epsilon <= 1e-6 * smallest and rate.dtype == tf.float32:
            rows.kernel(
                tf.raw_ops.ResourceSparseApplyAdagradV2,
                {"accum": "accumulator"},
                lr=rate,
                epsilon=tf.constant(epsilon / (2 * smallest**0.5), rate.dtype),
                update_slots=True,
            )
            return
        rows.add(rows.slots["accumulator"], tf.square(rows.gradient))
        rows.add(
            rows.variable,
            -rate * rows.gradient / tf.sqrt(rows.read("accumulator") + epsilon),
        )


def _adam(rows: _Rows, optimizer: Any, rate: tf.Tensor, step: tf.Tensor) -> None:
    """Lazy Adam; bias correction counts all steps (Kingma and Ba, 2015, section 2)."""
    beta_1, beta_2 = optimizer.beta_1, optimizer.beta_2
    number = tf.cast(step, rate.dtype) + 1
    power_1 = tf.pow(tf.cast(beta_1, rate.dtype), number)
    power_2 = tf.pow(tf.cast(beta_2, rate.dtype), number)
    alpha = -rate * tf.sqrt(1 - power_2) / (1 - power_1)
    with rows.there():
        gradient = rows.gradient
        old_m, old_v = rows.read("momentum"), rows.read("velocity")
        more_m = (gradient - old_m) * (1 - beta_1)
        more_v = (tf.square(gradient) - old_v) * (1 - beta_2)
        rows.add(rows.slots["momentum"], more_m)
        rows.add(rows.slots["velocity"], more_v)
        velocity = old_v + more_v
        if optimizer.amsgrad:
            hat = rows.slots["velocity_hat"]
            tf.raw_ops.ResourceScatterMax(
                resource=hat.handle, indices=rows.indices, updates=velocity
            )
            velocity = rows.read("velocity_hat")
        rows.add(rows.variable, alpha * (old_m + more_m) / (tf.sqrt(velocity) + optimizer.epsilon))


def _ftrl(rows: _Rows, optimizer: Any, rate: tf.Tensor, step: tf.Tensor) -> None:
    """Ftrl-proximal (McMahan et al., 2013, algorithm 1)."""
    del step
    l2 = optimizer.l2_regularization_strength + optimizer.beta / (2.0 * rate)
    with rows.there():
        rows.kernel(
            tf.raw_ops.ResourceSparseApplyFtrlV2,
            {"accum": "accumulator", "linear": "linear"},
            lr=rate,
            l1=tf.constant(optimizer.l1_regularization_strength, rate.dtype),
            l2=tf.cast(l2, rate.dtype),
            l2_shrinkage=tf.constant(optimizer.l2_shrinkage_regularization_strength, rate.dtype),
            lr_power=tf.constant(optimizer.learning_rate_power, rate.dtype),
        )


def _rmsprop(rows: _Rows, optimizer: Any, rate: tf.Tensor, step: tf.Tensor) -> None:
    del step
    rest = 1 - optimizer.rho
    with rows.there():
        gradient = rows.gradient
        old = rows.read("velocity")
        more = rest * (tf.square(gradient) - old)
        rows.add(rows.slots["velocity"], more)
        under = old + more + optimizer.epsilon
        if optimizer.centered:
            old = rows.read("average_gradient")
            more = rest * (gradient - old)
            rows.add(rows.slots["average_gradient"], more)
            under -= tf.square(old + more)
        move = rate * gradient / tf.sqrt(under)
        if optimizer.momentum > 0:
            old = rows.read("momentum")
            more = (optimizer.momentum - 1) * old + move
            rows.add(rows.slots["momentum"], more)
            move = old + more
        rows.add(rows.variable, -move)


Rule = Callable[[_Rows, Any, tf.Tensor, tf.Tensor], None]

_RULES: dict[type[Any], Rule] = {
    keras.optimizers.SGD: _sgd,
    keras.optimizers.Adagrad: _adagrad,
    keras.optimizers.Adam: _adam,
    keras.optimizers.Ftrl: _ftrl,
    keras.optimizers.RMSprop: _rmsprop,
}


def _rule_of(optimizer: Any) -> Rule | None:
    """The rule that does what the optimizer's `update_step` does; None if it has one of its own."""
    own = getattr(type(optimizer), "update_step", None)
    return next((rule for kind, rule in _RULES.items() if kind.update_step is own), None)


def _values(gradient: Any) -> tf.Tensor:
    return gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient


def _scaled(factor: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    return values * tf.cast(factor, values.dtype)


def _map(gradient: Any, function: Callable[[tf.Tensor], tf.Tensor]) -> Any:
    if gradient is None:
        return None
    if isinstance(gradient, tf.IndexedSlices):
        values = function(gradient.values)
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return function(gradient)
