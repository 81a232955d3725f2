"""The makings of a `tf.data.Dataset`: what is mapped, batched and repeated, and what varies."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfdist.compat.names import (
    tf_batch,
    tf_cache,
    tf_dataset,
    tf_map,
    tf_prefetch,
    tf_repeat,
    tf_shuffle,
    tf_structure,
)
from tfdist.compat.tf_graphs import nodes_of
from tfdist.structures import Nest, T

__all__ = [
    "IN_PYTHON",
    "DatasetMap",
    "MappedBatches",
    "batch_size",
    "depends_on_the_pass_before",
    "draws_anew",
    "has_cache",
    "maps_before_batch",
    "skip_batches",
    "varies_with",
    "whole_elements",
]


@dataclasses.dataclass(frozen=True)
class DatasetMap:
    """A map of a dataset that keeps no state.

    Attributes:
        function: from an element to an element, to be called in a graph.
        parallel: whether it runs for several elements at a time.
    """

    function: Callable[[Nest], Nest]
    parallel: bool


@dataclasses.dataclass(frozen=True)
class MappedBatches:
    """A dataset as `base.map(...).map(...).batch(size).repeat(...)`.

    Attributes:
        base: what is mapped.
        maps: in their order.
        size: rows of a batch.
        drop_remainder: as of `batch`.
        repeats: how often all is repeated, one number a `repeat`, -1 without end.
    """

    base: tf.data.Dataset
    maps: tuple[DatasetMap, ...]
    size: int
    drop_remainder: bool
    repeats: tuple[int, ...]


def maps_before_batch(dataset: tf.data.Dataset) -> MappedBatches | None:
    """Takes a dataset apart whose batches hold mapped elements; None if it is not of that kind."""
    if dataset.options().deterministic is False:
        return None
    dataset, repeats = _batching(dataset)
    if dataset is None:
        return None
    size = tf.get_static_value(dataset._batch_size)
    drop_remainder = tf.get_static_value(dataset._drop_remainder)
    base, maps = dataset._input_dataset, []
    mapped = (tf_map._MapDataset, tf_map._ParallelMapDataset)
    while isinstance(base, mapped) and not _keeps_state(base._map_func.function):
        if getattr(base, "_deterministic", "default") == "false":
            return None
        maps.append(DatasetMap(_map_of(base), isinstance(base, tf_map._ParallelMapDataset)))
        base = base._input_dataset
    if not maps or any(value is None for value in (size, drop_remainder, *repeats)):
        return None
    return MappedBatches(
        base, tuple(maps[::-1]), int(size), bool(drop_remainder), tuple(map(int, repeats[::-1]))
    )


def batch_size(dataset: tf.data.Dataset) -> int | None:
    """The rows of a dataset's largest batches, where its last step but `prefetch` is `batch`."""
    batching, _ = _batching(dataset)
    size = None if batching is None else tf.get_static_value(batching._batch_size)
    if batching is None or size is None:
        return None
    elements = int(batching._input_dataset.cardinality())
    return int(size) if elements < 0 else min(int(size), elements)


def _batching(dataset: tf.data.Dataset) -> tuple[Any, list[Any]]:
    """The step that makes the batches, and how often what comes of it is repeated.

    None and what was seen where something else is done to the batches.
    """
    repeats = []
    around = (tf_prefetch._PrefetchDataset, tf_dataset._OptionsDataset, tf_repeat._RepeatDataset)
    while isinstance(dataset, around):
        if isinstance(dataset, tf_repeat._RepeatDataset):
            repeats.append(tf.get_static_value(dataset._count))
        dataset = dataset._input_dataset
    makes = isinstance(dataset, tf_batch._BatchDataset | tf_batch._ParallelBatchDataset)
    return (dataset if makes else None), repeats


def skip_batches(dataset: tf.data.Dataset, count: int) -> tf.data.Dataset:
    """Returns a dataset of batches without the first, which are not mapped, where that will do.

    Args:
        dataset: of batches.
        count: how many to leave out.
    """
    found = maps_before_batch(dataset)
    if found is None or found.repeats:
        return dataset.skip(count)
    elements = found.base.skip(count * found.size)
    for one in found.maps:
        elements = elements.map(
            whole_elements(elements, one.function), tf.data.AUTOTUNE if one.parallel else None
        )
    return elements.batch(found.size, found.drop_remainder).with_options(dataset.options())


def whole_elements(dataset: tf.data.Dataset, function: Callable[[Nest], T]) -> Callable[..., T]:
    """Returns a function for `dataset.map` that sees an element as one, a tuple too."""
    is_tuple = isinstance(dataset.element_spec, tuple)

    @tf.autograph.experimental.do_not_convert  # it would hide the function's errors
    def see(*components: Nest) -> T:
        return function(components if is_tuple else components[0])

    return see


