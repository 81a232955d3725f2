"""The GPUs of workers in step: whether each has its own, which decides how they exchange. Pure.

NVIDIA's NCCL wants a GPU for each process, and no MIG slices; the ring runs over everything.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

__all__ = ["Holding", "difference_of", "holding_of"]

Holding: TypeAlias = Literal["none", "own", "slices", "shared"]
"""No GPU; one or more for each task alone; MIG slices; a GPU that is there for two."""


def holding_of(cards: Iterable[tuple[str, ...] | None]) -> Holding:
    """Says how the tasks of a job hold its GPUs.

    Args:
        cards: of each task the ids of its GPUs, as all tasks would name them; None where it has not
            told.
    """
    told = [own or () for own in cards]
    every = [card for own in told for card in own]
    if not every or not all(told):
        return "none"
    if len(set(every)) < len(every):
        return "shared"
    return "slices" if any("MIG-" in card for card in every) else "own"


def difference_of(
    task: str, cards: tuple[str, ...] | None, chief: str, chiefs: tuple[str, ...] | None
) -> str | None:
    """Says why tasks with these GPUs cannot be in step; None where they can.

    TensorFlow takes for granted that all workers have as many devices, and waits for ever for those
    that are not there.

    Args:
        task: one task's name, with its process.
        cards: its GPUs; None where it has not told.
        chief: the chief's name.
        chiefs: its GPUs.
    """
    if cards is None or chiefs is None or len(cards) == len(chiefs):
        return None
    return (
        f"{task} computes on {_counted(cards)}, {chief} on {_counted(chiefs)}; give every worker "
        "in step as many GPUs (tfdist run --gpus_per_task N on every host), or none to any of them "
        "(--gpus_per_task 0, or CUDA_VISIBLE_DEVICES=-1)"
    )


def _counted(cards: tuple[str, ...]) -> str:
    return "no GPU" if not cards else f"{len(cards)} GPU{'s' if len(cards) > 1 else ''}"
