"""Which layers of a model have their weights cut, and along which axis."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from typing import Any

import keras

from tfdist.compat import keras_attention, keras_layers
from tfdist.errors import PlugError
from tfdist.schedules.weight_layout import WeightLayout
from tfdist.training.model_parts import unique
from tfdist.training.tensor_parallel.einsum_axes import chosen_axis
from tfdist.training.tensor_parallel.split_products import axes_in, by_element, equation_of

__all__ = ["Cut", "cuts_of", "heads_of", "passing_on"]

_SMALLEST = 1 << 14
"""Numbers of a kernel or table below which, unless the user says so, it stays whole: what is sent
costs more than what is computed."""

_PRODUCTS = (keras.layers.Dense, keras.layers.EinsumDense)
_KINDS = (*_PRODUCTS, keras.layers.Embedding)
_WORDS = "Dense, EinsumDense, Embedding and MultiHeadAttention of keras.layers"
_SUMMED = (keras.regularizers.L1, keras.regularizers.L2, keras.regularizers.L1L2)
_PASSING_ON = (
    keras.layers.Activation,
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.ELU,
)


@dataclasses.dataclass(frozen=True, eq=False)
class Cut:
    """A layer whose weight is cut.

    Attributes:
        layer: a Dense, EinsumDense or Embedding.
        axis: of its kernel or table.
    """

    layer: keras.layers.Layer
    axis: int


def cuts_of(model: keras.Model, layout: WeightLayout | None, parts: int) -> list[Cut]:
    """Returns what is cut of a model.

    Args:
        model: built.
        layout: what the user says; None has the shapes say it: attention by heads, other kernels
            so that least is sent, and tables by rows.
        parts: into how many.

    Raises:
        PlugError: the layout cuts what cannot be cut, or is of weights that the model does not
            have.
    """
    if layout is None:
        return _by_shapes(model, parts)
    layout.check_all_used([str(v.path) for v in model.variables])
    found = []
    shared = _held_by_several(model)
    for layer in unique(keras_layers.all_layers(model)):
        weight = _weight_of(layer)
        if weight is None:
            _check_others(layer, layout, None, None)
            continue
        axis = layout.axis(str(weight.path), len(weight.shape))
        _check_others(layer, layout, weight, axis)
        if axis is None:
            continue
        if why := _why_whole(layer, axis, parts) or _why_shared(layer, shared):
            raise PlugError(f"layout_map cuts {weight.path!r} along axis {axis}, but {why}")
        found.append(Cut(layer, axis))
    return found


def passing_on(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers of a model that compute each number by itself, and have no weights."""
    found = [one for one in unique(keras_layers.all_layers(model)) if type(one) in _PASSING_ON]
    return [one for one in found if by_element(getattr(one, "activation", None))]


def heads_of(model: keras.Model) -> list[keras.layers.MultiHeadAttention]:
    """The attention layers of a model."""
    layers = unique(keras_layers.all_layers(model))
    return [one for one in layers if type(one) is keras.layers.MultiHeadAttention]


def _weight_of(layer: keras.layers.Layer) -> Any:
    """The one weight of a layer that can be cut, where its class is one of those."""
    if type(layer) not in _KINDS or not layer.built or getattr(layer, "quantization_mode", None):
        return None
    if isinstance(layer, keras.layers.Embedding):
        return keras_layers.embeddings_of(layer)
    return keras_layers.kernel_of(layer)


def _check_others(
    layer: keras.layers.Layer,
    layout: WeightLayout,
    weight: keras.Variable | None,
    axis: int | None,
) -> None:
    """Checks what a layout says of a layer's weights beside the one that can be cut."""
    own = "" if weight is None else str(weight.path)
    for other in layer.variables if not keras_layers.has_layers(layer) else ():
        path = str(other.path)
        if other is weight or layout.axis(path, len(other.shape)) is None:
            continue
        if not own or other is not getattr(layer, "bias", None):
            raise PlugError(
                f"layout_map cuts {path!r}, a weight of a {type(layer).__name__}: what can "
                f"be cut are kernels and tables of {_WORDS}; leave it whole, or cut the model "
                'between its layers by tfdist.strategy("pipeline")'
            )
        if axis is None or axes_in(layer, axis).out is None:
            raise PlugError(
                f"layout_map cuts {path!r}, but not the outputs of {own!r}: leave the bias out, "
                "which goes with its kernel"
            )


