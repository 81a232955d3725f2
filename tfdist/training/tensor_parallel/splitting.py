"""Turns layers of a built model into ones whose weights are in parts, in place."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdist import log
from tfdist.compat import keras_layers, keras_optimizers, keras_slots
from tfdist.errors import PlugError
from tfdist.strategies.pipeline_strategy import PipelineStrategy
from tfdist.training.embeddings.table_slots import keep_files_plain, plain_slots
from tfdist.training.model_parts import optimizers_of, unique
from tfdist.training.tensor_parallel.plain_weights import PlainWeights, show_wholes
from tfdist.training.tensor_parallel.split_attention import SplitAttention
from tfdist.training.tensor_parallel.split_clipping import clip_by_whole_norms
from tfdist.training.tensor_parallel.split_lookups import SplitEmbedding
from tfdist.training.tensor_parallel.split_products import (
    PassingOn,
    SplitDense,
    SplitEinsumDense,
    axes_in,
)
from tfdist.training.tensor_parallel.split_weight import SplitWeight, along, bounds, whole_of
from tfdist.training.tensor_parallel.weight_axes import Cut, cuts_of, heads_of, passing_on

__all__ = ["split_model", "split_weights"]

_CLASSES: dict[type, type] = {
    keras.layers.Dense: SplitDense,
    keras.layers.EinsumDense: SplitEinsumDense,
    keras.layers.Embedding: SplitEmbedding,
    keras.layers.MultiHeadAttention: SplitAttention,
}
# In files the layers are the plain ones: Keras writes a class by its name and module.
for _plain, _in_parts in _CLASSES.items():
    _in_parts.__name__ = _in_parts.__qualname__ = _plain.__name__
    _in_parts.__module__ = "keras.layers"


def split_model(model: keras.Model, strategy: PipelineStrategy) -> None:
    """Cuts the weights of a model as its strategy says; again, what has come since.

    Args:
        model: built; its layers stay the same objects. Its optimizers may be built, and have taken
            steps.
        strategy: in whose scope it was made.

    Raises:
        PlugError: the layout, or an optimizer, does not fit.
    """
    parts = strategy.plan.tensor_parallel_size
    if parts == 1:
        return
    if not split_weights(model):
        _check_optimizers(model)
        cuts = cuts_of(model, strategy.plan.weight_layout, parts)
        if not cuts:
            log.warning(
                "no weight of %s is cut over the %d devices of a replica: none is a kernel or "
                "table of 16,384 numbers or more of Dense, EinsumDense, Embedding or "
                "MultiHeadAttention; layout_map cuts smaller ones",
                model.name,
                parts,
            )
            return
        with strategy.scope():
            made = _turn(model, cuts, parts)
            for optimizer in optimizers_of(model):
                if optimizer.built:
                    _rebuild(optimizer, made)
        for layer in keras_layers.all_layers(model):
            if not isinstance(layer, PlainWeights) and any(map(whole_of, layer.weights)):
                show_wholes(layer)
        _tell(cuts, model)
    _check_optimizers(model)
    wholes = split_weights(model)
    for optimizer in optimizers_of(model):
        base = keras_slots.base_of(optimizer)
        clip_by_whole_norms(base)
        for one in {id(one): one for one in (optimizer, base)}.values():
            keep_files_plain(one, wholes)


def split_weights(model: keras.Model) -> list[SplitWeight]:
    """The weights of a model that are in parts."""
    return unique(whole for one in model.variables if (whole := whole_of(one)) is not None)


# ---------------------------------------------------------------- layers


def _turn(
    model: keras.Model, cuts: Sequence[Cut], parts: int
) -> dict[int, tuple[keras.Variable, SplitWeight]]:
    """Returns, by the identity of each weight that was cut, that and its parts."""
    made: dict[int, tuple[keras.Variable, SplitWeight]] = {}

    def split(layer: keras.layers.Layer, whole: keras.Variable, axis: int) -> SplitWeight:
        made[id(whole)] = whole, _split(layer, whole, axis, parts)
        return made[id(whole)][1]

    for cut in cuts:
        layer = cut.layer
        if isinstance(layer, keras.layers.Embedding):
            table = split(layer, keras_layers.embeddings_of(layer), cut.axis)
            layer.__class__ = SplitEmbedding
            keras_layers.set_embeddings(layer, table)
            continue
        kernel = split(layer, keras_layers.kernel_of(layer), cut.axis)
        out = axes_in(layer, cut.axis).out
        bias = layer.bias
        if bias is not None and out is not None and -out <= len(bias.shape):
            axis = len(bias.shape) + out
            if bias.shape[axis] > 1:  # else every part has it
                layer.bias = split(layer, bias, axis)
        layer.__class__ = _CLASSES[type(layer)]
        keras_layers.set_kernel(layer, kernel)
    for layer in heads_of(model):
        layer.__class__ = SplitAttention
    for layer in passing_on(model):
        kind = type(layer)
        keeping = type(kind.__name__, (PassingOn, kind), {"__module__": "keras.layers"})
        layer.__class__ = keeping
    return made


def _split(layer: keras.layers.Layer, whole: keras.Variable, axis: int, parts: int) -> SplitWeight:
    """Makes the parts of a weight, where the whole one is, and has the layer forget that."""

    def make(trained: bool) -> list[keras.Variable]:
        shards = []
        for number, (start, stop) in enumerate(bounds(whole.shape[axis], parts)):
            cut = along(axis, start, stop)
            shape = list(whole.shape)
            shape[axis] = stop - start

            def values(_: Any, dtype: Any = None, cut: Any = cut) -> tf.Tensor:
                with tf.device(whole.value.device):
                    return tf.cast(whole.value[cut], dtype)

            shards.append(
                layer.add_weight(
                    name=f"{whole.name}_part_{number}",
                    shape=tuple(shape),
                    dtype=whole.dtype,
                    initializer=values,
                    trainable=trained,
                    regularizer=whole.regularizer,
                    constraint=whole.constraint,
                )
            )
        return shards

    return SplitWeight(keras_layers.remake_weight(layer, whole, make), axis, whole.name)


def _tell(cuts: Sequence[Cut], model: keras.Model) -> None:
    size = _numbers(model.trainable_weights)
    own = _numbers(shard for one in split_weights(model) for shard in one.shards)
    names = ", ".join(f"{cut.layer.path} (axis {cut.axis})" for cut in cuts[:6])
    more = f" and {len(cuts) - 6} more" if len(cuts) > 6 else ""
    log.info(
        "cut over devices: %s%s: %d %% of the model's weights",
        names,
        more,
        round(100 * own / max(size, 1)),
    )


def _numbers(variables: Iterable[keras.Variable]) -> int:
    return sum(math.prod(one.shape) for one in variables)


# ---------------------------------------------------------------- optimizers


def _check_optimizers(model: keras.Model) -> None:
    for optimizer in optimizers_of(model):
        base = keras_slots.base_of(optimizer)
        if not keras_slots.elementwise(base):
            raise PlugError(
                f"tensor parallelism with {type(base).__name__}, which may look at a weight as a "
                "whole, or at others: the update of a part would be another one; take SGD, Adam, "
                "AdamW or another of Keras' elementwise optimizers"
            )


def _rebuild(
    optimizer: keras.optimizers.Optimizer, made: Mapping[int, tuple[keras.Variable, SplitWeight]]
) -> None:
    """Has a built optimizer keep slots of the parts, with the values that those of weights had."""
    base = keras_slots.base_of(optimizer)
    before = list(optimizer.variables)
    trained: list[keras.Variable] = []
    for variable in keras_optimizers.trained_by(base):
        shards = made[id(variable)][1].shards if id(variable) in made else ()
        for shard in shards:
            keras_slots.decay_alike(base, shard, variable)
        trained += shards or [variable]
    is_new = not any(np.any(one.numpy()) for one in before if one.name == "iteration")
    keras_slots.forget_slots(optimizer)
    optimizer.build(trained)
    if is_new:
        return  # slots begin as they are
    wholes = [whole for _, whole in made.values()]
    for old, new in zip(before, plain_slots(optimizer, wholes), strict=True):
        if new is not old:
            new.assign(tf.convert_to_tensor(old.value))
