"""TensorFlow's draws: which a graph has, and another function for those of a state of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tfdist.compat.names import tf_random_ops
from tfdist.compat.tf_graphs import nodes_of

__all__ = ["drawing_operations", "is_draw", "replace_draw"]

_DRAWING = (
    "Multinomial",
    "ParameterizedTruncatedNormal",
    "Random",
    "StatefulRandom",
    "StatefulStandardNormal",
    "StatefulTruncatedNormal",
    "StatefulUniform",
    "TruncatedNormal",
)

Draw = Callable[..., Any]


def drawing_operations(graph: Any) -> list[str]:
    """The operations of a function's graph that draw random numbers, "Stateless..." ones too.

    Args:
        graph: of a concrete function.
    """
    return [node.op for node in nodes_of(graph) if is_draw(node.op)]


def is_draw(kind: str) -> bool:
    """Whether an operation of this type draws random numbers, "Stateless..." ones too."""
    return kind.removeprefix("Stateless").startswith(_DRAWING)


def replace_draw(name: str, made: Callable[[Draw], Draw]) -> None:
    """Has this process draw by another function, from now on.

    Args:
        name: of the operation's function, such as "random_uniform".
        made: makes what takes its place, given what stands there.
    """
    setattr(tf_random_ops, name, made(getattr(tf_random_ops, name)))
