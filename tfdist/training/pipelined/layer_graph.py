"""A Keras model as a chain of pieces that can be cut into stages.

A piece is one call of one layer (or of one `keras.ops` function). The pieces stand in an order in
which each comes after what it needs. A model inside of the model is one piece.

Imports Keras; so it is fetched only where a model is at hand.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

import keras

from tfdist.compat import keras_layers
from tfdist.compat.keras_layers import CallRecord
from tfdist.errors import PlugError
from tfdist.schedules import partition
from tfdist.schedules.pipeline_plan import PipelinePlan
from tfdist.structures import Nest
from tfdist.training.model_parts import unique
from tfdist.training.pipelined import layer_estimates

__all__ = ["Graph", "Piece", "Segment", "Stage", "crossing", "cut", "graph_of", "is_functional"]


@dataclasses.dataclass(frozen=True, eq=False)
class Piece:
    """One call of one layer.

    Attributes:
        node: Keras' record of the call.
        operation: the layer or operation that is called.
        inputs: the symbolic tensors that it takes.
        outputs: those that it gives.
    """

    node: CallRecord
    operation: keras.Operation
    inputs: tuple[keras.KerasTensor, ...]
    outputs: tuple[keras.KerasTensor, ...]

    @property
    def name(self) -> str:
        """The layer's name."""
        return str(self.operation.name)

    @property
    def variables(self) -> list[keras.Variable]:
        """All variables of the layer, those of its random numbers too."""
        return list(getattr(self.operation, "variables", ()))


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """A model's pieces in order.

    Attributes:
        model: the model.
        inputs: its symbolic inputs, flat.
        outputs: its symbolic outputs, structured as what the model returns.
        pieces: its layers' calls.
    """

    model: keras.Model
    inputs: tuple[keras.KerasTensor, ...]
    outputs: Nest
    pieces: tuple[Piece, ...]

    @property
    def flat_outputs(self) -> list[keras.KerasTensor]:
        """The symbolic outputs, flat."""
        return list(keras.tree.flatten(self.outputs))


@dataclasses.dataclass(frozen=True, eq=False)
class Segment:
    """Pieces of one stage that follow each other on one task.

    Attributes:
        pieces: the pieces.
        task: the number of the task, within a replica.
        inputs: the symbolic tensors that come from elsewhere.
        outputs: those that are needed elsewhere, or returned by the model.
    """

    pieces: tuple[Piece, ...]
    task: int
    inputs: tuple[keras.KerasTensor, ...]
    outputs: tuple[keras.KerasTensor, ...]

    @property
    def variables(self) -> list[keras.Variable]:
        """The variables of its layers, each once."""
        return unique(v for piece in self.pieces for v in piece.variables)


@dataclasses.dataclass(frozen=True, eq=False)
class Stage:
    """A stage of the pipeline: its segments, one for each run of pieces on one task."""

    number: int
    segments: tuple[Segment, ...]

    @property
    def pieces(self) -> list[Piece]:
        """All pieces of the stage."""
        return [piece for segment in self.segments for piece in segment.pieces]


def is_functional(model: keras.Model) -> bool:
    """Whether the order of a built model's layers is known."""
    return keras_layers.functional_nodes(model) is not None


def graph_of(model: keras.Model) -> Graph:
    """Returns the pieces of a built Sequential or functional model.

    Raises:
        PlugError: the model is neither, so that nobody knows its layers' order.
    """
    nodes = keras_layers.functional_nodes(model)
    if nodes is None:
        raise PlugError(
            f"{type(model).__name__} is neither Sequential nor functional: a pipeline cuts a model "
            "between its layers, and only of those two is their order known; build the model from "
            "keras.Input to keras.Model(inputs, outputs)"
        )
    inputs, outputs, calls = nodes
    pieces = tuple(
        Piece(node, node.operation, tuple(node.input_tensors), tuple(node.outputs))
        for node in _in_order(calls, inputs)
    )
    return Graph(model, tuple(inputs), outputs, pieces)


def cut(
    graph: Graph,
    plan: PipelinePlan,
    costs: Mapping[str, float] | None = None,
    memory_limit: float | None = None,
) -> list[Stage]:
    """Cuts a model into the stages of a plan.

    Args:
        graph: the model.
        plan: its `stages` say where to cut; None or a number has the costs say it.
        costs: seconds that a layer takes for one example, forward and backward, by its name;
            estimated from the layers' shapes by default.
        memory_limit: bytes that a task may hold of variables, gradients and slots.

    Raises:
        PlugError: a name is no layer's, the cuts do not follow each other, or a task would have to
            hold more than the limit.
    """
    pieces = graph.pieces
    if isinstance(plan.stages, tuple):
        cuts = _named_cuts(pieces, plan.stages)
    elif (explicit := _explicit_cuts(graph, plan.num_stages)) is not None:
        cuts = explicit
    else:
        cuts = _balanced_cuts(graph, plan, costs, memory_limit)
    bounds = [0, *cuts, len(pieces)]
    returned = {id(tensor) for tensor in graph.flat_outputs}
    stages = []
    for number in range(len(bounds) - 1):
        own = pieces[bounds[number] : bounds[number + 1]]
        runs: list[tuple[int, list[Piece]]] = []
        for piece in own:
            task = plan.placed(piece.name, number)
            if not runs or runs[-1][0] != task:
                runs.append((task, []))
            runs[-1][1].append(piece)
        segments = tuple(_segment(graph, run, task, returned) for task, run in runs)
        stages.append(Stage(number, segments))
    if memory_limit is not None:
        _check_memory(stages, plan, memory_limit)
    return stages


