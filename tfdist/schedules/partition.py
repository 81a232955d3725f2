"""Where to cut a chain of layers into stages. Pure: takes and returns plain numbers.

The layers stand in one order in which each comes after what it needs, and a stage is a run of them.
Over that order the split is exact: dynamic programming over the cut points, for the slowest stage,
and then for the least traffic among the splits whose stages are no slower.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from tfdist.errors import PlugError

__all__ = ["OPERATIONS_PER_BYTE", "cost_of", "split"]

OPERATIONS_PER_BYTE = 100.0
"""How many operations a processor does while the network carries a byte, roughly.

A core of 100 GFLOP/s beside a connection of 1 GB/s; both directions are counted by `split`. It
decides only between cuts of similar balance.
"""


def split(
    costs: Sequence[float],
    stages: int,
    *,
    cut_costs: Sequence[float] | None = None,
    memory: Sequence[float] | None = None,
    memory_limit: float | None = None,
) -> tuple[int, ...]:
    """Splits layers into stages such that the slowest stage is as fast as can be.

    A stage costs its layers plus what crosses its two borders. Among equally good splits the one
    with the least traffic is taken.

    Args:
        costs: of each layer, in any unit, forward and backward together.
        stages: K.
        cut_costs: `[n - 1]`: entry i is what it costs, in the same unit, to send what crosses the
            cut between layers i and i + 1.
        memory: of each layer, in bytes.
        memory_limit: bytes that a stage may hold.

    Returns:
        The first layer of each stage but the first: K - 1 increasing numbers.

    Raises:
        PlugError: there are fewer layers than stages, or no split keeps within the memory.
    """
    count = len(costs)
    if count < stages:
        raise PlugError(
            f"{count} layers for {stages} stages: give fewer stages, or a model of more layers "
            "(a model inside of the model counts as one layer)"
        )
    crossing = list(cut_costs) if cut_costs is not None else [0.0] * (count - 1)
    if len(crossing) != count - 1:
        raise ValueError(f"{len(crossing)} cut costs for {count} layers")
    sums, bytes_ = [0.0], [0.0]
    for i, cost in enumerate(costs):
        sums.append(sums[-1] + cost)
        bytes_.append(bytes_[-1] + (memory[i] if memory is not None else 0.0))
    border = [0.0, *crossing, 0.0]  # border[i] lies before layer i
    infinite = float("inf")

    def stage_cost(start: int, stop: int) -> float:
        """What a stage of these layers costs; infinite where the memory does not hold it."""
        if memory_limit is not None and bytes_[stop] - bytes_[start] > memory_limit:
            return infinite
        return sums[stop] - sums[start] + border[start] + border[stop]

    # slowest[i]: the slowest stage at best, for the first i layers in so many stages.
    slowest = [0.0, *[infinite] * count]
    for _ in range(stages):
        slowest = [
            min(
                (max(slowest[start], stage_cost(start, stop)) for start in range(stop)),
                default=infinite,
            )
            for stop in range(count + 1)
        ]
    if slowest[count] == infinite:
        raise PlugError(
            f"no split into {stages} stages keeps each within {memory_limit:.3g} bytes: give more "
            "stages or machines of more memory"
        )
    # found[i]: the least traffic, and its cuts, of those in which no stage is slower than that.
    none: tuple[float, tuple[int, ...]] = (infinite, ())
    found = [(0.0, ()), *[none] * count]
    for _ in range(stages):
        found = [
            min(
                (
                    (found[start][0] + border[start], (*found[start][1], start))
                    for start in range(stop)
                    if stage_cost(start, stop) <= slowest[count]
                ),
                key=lambda traffic_and_cuts: traffic_and_cuts[0],
                default=none,
            )
            for stop in range(count + 1)
        ]
    return found[count][1][1:]


def cost_of(
    costs: Sequence[float], cuts: Sequence[int], cut_costs: Sequence[float] | None = None
) -> list[float]:
    """Returns the cost of each stage for given cuts, as `split` counts it."""
    bounds = [0, *cuts, len(costs)]
    border = [0.0, *(cut_costs or [0.0] * (len(costs) - 1)), 0.0]
    return [sum(costs[a:b]) + border[a] + border[b] for a, b in itertools.pairwise(bounds)]
