"""Which layers go to which stage, for any number of stages. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from tfdist.planning.seen_process import LayerSize
from tfdist.schedules import partition

__all__ = ["cut_layers"]


def cut_layers(layers: Sequence[LayerSize], stages: int) -> list[list[LayerSize]]:
    """Cuts layers as a pipeline does by default: by what they cost, and what crosses.

    Args:
        layers: in a pipeline's order; each knows its stage of two.
        stages: how many, at least 2.

    Returns:
        The layers of each stage; none where there are fewer layers than stages.
    """
    if len(layers) < stages:
        return []
    if stages == 2:
        return [[layer for layer in layers if layer.stage == number] for number in range(2)]
    crossing = [partition.OPERATIONS_PER_BYTE * layer.crossing for layer in layers[:-1]]
    cuts = partition.split([one.operations for one in layers], stages, cut_costs=crossing)
    bounds = [0, *cuts, len(layers)]
    return [list(layers[start:stop]) for start, stop in itertools.pairwise(bounds)]
