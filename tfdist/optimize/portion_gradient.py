"""What a worker computes of a portion: the sum of its losses, and the gradient, for the servers.

The loss is that of `compute_loss`, Keras' or the class's own, with the regularizers: a mean over
the portion's rows. Times the rows it is a sum, and the sums of all portions, divided by all rows,
are the loss of all rows as one batch (the rule of shares).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfdist.compat import keras_weights, patches
from tfdist.compat.tf_random import drawing_operations
from tfdist.errors import PlugError
from tfdist.optimize.portion_source import PortionSource
from tfdist.optimize.server_vectors import ServerVectors
from tfdist.strategies import server_variables
from tfdist.structures import Variable
from tfdist.training.data.fingerprint import fingerprint_of
from tfdist.training.data.stream import rows_in
from tfdist.training.model_parts import unique
from tfdist.training.parameter_server.batch_messages import key_of
from tfdist.training.parameter_server.server_updates import ServerUpdates
from tfdist.training.tracing import traced

__all__ = ["PortionGradient"]

_MEANS = ("sum_over_batch_size", "mean")


class PortionGradient:
    """Traces what workers compute of one model's portions, once for each type of data.

    Args:
        model: built and compiled.
        vectors: on the servers, with the slots that gradients go to.
        slots: how many these are.
        source: of portions.
        device: where the model computes, on whichever worker; "" for where TensorFlow likes.
    """

    def __init__(
        self,
        model: keras.Model,
        vectors: ServerVectors,
        slots: int,
        source: PortionSource,
        device: str = "",
    ) -> None:
        self._model = model
        self._vectors = vectors
        self._writes = ServerUpdates(slots)
        self._source = source
        self._device = device
        self._functions: dict[Any, Any] = {}
        self._losses: dict[Any, Any] = {}
        metrics = unique(v for metric in model.metrics for v in metric.variables)
        counted = {id(v) for v in metrics}
        self._metrics = metrics
        self._weights = [v for variables in vectors.weights.values() for v in variables]
        counted |= {id(v) for v in self._weights}
        self._state = [v for v in unique(model.variables) if id(v) not in counted]

    def function(self, specs: Any) -> Any:
        """The function that works on a portion of some type.

        Args:
            specs: of what is given for it.

        Returns:
            From what is given and a ticket (int64: the slot, and a number that only grows) to
            float64 `[3]`: the sum of the losses, how many rows these are of, and a fingerprint of
            the rows. The gradient goes to the slot.

        Raises:
            PlugError: the loss is none that can be summed over portions, or not the same each time.
        """
        key = key_of(specs)
        if key not in self._functions:
            concrete = traced(self._run).get_concrete_function(specs, tf.TensorSpec([2], tf.int64))
            _check_draws_nothing(concrete.graph)
            self._functions[key] = concrete
        return self._functions[key]

    def loss_function(self, specs: Any) -> Any:
        """The function that computes the loss of a portion alone, and writes nothing.

        Args:
            specs: of what is given for it.

        Returns:
            From what is given to the numbers of `function`.

        Raises:
            PlugError: as in `function`.
        """
        key = key_of(specs)
        if key not in self._losses:
            concrete = traced(self._run_loss).get_concrete_function(specs)
            _check_draws_nothing(concrete.graph)
            self._losses[key] = concrete
        return self._losses[key]

    def _run_loss(self, given: Any) -> tf.Tensor:
        # The gradient is traced with it, and left out when it runs, as nothing depends on it.
        batch = self._source.batch(given)
        loss, _ = self._differentiate(batch)
        return _summed(loss, batch)

    def _run(self, given: Any, ticket: tf.Tensor) -> tf.Tensor:
        batch = self._source.batch(given)
        loss, gradients = self._differentiate(batch)
        factor = tf.cast(rows_in(batch), self._vectors.dtype)
        parts = iter(gradients)
        sent: dict[str, list[tuple[tf.Tensor, None]]] = {}
        for place, variables in self._vectors.weights.items():
            own = [tf.reshape(next(parts), [-1]) for _ in variables]
            whole = tf.math.multiply_no_nan(tf.concat(own, 0), factor)  # of no rows: a mean is NaN
            sent[place] = [(whole, None), (ticket[0], None)]

        def write(place: str, there: Sequence[Any]) -> None:
            gradient, slot = there
            tf.raw_ops.ResourceScatterUpdate(
                resource=self._vectors.slots[place].handle, indices=slot, updates=gradient
            )

        self._writes.begin(ticket)
        self._writes.write(sent, write)
        return _summed(loss, batch)

    def _differentiate(self, batch: Any) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """The mean loss of a batch, and its gradient by each weight."""
        model = self._model
        everything = [*self._weights, *self._state]
        fetched = server_variables.fetch(everything)
        rest = [tf.zeros(v.shape, v.value.dtype) for v in self._metrics]
        values = [*zip(everything, fetched, strict=True), *zip(self._metrics, rest, strict=True)]
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        with (
            keras_weights.held(values, _refuse_write) as held,
            _sums_alone(),
            tf.device(self._device),
        ):
            with tf.GradientTape() as tape:
                y_pred = model(x, training=True)
                loss = model.compute_loss(
                    x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=True
                )
            if loss is None or loss.shape.rank != 0:
                raise PlugError(
                    "compute_loss of this model returns no scalar: L-BFGS needs the mean loss of a "
                    "portion's rows; compile the model with a loss that has a reduction"
                )
            changed = [
                v
                for v, before in zip(self._state, fetched[len(self._weights) :], strict=True)
                if held.current(v) is not before
            ]
            if changed:
                raise PlugError(_changes(changed[0].path))
            found = tape.gradient(loss, fetched[: len(self._weights)])
        return loss, [
            tf.zeros_like(weight) if gradient is None else tf.convert_to_tensor(gradient)
            for gradient, weight in zip(found, fetched, strict=False)
        ]


def _summed(loss: tf.Tensor, batch: Any) -> tf.Tensor:
    rows = tf.cast(rows_in(batch), tf.float64)
    total = tf.math.multiply_no_nan(tf.cast(loss, tf.float64), rows)
    return tf.stack([total, rows, tf.cast(fingerprint_of(batch), tf.float64)])


def _refuse_write(variable: Variable, value: tf.Tensor) -> None:
    del value
    raise PlugError(_changes(getattr(variable, "path", variable.name)))


def _changes(path: str) -> str:
    return (
        f"the model changes {path!r} while its loss is computed, so that the loss is another one "
        "each time, or in each portion, and a line search finds nothing: leave dropout and random "
        "layers out, freeze BatchNormalization (layer.trainable = False), or use fit"
    )


@contextlib.contextmanager
def _sums_alone() -> Iterator[None]:
    """While it is open, losses that are no mean over rows are refused."""
    reduce_values = patches.original("reduce_values")

    def reduce(
        values: tf.Tensor,
        sample_weight: tf.Tensor | None = None,
        reduction: str | None = "sum_over_batch_size",
    ) -> tf.Tensor:
        if reduction not in (*_MEANS, None, "none") and values.shape.rank != 0:
            raise PlugError(
                f"a loss with reduction={reduction!r}, but L-BFGS takes the mean over all rows, "
                "made of portions; compile the model with reduction='sum_over_batch_size'"
            )
        return reduce_values(values, sample_weight, reduction)

    def mask(
        sample_weight: tf.Tensor | None, mask: tf.Tensor | None, dtype: str, reduction: str | None
    ) -> tf.Tensor | None:
        if mask is not None and reduction in _MEANS:
            raise PlugError(
                "a masked loss, whose mean is over the steps that a mask leaves in a portion, not "
                "over its rows: leave mask_zero and Masking out and give sample_weight instead"
            )
        return patches.original("apply_mask")(sample_weight, mask, dtype, reduction)

    with patches.Patches({"reduce_values": reduce, "apply_mask": mask}):
        yield


def _check_draws_nothing(graph: Any) -> None:
    """Checks that a function draws no random numbers.

    Raises:
        PlugError: it does.
    """
    for operation in drawing_operations(graph):
        raise PlugError(
            f"the model, or what reads its data, draws random numbers ({operation}), so that the "
            "loss is another one each time, and a line search finds nothing: leave them out, or "
            "use fit"
        )
