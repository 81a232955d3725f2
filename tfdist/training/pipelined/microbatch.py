"""The microbatches of one step, what is known of each while the step is written, and its end."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import keras
import tensorflow as tf

from tfdist.compat import keras_layers
from tfdist.schedules.schedule import Slot
from tfdist.structures import Count, Gradient, Nest
from tfdist.training.pipelined.layer_graph import Segment
from tfdist.training.pipelined.weight_gradients import Later

__all__ = ["Key", "MicrobatchRows", "Outcome", "Part", "again", "is_float"]

Key: TypeAlias = int | tuple[str | Segment, int]
"""Of a value of a microbatch: the identity of a symbolic tensor; "logits" with that of an output;
or a segment with the number of a loss that its layers have added."""


@dataclasses.dataclass
class Outcome:
    """What the slots of one step left.

    Attributes:
        loss: the batch's loss, or None in a prediction.
        outputs: what the model returns for the batch, structured; None where nobody asked.
        gradients: by the identity of a variable; none unless training.
        times: where asked for, when slots began and ended, in seconds.
        slots: the replica and the slots, done in one go, of each of `times`.
    """

    loss: tf.Tensor | None
    outputs: Nest
    gradients: dict[int, Gradient]
    times: list[tuple[tf.Tensor, tf.Tensor]]
    slots: list[tuple[int, tuple[Slot, ...]]]


@dataclasses.dataclass
class Part:
    """One microbatch of one replica.

    Attributes:
        inputs: of the model, flat.
        x: the inputs as they were given.
        y: the targets.
        sample_weight: of its examples, or None.
        share: float64 scalar: its rows over the batch's.
        rows: how many.
        values: by the identity of a symbolic tensor of the model.
        added: losses that layers have added, by segment and number.
        cotangents: the gradients that came back for a value, by its key.
        tapes: what recorded a segment, or the loss.
        later: what a segment's backward has left, by the segment.
        loss: what it adds to the batch's.
    """

    inputs: list[tf.Tensor]
    x: Nest
    y: Nest
    sample_weight: Nest
    share: tf.Tensor
    rows: Count
    values: dict[int, tf.Tensor] = dataclasses.field(default_factory=dict)
    added: dict[tuple[Segment, int], tf.Tensor] = dataclasses.field(default_factory=dict)
    cotangents: dict[Key, list[Gradient]] = dataclasses.field(default_factory=dict)
    tapes: dict[Segment | str, Any] = dataclasses.field(default_factory=dict)
    later: dict[Segment, Later] = dataclasses.field(default_factory=dict)
    loss: tf.Tensor | None = None

    def with_rows(self, outputs: Iterable[tf.Tensor]) -> list[tf.Tensor]:
        """What has a row for each example, the model's outputs among it."""
        given = tf.nest.flatten((self.inputs, self.x, self.y, self.sample_weight))
        return [one for one in [*given, *outputs] if isinstance(one, tf.Tensor) and one.shape.rank]

    def give_back(self, keys: list[Key], found: list[Gradient | None]) -> None:
        """Notes the gradients for some values; None is none."""
        for key, cotangent in zip(keys, found, strict=True):
            if cotangent is not None:
                self.cotangents.setdefault(key, []).append(cotangent)

    def seen_by_the_loss(self, outputs: Sequence[keras.KerasTensor]) -> dict[Key, tf.Tensor]:
        """The model's outputs, and the logits before a last softmax: Keras' losses look for them.

        Args:
            outputs: the symbolic ones.
        """
        seen: dict[Key, tf.Tensor] = {}
        for symbol in outputs:
            value = self.values[id(symbol)]
            if not is_float(value):
                continue
            seen[id(symbol)] = value
            logits = keras_layers.logits_of(value)
            if logits is not None:
                seen["logits", id(symbol)] = logits
        return seen


class MicrobatchRows:
    """Shares the rows of a batch out to microbatches, whose sizes differ by one at most.

    Args:
        inputs: of the model, flat.
        count: of microbatches, over all replicas.

    Attributes:
        may_be_absent: whether a microbatch may have none.
    """

    def __init__(self, inputs: list[tf.Tensor], count: int) -> None:
        static = inputs[0].shape[0]
        self._total: Count = tf.shape(inputs[0])[0] if static is None else static
        self._count = count
        self.may_be_absent = static is None or static < count

    def part(
        self, number: int, inputs: list[tf.Tensor], x: Nest, y: Nest, sample_weight: Nest, last: str
    ) -> Part:
        """Cuts one microbatch out of a batch.

        What the loss needs is cut on its device, `last`: it takes a message a batch instead of some
        a microbatch.
        """
        piece = self._cut(number)
        given = [piece(leaf) for leaf in inputs]
        for cut, leaf in zip(given, inputs, strict=True):
            if (mask := keras_layers.mask_of(leaf)) is not None:
                keras_layers.set_mask(cut, piece(mask))
        x = tf.nest.map_structure(piece, x)
        with tf.device(last):
            piece = self._cut(number)
            start, stop = self._bounds(number)
            return Part(
                inputs=given,
                x=x,
                y=tf.nest.map_structure(piece, y),
                sample_weight=tf.nest.map_structure(piece, sample_weight),
                share=tf.cast((stop - start) / tf.maximum(self._total, 1), tf.float64),
                rows=stop - start,
            )

    def _bounds(self, number: int) -> tuple[Count, Count]:
        total, count = self._total, self._count
        return number * total // count, (number + 1) * total // count

    def _cut(self, number: int) -> Callable[[tf.Tensor | None], tf.Tensor | None]:
        low, high = self._bounds(number)
        if self.may_be_absent:
            # Too few rows for all: one stands in, and counts nothing by its share of 0.
            low = tf.maximum(tf.minimum(low, self._total - 1), 0)
            high = tf.maximum(high, low + 1)
        return lambda leaf: None if leaf is None else leaf[low:high]

    def real(self, value: tf.Tensor, part: Part) -> tf.Tensor:
        """What of a microbatch's value is of rows that there are."""
        return value[: part.rows] if self.may_be_absent else value

    def unless_absent(self, part: Part, value: tf.Tensor, otherwise: tf.Tensor) -> tf.Tensor:
        """What a microbatch makes of a state, where it has rows."""
        if value is otherwise or not self.may_be_absent:
            return value
        return tf.where(part.share > 0, value, otherwise)


def is_float(value: tf.Tensor) -> bool:
    """Whether there are gradients for a tensor."""
    dtype = tf.as_dtype(value.dtype)
    return bool(dtype.is_floating or dtype.is_complex)


def again(value: tf.Tensor) -> tf.Tensor:
    """The same tensor under another name, with its mask."""
    copy = tf.identity(value)
    mask = keras_layers.mask_of(value)
    if mask is not None:
        keras_layers.set_mask(copy, mask)
    return copy
