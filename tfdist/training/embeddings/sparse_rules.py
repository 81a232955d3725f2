"""How each optimizer updates the looked-up rows of a sharded table.

Every update runs on the server that holds the shard and its slots: indices and gradient rows
travel there, and nothing travels back.

| optimizer | how | beside Keras' dense update |
|---|---|---|
| SGD | `ResourceScatterAdd` | the same |
| SGD with momentum | `ResourceSparseApplyKerasMomentum` | lazy: other rows do not go on moving |
| Adagrad | `ResourceSparseApplyAdagradV2` | the same, to rounding (see `_adagrad`) |
| Adam, AdamW | gather, `ResourceScatterAdd` | lazy: moments of other rows do not decay |
| Ftrl | `ResourceSparseApplyFtrlV2` | the same, for rows that were ever looked up; the dense \
update sets the others to 0 at the first step, this one leaves them as they were initialised |
| RMSprop | gather, `ResourceScatterAdd` | lazy, as Adam |

All lazy forms equal the dense update where every row is touched at every step. An id that a batch
has several times counts by the sum of its gradients; Keras squares each of them by itself. Where
the update shall be exact (`SparseUpdates`), none of these rules is used: Keras' own code runs.

**Asynchrony.** The three kernels hold their variables' locks: two workers' updates of one row are
one after the other. Scatters do not: each adds (never overwrites what it has not read), but two
workers that add to the same element within the same nanoseconds can lose one of the two additions,
and Adam's and RMSprop's steps may see a row's moments between two updates of another worker.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

__all__ = ["TableRows", "counts_apart", "is_elementwise", "rule_of"]


@dataclasses.dataclass(frozen=True)
class TableRows:
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
        """Places operations on the shard's server."""
        return tf.device(self.variable.device)

    def read(self, slot: str) -> tf.Tensor:
        """Returns the rows of a slot."""
        return tf.gather(self.slots[slot], self.indices)

    def add(self, variable: tf.Variable, values: tf.Tensor) -> None:
        """Adds to the rows of the shard or of a slot."""
        tf.raw_ops.ResourceScatterAdd(
            resource=variable.handle, indices=self.indices, updates=values
        )

    def kernel(self, kernel: Callable[..., Any], slots: dict[str, str], **kwargs: Any) -> None:
        """Updates the rows by a kernel of TensorFlow's; `slots` are its arguments' slots."""
        handles = {argument: self.slots[name].handle for argument, name in slots.items()}
        kernel(
            var=self.variable.handle,
            grad=self.gradient,
            indices=self.indices,
            use_locking=True,
            **handles,
            **kwargs,
        )


def _sgd(
    rows: TableRows, optimizer: keras.optimizers.Optimizer, rate: tf.Tensor, step: tf.Tensor
) -> None:
    del step
    if not optimizer.momentum:
        with rows.there():
            rows.add(rows.variable, -rate * rows.gradient)
        return
    with rows.there():
        rows.kernel(
            tf.raw_ops.ResourceSparseApplyKerasMomentum,
            {"accum": "momentum"},
            lr=rate,
            momentum=tf.cast(optimizer.momentum, rate.dtype),  # as Keras rounds it
            use_nesterov=bool(optimizer.nesterov),
        )


def _adagrad(
    rows: TableRows, optimizer: keras.optimizers.Optimizer, rate: tf.Tensor, step: tf.Tensor
) -> None:
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


def _adam(
    rows: TableRows, optimizer: keras.optimizers.Optimizer, rate: tf.Tensor, step: tf.Tensor
) -> None:
    """Lazy Adam; bias correction counts all steps (Kingma and Ba, 2015, section 2)."""
    beta_1, beta_2 = optimizer.beta_1, optimizer.beta_2
    number = tf.cast(tf.convert_to_tensor(step), rate.dtype) + 1  # read by this rule alone
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


def _ftrl(
    rows: TableRows, optimizer: keras.optimizers.Optimizer, rate: tf.Tensor, step: tf.Tensor
) -> None:
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


def _rmsprop(
    rows: TableRows, optimizer: keras.optimizers.Optimizer, rate: tf.Tensor, step: tf.Tensor
) -> None:
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


Rule = Callable[[TableRows, Any, tf.Tensor, Any], None]

_RULES: dict[type[Any], Rule] = {
    keras.optimizers.SGD: _sgd,
    keras.optimizers.Adagrad: _adagrad,
    keras.optimizers.Adam: _adam,
    keras.optimizers.Ftrl: _ftrl,
    keras.optimizers.RMSprop: _rmsprop,
}


_ALSO_ELEMENTWISE = (
    keras.optimizers.Adadelta,
    keras.optimizers.Adamax,
    keras.optimizers.Lion,
    keras.optimizers.Nadam,
)


def rule_of(optimizer: keras.optimizers.Optimizer) -> Rule | None:
    """The rule that does what the optimizer's `update_step` does; None if it has one of its own."""
    return next((rule for kind, rule in _RULES.items() if _updates_as(optimizer, kind)), None)


def is_elementwise(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether the optimizer updates each number by itself, so that a table may lie in parts."""
    return any(_updates_as(optimizer, kind) for kind in (*_RULES, *_ALSO_ELEMENTWISE))


def counts_apart(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether it matters to the optimizer that an id occurs several times in a batch.

    A table's gradient then has that row several times. Keras' optimizers square each of them by
    itself; SGD alone would do the same with their sum.
    """
    return not _updates_as(optimizer, keras.optimizers.SGD)


def _updates_as(optimizer: keras.optimizers.Optimizer, kind: Any) -> bool:
    return getattr(type(optimizer), "update_step", None) is kind.update_step
