"""What a probe reads off a model: its layers, as a pipeline would cut them, and its tables."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import threading
from collections.abc import Iterator, Sequence

import keras
import tensorflow as tf

from tfdist.compat import keras_layers, keras_slots
from tfdist.errors import PlugError, TfdistError
from tfdist.planning.seen_process import LayerSize, TableSize
from tfdist.schedules.pipeline_plan import PipelinePlan
from tfdist.training.embeddings.sharded_embedding import MIN_BYTES
from tfdist.training.model_parts import optimizers_of, unique
from tfdist.training.parameter_server import ParameterServerKind
from tfdist.training.pipelined import layer_estimates, layer_graph
from tfdist.training.pipelined.pipeline_programs import check_model
from tfdist.training.plug_options import TrainingOptions

__all__ = [
    "bytes_of",
    "counted_ids",
    "layers_of",
    "tables_of",
    "why_no_servers",
    "why_no_shards",
]

Ids = dict[tuple[int, int, int], int]
"""How many ids of one example an embedding is called with, by the layer, the traced program and
the thread: each of several replicas in one program is traced by a thread of its own."""


def bytes_of(variables: Sequence[keras.Variable]) -> int:
    """Bytes of variables."""
    return sum(math.prod(v.shape) * int(tf.as_dtype(v.dtype).size) for v in variables)


def layers_of(model: keras.Model) -> tuple[list[LayerSize], str]:
    """The layers in the order in which a pipeline cuts them, and the stage of each of two.

    Returns:
        [] and why there is no pipeline of this model, where there is none.
    """
    try:
        check_model(model)
        graph = layer_graph.graph_of(model)
        stages = layer_graph.cut(graph, PipelinePlan(tasks=("worker:0", "worker:1")))
    except TfdistError as error:
        return [], str(error)
    crossing = [*layer_graph.crossing(graph), 0]
    pieces = [(stage.number, piece) for stage in stages for piece in stage.pieces]
    found = []
    for (stage_number, piece), crosses in zip(pieces, crossing, strict=True):
        found.append(
            LayerSize(
                name=piece.name,
                stage=stage_number,
                weights=bytes_of(piece.variables),
                gradients=bytes_of(getattr(piece.operation, "trainable_variables", ())),
                outputs=sum(layer_estimates.bytes_of(tensor) for tensor in piece.outputs),
                crossing=crosses,
                operations=layer_estimates.operations(piece),
            )
        )
    return found, ""


def why_no_servers(model: keras.Model) -> str:
    """Why parameter servers refuse a model; "" where they do not."""
    try:
        ParameterServerKind().check(model, model.distribute_strategy)
    except TfdistError as error:
        return str(error)
    return ""


def why_no_shards(model: keras.Model, options: TrainingOptions | None) -> str:
    """Why `shard_optimizer=True` is nothing for a model; "" where it may be.

    Args:
        model: a compiled one.
        options: those that it was plugged with; None is all by default.
    """
    for optimizer in map(keras_slots.base_of, optimizers_of(model)):
        if not keras_slots.elementwise(optimizer):
            return f"{type(optimizer).__name__} may look at a variable as a whole"
    given = options or TrainingOptions()
    if given.shard_optimizer:
        return "the script asks for shard_optimizer by itself"
    try:
        dataclasses.replace(given, shard_optimizer=True)
    except PlugError as error:
        return str(error)
    return ""


@contextlib.contextmanager
def counted_ids() -> Iterator[Ids]:
    """While it is open, traced calls of embeddings are counted by what they look up."""
    found: Ids = {}
    call = keras.layers.Embedding.call

    @functools.wraps(call)
    def counted(layer: keras.layers.Embedding, inputs: tf.Tensor) -> tf.Tensor:
        key = id(layer), id(tf.compat.v1.get_default_graph()), threading.get_ident()
        found[key] = found.get(key, 0) + math.prod(size or 1 for size in inputs.shape[1:])
        return call(layer, inputs)

    keras.layers.Embedding.call = counted
    try:
        yield found
    finally:
        keras.layers.Embedding.call = call


def tables_of(model: keras.Model, ids: Ids) -> dict[str, TableSize]:
    """The embeddings that parameter servers would shard, by the paths of their variables.

    Args:
        model: a built one.
        ids: what `counted_ids` has found while a step was traced.
    """
    found = {}
    for layer in unique(keras_layers.all_layers(model)):
        if type(layer) is not keras.layers.Embedding or not layer.built:
            continue
        table = layer.embeddings
        if bytes_of([table]) >= MIN_BYTES:
            counts = [count for (number, *_), count in ids.items() if number == id(layer)]
            found[table.path] = TableSize(
                name=layer.name,
                weights=bytes_of([table]),
                gradients=bytes_of(layer.trainable_variables),
                height=layer.input_dim,
                ids=max(counts, default=1),
            )
    return found
