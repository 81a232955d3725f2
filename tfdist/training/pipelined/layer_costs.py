"""`tfdist.pipeline.measure_costs`: how long each layer of a model takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import keras
import tensorflow as tf

from tfdist.compat import keras_layers
from tfdist.structures import Data, Gradient
from tfdist.training.data.arrays import as_tensors
from tfdist.training.pipelined.layer_graph import Piece, graph_of

__all__ = ["measure_costs"]


def measure_costs(model: keras.Model, x: Data, repeats: int = 5) -> dict[str, float]:
    """Times each layer of a model on this machine, forward and backward.

    Nothing of the model changes. The layers' variables are fetched one layer at a time, so that a
    model which is spread over machines can be measured, too.

    Args:
        model: a built Sequential or functional model.
        x: a batch of its inputs, of about the size of a microbatch.
        repeats: how often each layer is run; the median counts.

    Returns:
        Seconds that a layer takes for one example, by the layer's name; for `tfdist.plug(model,
        costs=...)`.

    Raises:
        PlugError: the model is neither Sequential nor functional.
    """
    graph = graph_of(model)
    inputs = keras_layers.functional_inputs(model, as_tensors(x))
    rows = int(inputs[0].shape[0])
    values = {id(s): tensor for s, tensor in zip(graph.inputs, inputs, strict=True)}
    found: dict[str, list[float]] = {}
    for piece in graph.pieces:
        given = [values[id(symbol)] for symbol in piece.inputs]
        state = [tf.identity(variable.value) for variable in piece.variables]
        both_ways = tf.function(_both_ways(piece), autograph=False)
        outputs = both_ways(given, state)[0]  # traces, and warms up
        for symbol, value in zip(piece.outputs, outputs, strict=True):
            values[id(symbol)] = value
        seconds = _seconds(lambda: both_ways(given, state), repeats)  # noqa: B023
        found.setdefault(piece.name, []).append(seconds / rows)
    return {name: statistics.fmean(times) for name, times in found.items()}


def _both_ways(piece: Piece) -> Callable[..., tuple[list[tf.Tensor], list[Gradient]]]:
    """The forward of a layer and the gradients of its inputs and weights."""

    def run(
        given: list[tf.Tensor], state: list[tf.Tensor]
    ) -> tuple[list[tf.Tensor], list[Gradient]]:
        symbols = zip(piece.inputs, given, strict=True)
        mapping = list(zip(piece.variables, state, strict=True))
        sources = [value for value in [*given, *state] if value.dtype.is_floating]
        with (
            keras.StatelessScope(state_mapping=mapping),
            tf.GradientTape(watch_accessed_variables=False) as tape,
        ):
            tape.watch(sources)
            outputs = keras_layers.call_node(piece.node, {id(s): v for s, v in symbols}, True)
        targets = [value for value in outputs if value.dtype.is_floating]
        gradients = tape.gradient(targets, sources) if targets and sources else []
        return outputs, [gradient for gradient in gradients if gradient is not None]

    return run


def _seconds(run: Callable[[], tuple[list[tf.Tensor], list[Gradient]]], repeats: int) -> float:
    times = []
    for _ in range(max(1, repeats)):
        began = time.perf_counter()
        outputs, gradients = run()
        for tensor in [*outputs[:1], *gradients[-1:]]:
            tensor.numpy() if isinstance(tensor, tf.Tensor) else tensor.values.numpy()
        times.append(time.perf_counter() - began)
    return statistics.median(times)
