"""A model's layers one by one: who calls whom, masks, logits, and weights made anew."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import keras
import tensorflow as tf

from tfdist.compat import tf_saving
from tfdist.compat.names import (
    keras_functional,
    keras_global_state,
    keras_masking,
    keras_variables,
)
from tfdist.structures import Nest, T

__all__ = [
    "CallRecord",
    "all_layers",
    "batch_statistics",
    "call_node",
    "calls_itself",
    "embeddings_of",
    "functional_inputs",
    "functional_nodes",
    "functional_of",
    "has_layers",
    "is_called",
    "kernel_of",
    "leaf_layers",
    "logits_of",
    "mask_of",
    "not_cast",
    "own_weights",
    "remake_weight",
    "set_embeddings",
    "set_kernel",
    "set_logits",
    "set_mask",
]


class CallRecord(Protocol):
    """What tfdist asks of `keras.src.ops.node.Node`: Keras' record of one call of a layer."""

    operation: keras.Operation
    arguments: Any
    input_tensors: Sequence[keras.KerasTensor]
    outputs: Sequence[keras.KerasTensor]


def is_called() -> bool:
    """Whether this thread is in the call of some layer."""
    context = keras_global_state.get_global_attribute("current_call_ctx")
    return getattr(context, "entry_layer", None) is not None


def all_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Returns the model itself and all layers in it, at every depth."""
    return list(model._flatten_layers())


def embeddings_of(layer: keras.layers.Embedding) -> Any:
    """Returns the table that a built embedding layer has made, or what stands for it."""
    return layer._embeddings


def kernel_of(layer: keras.layers.Layer) -> Any:
    """Returns the kernel that a built Dense or EinsumDense has made, or what stands for it."""
    return layer._kernel


def set_kernel(layer: keras.layers.Layer, kernel: object) -> None:
    """Gives a built Dense or EinsumDense another kernel."""
    layer._kernel = kernel


def set_embeddings(layer: keras.layers.Embedding, table: object) -> None:
    """Gives a built embedding layer another table."""
    layer._embeddings = table


def leaf_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Returns the layers of a model that hold no others, in their order."""
    return [layer for layer in all_layers(model) if not layer._layers]


def has_layers(layer: keras.layers.Layer) -> bool:
    """Whether a layer holds others."""
    return bool(layer._layers)


def own_weights(layer: keras.layers.Layer) -> list[keras.Variable]:
    """Returns the weights that a layer holds itself, and not by a layer in it."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def remake_weight(layer: keras.layers.Layer, old: keras.Variable, make: Callable[[bool], T]) -> T:
    """Has a built layer forget a weight, and make others in its place, in its own name scope.

    They stand where it stood among the layer's weights, by which files and optimizers number them,
    and are trained when it would be.

    Args:
        layer: a built layer.
        old: its weight.
        make: adds the new weights to the layer; it is told whether they are of the kind that the
            layer trains unless it is frozen.

    Returns:
        What `make` returns.
    """
    kinds = (layer._trainable_variables, layer._non_trainable_variables)
    kind = next(own for own in kinds if any(one is old for one in own))
    place = next(i for i, one in enumerate(kind) if one is old)
    layer._untrack_variable(old)
    known = len(kind)
    locked = layer._tracker.locked
    layer._tracker.unlock()
    try:
        with layer._open_name_scope():
            made = make(kind is layer._trainable_variables)
    finally:
        if locked:
            layer._tracker.lock()
    kind[place:] = [*kind[known:], *kind[place:known]]
    for one in kind[place : place + len(kind) - known]:
        one.trainable = old.trainable
    tf_saving.may_be_saved(layer)
    return made


def functional_of(model: keras.Model) -> keras.Layer:
    """What calls the layers of a Sequential or functional model: `patches`' "call_functional"."""
    return getattr(model, "_functional", None) or model


