"""A walk through the graph of a step: something is found out of what tensors come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import tensorflow as tf

from tfdist.compat import tf_graphs

__all__ = ["found_out", "made_of"]

Own = TypeVar("Own")
Found = TypeVar("Found")


def found_out(
    tensor: tf.Tensor,
    found: dict[int, Found],
    kept: list[object],
    look_at: Callable[[tf.Tensor], tuple[Own, list[tf.Tensor]]],
    put_together: Callable[[tf.Tensor, Own, list[Found]], Found],
) -> Found:
    """Visits what a tensor comes from, each once, without recursion: graphs are deep.

    Args:
        tensor: of a graph.
        found: what is known of tensors already, by identity; all that are visited are added.
        kept: takes them: what an identity stands for must live.
        look_at: what a tensor tells itself, and what else it comes from.
        put_together: what is found of it, given these, and what was found of its sources.
    """
    waiting = [tensor]
    while waiting:
        one = waiting[-1]
        if id(one) not in found:
            own, sources = look_at(one)
            left = [source for source in sources if id(source) not in found]
            if left:
                waiting += left
                continue
            found[id(one)] = put_together(one, own, [found[id(source)] for source in sources])
            kept.append(one)
        waiting.pop()
    return found[id(tensor)]


def made_of(tensor: tf.Tensor) -> list[tf.Tensor]:
    """What a tensor of a graph comes from: also what is captured, and what branches return.

    Returns:
        Of a placeholder what it stands for outside of its graph, none of an argument; of a
        condition what it chooses by, and one tensor for each branch; of others the inputs.
    """
    operation = tensor.op
    if operation.type == "Placeholder":
        outer = tf_graphs.captured(tensor)
        return [] if outer is None else [outer]
    graphs = tf_graphs.branches(operation)
    if graphs is not None:
        return [operation.inputs[0], *(one.outputs[tensor.value_index] for one in graphs)]
    return list(operation.inputs)