def depends_on_the_pass_before(dataset: tf.data.Dataset) -> bool:
    """Whether the elements of a pass must be made for the next one to be what it will be.

    So it is where Python code makes them, and where a dataset repeats what draws a new order each
    time. Else a pass draws at its beginning all that the next one depends on.
    """
    repeats = isinstance(dataset, tf_repeat._RepeatDataset)
    if repeats or varies_with(dataset) & IN_PYTHON:
        return True
    return any(depends_on_the_pass_before(one) for one in dataset._inputs())


def has_cache(dataset: tf.data.Dataset) -> bool:
    """Whether a dataset, or what it is made of, is cached."""
    return isinstance(dataset, tf_cache.CacheDataset) or any(map(has_cache, dataset._inputs()))


_READERS = ("Assert", "LookupTableFindV2", "LookupTableSizeV2", "ReadVariableOp", "ResourceGather")
"""What TensorFlow calls stateful though it leaves everything as it is."""


def _keeps_state(function: tf.types.experimental.ConcreteFunction) -> bool:
    operations = function.graph.get_operations()
    return any(op.op_def.is_stateful and op.type not in _READERS for op in operations)


def variables_written(dataset: tf.data.Dataset) -> list[tf.Variable]:
    """Returns the variables that a dataset's functions write: a seed's, a generator's, counters."""
    found: dict[int, tf.Variable] = {}
    for one in dataset._inputs():
        found.update({id(variable): variable for variable in variables_written(one)})
    for wrapper in dataset._functions():
        graph = wrapper.function.graph
        outside = {id(inside): id(given) for given, inside in graph.captures}
        written = {
            outside.get(id(tensor))
            for op in graph.get_operations()
            if op.op_def.is_stateful and op.type not in _READERS
            for tensor in op.inputs
        }
        found.update({id(one): one for one in graph.variables if id(one.handle) in written})
    return list(found.values())


_RANDOM = ("Random", "TruncatedNormal", "Multinomial", "Stateful", "Rng", "Assign")
"""How the names of operations begin that draw random numbers, Keras' own by a seed's variable."""

_SEEDED = ("Random", "TruncatedNormal", "Multinomial", "ParameterizedTruncatedNormal")
"""Those that have a seed when they are made, or none."""

_PYTHON = ("PyFunc", "EagerPyFunc", "PyFuncStateless")


IN_PYTHON = frozenset(("generator", "python"))
"""Those of `varies_with` that are the user's own Python code."""


def runs_python(graph: tf.Graph) -> bool:
    """Whether a function's graph, or a function in it, runs the user's own Python code."""
    return any(node.op in _PYTHON for node in nodes_of(graph))


def varies_with(dataset: tf.data.Dataset) -> set[str]:
    """Says what may make two runs of a dataset differ, though they begin with the same seeds.

    Returns:
        Of "order" (asked for with deterministic=False), "random" (numbers drawn in calls that run
        side by side), "generator" (the user's own code makes the elements) and "python" (it maps
        them) those that were found.
    """
    found = {"order"} if dataset.options().deterministic is False else set()
    if getattr(dataset, "_deterministic", "default") == "false":
        found.add("order")
    kinds = {node.op for node in _nodes_of(dataset)}
    parallel = hasattr(dataset, "_num_parallel_calls")
    if parallel and any(kind.startswith(_RANDOM) for kind in kinds):
        found.add("random")
    if "GeneratorDataset" in kinds:
        found.add("generator")
    elif kinds & set(_PYTHON):
        found.add("python")
    return found.union(*(varies_with(one) for one in dataset._inputs()))


def draws_anew(dataset: tf.data.Dataset, any_seed: bool) -> bool:
    """Whether a dataset draws random numbers that another run of the program would not.

    Args:
        dataset: the dataset.
        any_seed: whether seeds of operations do not help, as another run has another global seed.
    """
    if isinstance(dataset, tf_shuffle._ShuffleDataset):
        seeds = [tf.get_static_value(seed) for seed in (dataset._seed, dataset._seed2)]
        if any_seed or not any(seeds):
            return True
    for node in _nodes_of(dataset):
        if node.op.startswith(_SEEDED) and (
            any_seed or not (node.attr["seed"].i or node.attr["seed2"].i)
        ):
            return True
    return any(draws_anew(one, any_seed) for one in dataset._inputs())


def _nodes_of(dataset: tf.data.Dataset) -> list[tf.compat.v1.NodeDef]:
    """The operations of a dataset's map; none of one that maps nothing."""
    function = getattr(getattr(dataset, "_map_func", None), "function", None)
    if function is None:
        return []
    return nodes_of(function.graph)


def _map_of(mapped: tf.data.Dataset) -> Callable[[Nest], Nest]:
    taken, given = mapped._input_dataset.element_spec, mapped.element_spec
    function = mapped._map_func.function

    def call(element: Nest) -> Nest:
        found = function(*tf_structure.to_tensor_list(taken, element))
        return tf_structure.from_tensor_list(given, tf.nest.flatten(found))

    return call
