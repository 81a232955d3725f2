"""The optimizer's update of a pipeline's variables, each on its own device.

Keras passes all gradients through one operation, the sum over a strategy's replicas. In a pipeline
they are the sum already, and one operation is on one device: all of them would travel there and
back, and the first update would wait for the last gradient. Likewise Keras reads the learning rate
and the number of the step for each variable anew, from where they are kept: a message each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import keras
import tensorflow as tf

from tfdist.compat import keras_weights, patches
from tfdist.structures import Gradient

__all__ = ["apply_gradients"]


def apply_gradients(
    optimizer: keras.optimizers.Optimizer,
    gradients: Sequence[Gradient | None],
    variables: Sequence[keras.Variable],
) -> None:
    """Writes the update of variables, where each of them is.

    Args:
        optimizer: a built Keras optimizer.
        gradients: one for each variable, summed over all microbatches and replicas, on the
            variable's device; None where there is none.
        variables: the trainable weights.
    """
    with (
        _PATCHES,
        # What an optimizer computes from a gradient is computed where the gradient is.
        tf.compat.v1.device(_where_its_input_is),
    ):
        optimizer.apply_gradients(zip(gradients, variables, strict=True))


def _summed_already(
    optimizer: keras.optimizers.Optimizer, grads_and_vars: Iterable[tuple[Gradient, keras.Variable]]
) -> list[tuple[Gradient, keras.Variable]]:
    del optimizer
    return list(grads_and_vars)


def _update_step(
    optimizer: keras.optimizers.Optimizer,
    grads: Sequence[Gradient],
    trainable_variables: Sequence[keras.Variable],
    learning_rate: tf.Tensor,
) -> None:
    """Keras' own, which finds its scalars read already."""
    iterations = optimizer.iterations
    with keras_weights.held([(iterations, tf.convert_to_tensor(iterations.value))]):
        patches.original("update_step")(
            optimizer, grads, trainable_variables, tf.convert_to_tensor(learning_rate)
        )


def _where_its_input_is(operation: tf.Operation) -> str:
    return operation.inputs[0].device if len(operation.inputs) else ""


_PATCHES = patches.Patches({"reduce_gradients": _summed_already, "update_step": _update_step})