def functional_nodes(
    model: keras.Model,
) -> tuple[list[keras.KerasTensor], Nest, list[CallRecord]] | None:
    """Returns the inputs, the outputs and the calls of layers of a Sequential or functional model.

    Returns:
        Its symbolic inputs (flat), its symbolic outputs (structured), and Keras' records of the
        calls, each after what it needs; None for a model of another kind.
    """
    function = functional_of(model)
    by_depth = getattr(function, "_nodes_by_depth", None)
    if by_depth is None:
        return None
    calls = [
        node
        for depth in sorted(by_depth, reverse=True)
        for node in by_depth[depth]
        if node.operation is not None and not node.is_input
    ]
    outputs = function._outputs_struct
    if isinstance(outputs, list | tuple) and len(outputs) == 1:
        outputs = outputs[0]  # as the model returns it
    return list(function.inputs), outputs, calls


def functional_inputs(model: keras.Model, x: Nest) -> list[tf.Tensor]:
    """Returns the tensors for a functional model's inputs, in their order, as the model casts them.

    Args:
        model: a Sequential or functional model.
        x: what the model is called with.
    """
    return list(functional_of(model)._standardize_inputs(x))


def call_node(node: CallRecord, values: Mapping[int, tf.Tensor], training: bool) -> list[tf.Tensor]:
    """Calls a layer again as one of `functional_nodes` records it.

    Args:
        node: the record.
        values: the tensors that stand for the symbolic ones, by their identity.
        training: passed to a layer that wants to know.

    Returns:
        Its outputs, flat.
    """
    arguments, keywords = node.arguments.fill_in(values)
    operation = node.operation
    override = getattr(keras_functional, "operation_fn", None)
    if override is not None:  # Keras before 3.16: whatever the layer was called with in the model
        operation = override(operation, training=training)
    elif isinstance(operation, keras.layers.Layer) and keywords.get("training") is None:
        keywords = {**keywords, "training": training}
    return list(keras.tree.flatten(operation(*arguments, **keywords)))


def logits_of(output: tf.Tensor) -> tf.Tensor | None:
    """Returns what a softmax or sigmoid was computed from, as Keras' losses find it, or None."""
    logits = getattr(output, "_keras_logits", None)
    if logits is not None:
        return logits
    operation: tf.Operation | None = getattr(output, "op", None)
    if operation is None or operation.type not in ("Softmax", "Sigmoid"):
        return None
    return operation.inputs[0] if len(operation.inputs) == 1 else None


def set_logits(output: tf.Tensor, logits: tf.Tensor) -> None:
    """Tells Keras' losses what an output was computed from; see `logits_of`."""
    output._keras_logits = logits


def calls_itself(model: keras.Model) -> bool:
    """Whether a Sequential or functional model, or its class, has a `call` of its own."""
    kinds = (keras.Sequential, keras_functional.Functional)
    return any(
        getattr(getattr(model, name), "__func__", None) is not getattr(kind, name)
        for kind in kinds
        if isinstance(model, kind)
        for name in ("__call__", "call")
    )


@contextlib.contextmanager
def not_cast() -> Iterator[None]:
    """Has variables be read in the block as they are, within a call in mixed precision, too."""
    with keras_variables.AutocastScope(None):
        yield


def batch_statistics(model: keras.Model) -> set[int]:
    """Returns the identities of the TensorFlow variables of BatchNormalization's statistics."""
    return {
        id(variable.value)
        for layer in all_layers(model)
        if isinstance(layer, keras.layers.BatchNormalization) and layer.built
        for variable in layer.non_trainable_variables
    }


def mask_of(tensor: tf.Tensor) -> tf.Tensor | None:
    """Returns Keras' mask of a tensor, or None."""
    return keras_masking.get_keras_mask(tensor)


def set_mask(tensor: tf.Tensor, mask: tf.Tensor) -> None:
    """Gives a tensor a Keras mask."""
    keras_masking.set_keras_mask(tensor, mask)
