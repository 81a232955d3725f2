"""Dense and EinsumDense with a kernel in parts, and activations between two of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfdist.compat import keras_layers
from tfdist.training.tensor_parallel.device_parts import (
    Parts,
    computed_on,
    joined,
    on_its_device,
    parts_of,
)
from tfdist.training.tensor_parallel.einsum_axes import Axes, axes_of
from tfdist.training.tensor_parallel.plain_weights import PlainWeights
from tfdist.training.tensor_parallel.split_weight import SplitWeight

__all__ = ["PassingOn", "SplitDense", "SplitEinsumDense", "axes_in", "by_element", "equation_of"]

_BY_ELEMENT = (
    "linear",
    "relu",
    "relu6",
    "leaky_relu",
    "elu",
    "celu",
    "selu",
    "gelu",
    "silu",
    "softplus",
    "softsign",
    "squareplus",
    "tanh",
    "tanh_shrink",
    "hard_sigmoid",
    "hard_silu",
    "hard_tanh",
    "exponential",
    "mish",
)
"""Activations of which each number asks for no other. Not sigmoid: Keras' losses look at what the
model's output was computed from."""


def by_element(activation: Callable[..., object] | None) -> bool:
    """Whether an activation can be computed part by part."""
    return activation is None or any(
        activation is getattr(keras.activations, name, None) for name in _BY_ELEMENT
    )


def equation_of(layer: keras.Layer) -> str:
    """What a Dense or EinsumDense computes, as `einsum` writes it."""
    return str(getattr(layer, "equation", "...x,xy->...y"))


def axes_in(layer: keras.Layer, axis: int) -> Axes:
    """Where an axis of a layer's kernel is in what it takes and gives."""
    return axes_of(equation_of(layer), axis)


class _InParts(PlainWeights):
    """What Dense and EinsumDense do with a kernel in parts."""

    activation: Any
    bias: Any
    compute_dtype: str

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Multiplies each part where it is; see the layer's own `call`.

        Returns:
            As the layer does, in the layer's compute dtype.
        """
        layer: Any = self
        kernel = keras_layers.kernel_of(layer)
        whole_wanted = layer.lora_enabled or layer.quantization_mode is not None  # since then
        if not isinstance(kernel, SplitWeight) or not _is_plain(inputs) or whole_wanted:
            return super().call(inputs, training=training)  # type: ignore[misc]
        axes = axes_in(layer, kernel.axis)
        found = _shares(inputs, axes.into, kernel)
        last = axes.out is not None and (
            self.bias is None or isinstance(self.bias, SplitWeight)
        )  # nothing is to be added to the whole
        own_activation = last and by_element(self.activation)

        def part(taken: tf.Tensor, weight: tf.Tensor, *bias: tf.Tensor) -> tf.Tensor:
            given = self.multiply(taken, tf.cast(weight, self.compute_dtype))
            for one in bias:
                given = given + tf.cast(one, given.dtype)
            if own_activation and self.activation is not None:
                given = self.activation(given)
            return given

        values = []
        for number, shard in enumerate(kernel.shards):
            weight, device = on_its_device(shard)
            operands = [found[number], weight]
            if last and self.bias is not None:
                operands.append(on_its_device(self.bias.shards[number])[0])
            values.append(computed_on(device, part, operands))
        whole = tf.add_n(values) if axes.out is None else joined(Parts(axes.out, tuple(values)))
        if not last and self.bias is not None:
            whole = keras.ops.add(whole, self.bias)
        if not own_activation and self.activation is not None:
            whole = self.activation(whole)
        return whole

    def multiply(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """The product of the layer."""
        raise NotImplementedError


class SplitDense(_InParts, keras.layers.Dense):
    """`keras.layers.Dense`, its kernel in parts on several devices."""

    def multiply(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """See above."""
        return keras.ops.matmul(inputs, kernel)


class SplitEinsumDense(_InParts, keras.layers.EinsumDense):
    """`keras.layers.EinsumDense`, its kernel in parts on several devices."""

    def multiply(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """See above."""
        return keras.ops.einsum(self.equation, inputs, kernel)


class PassingOn(keras.layers.Layer):
    """A layer without weights that computes each number by itself, and keeps the parts of them."""

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """See the layer's own `call`."""
        inputs = args[0] if args else kwargs.get("inputs")
        whole = super().call(*args, **kwargs)
        parts = parts_of(inputs)
        if parts is None or not _is_plain(whole):
            return whole

        def own(value: tf.Tensor) -> tf.Tensor:
            return super(PassingOn, self).call(value)

        values = [computed_on(value.device, own, [value]) for value in parts.values]
        return joined(Parts(parts.axis, tuple(values)))


def _is_plain(value: object) -> bool:
    return isinstance(value, tf.Tensor) and not isinstance(value, tf.SparseTensor)


def _shares(inputs: tf.Tensor, axis: int | None, kernel: SplitWeight) -> Sequence[tf.Tensor]:
    """What each device takes of a layer's input."""
    count = len(kernel.shards)
    if axis is None:
        return [inputs] * count
    cut = [int(shard.shape[kernel.axis]) for shard in kernel.shards]
    parts = parts_of(inputs)
    if parts is not None and parts.axis == axis and parts.sizes == cut:
        return parts.values
    return list(tf.split(inputs, cut, axis))