def _why_whole(layer: keras.layers.Layer, axis: int, parts: int) -> str:
    """Says why a layer's weight cannot be cut; "" where it can."""
    weight = _weight_of(layer)
    assert weight is not None
    if weight.shape[axis] < parts:
        return f"that has {weight.shape[axis]} entries for {parts} devices: leave it whole"
    if getattr(layer, "lora_enabled", False):
        return "the layer has LoRA, which needs it whole: leave it whole"
    for name in ("kernel", "bias", "embeddings"):
        regularizer = getattr(layer, f"{name}_regularizer", None)
        if regularizer is not None and type(regularizer) not in _SUMMED:
            return (
                f"{name}_regularizer={type(regularizer).__name__} may look at it as a whole: take "
                "L1 or L2, or leave it whole"
            )
        constraint = getattr(layer, f"{name}_constraint", None)
        if constraint is not None and type(constraint) is not keras.constraints.NonNeg:
            return (
                f"{name}_constraint={type(constraint).__name__} may look at it as a whole: take "
                "NonNeg, or leave it whole"
            )
    if isinstance(layer, _PRODUCTS):
        terms = equation_of(layer).split("->")
        if any("." in term and not term.startswith("...") for term in terms):
            return f"its equation {equation_of(layer)!r} has an ellipsis that is not in front"
    return ""


def _held_by_several(model: keras.Model) -> set[int]:
    """The identities of the weights that more than one layer holds."""
    layers = unique(keras_layers.all_layers(model))
    held = Counter(id(one) for layer in layers for one in unique(keras_layers.own_weights(layer)))
    return {weight for weight, count in held.items() if count > 1}


def _why_shared(layer: keras.layers.Layer, shared: set[int]) -> str:
    """Says of a weight that several layers hold that it cannot be cut; "" of others."""
    own = [_weight_of(layer), getattr(layer, "bias", None)]
    if any(id(one) in shared for one in own):
        return "another layer holds it, too, as SpectralNormalization does: leave it whole"
    return ""


# ---------------------------------------------------------------- without a layout


def _by_shapes(model: keras.Model, parts: int) -> list[Cut]:
    layers = unique(keras_layers.all_layers(model))
    axes: dict[int, int] = {}
    for attention in heads_of(model):
        into, out = keras_attention.projections(attention)
        size = sum(math.prod(one.kernel.shape) for one in [*into, out])
        cuts = [*((id(one), 1) for one in into), (id(out), 0)]
        if size >= _SMALLEST and attention.num_heads >= parts:
            axes.update(cuts)
        else:
            axes.update((key, -1) for key, _ in cuts)
    shared = _held_by_several(model)
    before: int | None = None  # how many outputs of the product before this layer are cut
    for layer in layers:
        weight = _weight_of(layer)
        if weight is None:
            if not _keeps_parts(layer):
                before = None
            continue
        if id(layer) not in axes:
            axes[id(layer)] = _axis_by_shape(layer, weight, before)
        axis = axes[id(layer)]
        small = math.prod(weight.shape) < _SMALLEST and not _continues(layer, axis, before)
        whole = _why_whole(layer, axis, parts) or _why_shared(layer, shared)
        if axis < 0 or small or whole:
            axes[id(layer)] = -1
            before = None
            continue
        is_dense = type(layer) is keras.layers.Dense
        cut_out = is_dense and axis == 1 and by_element(layer.activation)
        before = weight.shape[1] if cut_out else None
    return [Cut(layer, axes[id(layer)]) for layer in layers if axes.get(id(layer), -1) >= 0]


def _axis_by_shape(layer: keras.layers.Layer, weight: keras.Variable, before: int | None) -> int:
    if isinstance(layer, keras.layers.Embedding):
        return 0
    if _continues(layer, 0, before):
        return 0
    return chosen_axis(equation_of(layer), tuple(weight.shape))


def _continues(layer: keras.layers.Layer, axis: int, before: int | None) -> bool:
    """Whether a layer's input comes in parts, as it seems, and its kernel is cut to take them."""
    weight = _weight_of(layer)
    return type(layer) is keras.layers.Dense and axis == 0 and weight.shape[0] == before


def _keeps_parts(layer: keras.layers.Layer) -> bool:
    """Whether what a layer hands on comes in parts where its input does."""
    return type(layer) in _PASSING_ON or isinstance(layer, keras.Model)
