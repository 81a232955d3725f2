"""The optimizer's update of a pipeline's variables, each on its own device.

Keras passes all gradients through one operation, the sum over a strategy's replicas. In a pipeline
they are the sum already, and one operation is on one device: all of them would travel there and
back, and the first update would wait for the last gradient. Likewise Keras reads the learning rate
and the number of the step for each variable anew, from where they are kept: a message each.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import keras
import tensorflow as tf

from tfdist.compat import keras_optimizers, keras_weights, patches
from tfdist.structures import Gradient
from tfdist.training.tensor_parallel.own_parts import applied
from tfdist.training.tensor_parallel.split_clipping import updating

__all__ = ["apply_gradients", "updates_in_place"]


def apply_gradients(
    optimizer: keras.optimizers.Optimizer,
    gradients: Sequence[Gradient | None],
    variables: Sequence[keras.Variable],
    home: str,
) -> None:
    """Writes the update of variables, where each of them is.

    Args:
        optimizer: a built Keras optimizer.
        gradients: one for each variable, summed over all microbatches and replicas, on the
            variable's device; None where there is none.
        variables: the trainable weights.
        home: the device of what belongs to no stage.
    """
    with updates_in_place(home):
        optimizer.apply_gradients(zip(gradients, variables, strict=True))


@contextlib.contextmanager
def updates_in_place(home: str) -> Iterator[None]:
    """Has any optimizer that is applied in the block update each variable where it is.

    Args:
        home: the device of what belongs to no stage.
    """
    applies = {which: _in_place(which, home) for which in ("apply", "scaled_apply")}
    with _PATCHES | patches.Patches(applies):
        yield


def _in_place(which: str, home: str) -> Callable[..., object]:
    """An optimizer's `apply` that computes from a gradient where the gradient is."""

    def apply(
        optimizer: keras.optimizers.Optimizer,
        grads: Sequence[Gradient],
        trainable_variables: Sequence[keras.Variable] | None = None,
    ) -> object:
        grads = list(grads)
        if trainable_variables is not None:
            trainable_variables = list(trainable_variables)
        with (
            tf.device(None),
            tf.device(home),
            tf.compat.v1.device(_where_its_input_is),
            applied(grads, trainable_variables),
            updating(grads, trainable_variables),
        ):
            return patches.original(which)(optimizer, grads, trainable_variables)

    return apply


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
    iterations = keras_optimizers.steps_taken(optimizer)
    with keras_weights.held([(iterations, tf.convert_to_tensor(iterations.value))]):
        patches.original("update_step")(
            optimizer, grads, trainable_variables, tf.convert_to_tensor(learning_rate)
        )


def _where_its_input_is(operation: tf.Operation) -> str:
    return operation.inputs[0].device if len(operation.inputs) else ""


_PATCHES = patches.Patches({"reduce_gradients": _summed_already, "update_step": _update_step})