def _balanced_cuts(
    graph: Graph, plan: PipelinePlan, costs: Mapping[str, float] | None, memory_limit: float | None
) -> list[int]:
    if costs is None:
        own = [layer_estimates.operations(piece) for piece in graph.pieces]
        per_byte = partition.OPERATIONS_PER_BYTE
    else:
        for piece in graph.pieces:
            if piece.name not in costs:
                raise PlugError(
                    f"costs has nothing for the layer {piece.name!r}; it has "
                    f"{', '.join(costs)}: take them of this model, by "
                    "tfdist.pipeline.measure_costs(model, batch)"
                )
        own = [costs[piece.name] for piece in graph.pieces]
        per_byte = layer_estimates.SECONDS_PER_BYTE
    stages_a_task = math.ceil(plan.num_stages / plan.tasks_each)
    return list(
        partition.split(
            own,
            plan.num_stages,
            cut_costs=[per_byte * size for size in crossing(graph)],
            memory=[layer_estimates.memory(piece) for piece in graph.pieces],
            memory_limit=None if memory_limit is None else memory_limit / stages_a_task,
        )
    )


def _check_memory(stages: Sequence[Stage], plan: PipelinePlan, limit: float) -> None:
    held: dict[int, float] = {}
    for stage in stages:
        for segment in stage.segments:
            own = sum(layer_estimates.memory(piece) for piece in segment.pieces)
            held[segment.task] = held.get(segment.task, 0.0) + own
    for task, size in held.items():
        if size > limit:
            raise PlugError(
                f"the layers of {plan.names_of(task)} need {size / 2**20:.0f} MB for variables, "
                f"gradients and slots, more than memory_limit={limit / 2**20:.0f} MB: move layers "
                "to other stages, or leave `stages` out and tfdist balances them"
            )


def crossing(graph: Graph) -> list[int]:
    """Returns, for each cut between neighbouring pieces, the bytes of one example that cross it.

    What is needed behind the cut by several layers crosses once.
    """
    last: dict[int, int] = {}
    made: dict[int, tuple[int, keras.KerasTensor]] = {}
    for place, piece in enumerate(graph.pieces):
        for tensor in piece.inputs:
            last[id(tensor)] = place
        for tensor in piece.outputs:
            made[id(tensor)] = (place, tensor)
    for tensor in graph.flat_outputs:
        last[id(tensor)] = len(graph.pieces) - 1
    sizes = [0] * max(len(graph.pieces) - 1, 0)
    for key, (place, tensor) in made.items():
        for i in range(place, min(last.get(key, place), len(sizes))):
            sizes[i] += layer_estimates.bytes_of(tensor)
    return sizes


def _in_order(calls: Sequence[CallRecord], inputs: Iterable[keras.KerasTensor]) -> list[CallRecord]:
    """Orders calls so that branches stay together: depth first from the outputs."""
    made = {id(tensor): node for node in calls for tensor in node.outputs}
    known = {id(tensor) for tensor in inputs}
    order: list[CallRecord] = []
    seen: set[int] = set()
    for root in calls:
        stack = [(root, False)]
        while stack:
            node, ready = stack.pop()
            if ready:
                order.append(node)
                continue
            if id(node) in seen:
                continue
            seen.add(id(node))
            stack.append((node, True))
            needs = [
                made[id(tensor)]
                for tensor in node.input_tensors
                if id(tensor) not in known and id(tensor) in made
            ]
            stack.extend((need, False) for need in reversed(needs) if id(need) not in seen)
    return order


def _named_cuts(pieces: Sequence[Piece], names: Sequence[str]) -> list[int]:
    places: dict[str, int] = {}
    for place, piece in enumerate(pieces):
        places.setdefault(piece.name, place)
    for name in names:
        if name not in places:
            raise PlugError(
                f"stages names the layer {name!r}, which the model does not have; it has "
                f"{', '.join(places)}"
            )
    cuts = [places[name] for name in names]
    if cuts != sorted(set(cuts)) or (cuts and cuts[0] == 0):
        order = ", ".join(f"{name} is layer {places[name]}" for name in names)
        raise PlugError(
            f"stages={list(names)} is not in the order of the layers ({order}, from 0): give the "
            "first layer of each stage but the first, in order"
        )
    return cuts


def _explicit_cuts(graph: Graph, stages: int) -> list[int] | None:
    """The cuts of a model whose layers are as many models as there are stages: each is a stage."""
    pieces = graph.pieces
    if len(pieces) == stages and all(isinstance(p.operation, keras.Model) for p in pieces):
        return list(range(1, stages))
    return None


def _segment(graph: Graph, pieces: Sequence[Piece], task: int, returned: set[int]) -> Segment:
    own = {id(tensor) for piece in pieces for tensor in piece.outputs}
    inside = {id(piece) for piece in pieces}
    wanted = returned | {
        id(tensor) for piece in graph.pieces if id(piece) not in inside for tensor in piece.inputs
    }
    inputs = unique(t for piece in pieces for t in piece.inputs if id(t) not in own)
    outputs = unique(t for piece in pieces for t in piece.outputs if id(t) in wanted)
    return Segment(tuple(pieces), task, tuple(inputs), tuple(outputs))
