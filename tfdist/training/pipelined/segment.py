"""The forward of one segment, and what its backward starts from."""

from __future__ import annotations

import contextlib
import dataclasses

import keras
import tensorflow as tf

from tfdist.compat import keras_layers
from tfdist.errors import PlugError
from tfdist.training.pipelined.layer_graph import Segment
from tfdist.training.pipelined.microbatch import Key, is_float

__all__ = ["run_segment", "target"]


@dataclasses.dataclass
class Ran:
    """What one segment's forward gave.

    Attributes:
        outputs: as the segment's.
        state: what its layers made of their variables that are not trained.
        added: the losses that its layers added.
        tape: what recorded it, or None.
        keys: the identities of the variables that the tape watched.
    """

    outputs: list[tf.Tensor]
    state: dict[int, tf.Tensor]
    added: list[tf.Tensor]
    tape: tf.GradientTape | None
    keys: list[int]


def target(key: Key, outputs: dict[int, tf.Tensor], ran: Ran, segment: Segment) -> tf.Tensor:
    """What of a segment's forward a cotangent belongs to."""
    if not isinstance(key, tuple):
        return outputs[key]
    kind, which = key
    return ran.added[which] if kind is segment else keras_layers.logits_of(outputs[which])


def run_segment(
    model: keras.Model,
    segment: Segment,
    given: list[tf.Tensor],
    state: dict[int, tf.Tensor],
    training: bool,
    keep: bool,
) -> Ran:
    """Writes the forward of a segment for one microbatch.

    Args:
        model: whose layers they are.
        segment: of one of its stages.
        given: the values of the segment's inputs.
        state: the values of its variables, by their identities.
        training: as Keras' layers take it.
        keep: whether to record what a backward needs.

    Raises:
        PlugError: a layer assigns a weight that is trained, as SpectralNormalization does.
    """
    trainable = {id(v) for v in model.trainable_weights}
    variables = {id(v): v for v in segment.variables}
    sources = [value for value in given if is_float(value)]
    keys = [key for key in state if key in trainable]
    tape = tf.GradientTape(watch_accessed_variables=False) if keep else None
    values = {id(symbol): v for symbol, v in zip(segment.inputs, given, strict=True)}
    mapping = [(variables[key], value) for key, value in state.items()]
    with keras.StatelessScope(state_mapping=mapping, collect_losses=True) as scope:
        before = {key: scope.get_current_value(variables[key]) for key in keys}
        with contextlib.nullcontext() if tape is None else tape:
            if tape is not None:
                tape.watch([*sources, *(state[key] for key in keys)])
            for piece in segment.pieces:
                outputs = keras_layers.call_node(piece.node, values, training)
                for symbol, value in zip(piece.outputs, outputs, strict=True):
                    values[id(symbol)] = value
        changed = {key: scope.get_current_value(variables[key]) for key in state}
        added = list(scope.losses)
    for key in keys:
        if changed[key] is not before[key]:
            raise PlugError(
                f"{variables[key].path} is trained, and a layer assigns it in its call (as "
                "SpectralNormalization does), but in a pipeline, and on tensor_parallel, only "
                "weights that are not trained can be: train on another kind of strategy "
                '("mirrored", "multi_worker"), or leave that layer out'
            )
    return Ran(
        outputs=[values[id(symbol)] for symbol in segment.outputs],
        state={key: changed[key] for key in state if key not in trainable},
        added=added,
        tape=tape,
        keys=keys,
    )
