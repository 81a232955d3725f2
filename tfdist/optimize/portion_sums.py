"""Sums of portions in one order, whichever comes first: a binary tree over their numbers.

Portions 2k and 2k + 1 are added to each other as soon as both are there, then such pairs, and so
on; what is left at the end, one tree for each 1 in the binary digits of the number of portions, is
added from the right. So the sum has the same bits whoever computed the portions and when. Where all
but a few have come, few partial sums are kept: at most twice the digits for each that is missing.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

__all__ = ["PortionSums"]

Merge = tuple[int, int]
"""Two slots: the second is added to the first, and is free after that."""


class PortionSums:
    """Says which slots are to be added to which; the slots themselves are elsewhere."""

    def __init__(self) -> None:
        self._nodes: dict[tuple[int, int], int] = {}

    def __len__(self) -> int:
        """How many slots hold partial sums."""
        return len(self._nodes)

    def add(self, portion: int, slot: int) -> list[Merge]:
        """Takes a portion in, of which none is to come twice.

        Args:
            portion: its number, from 0.
            slot: where it is.

        Returns:
            What is to be added now, in this order.
        """
        merges = []
        level, index = 0, portion
        while (other := self._nodes.pop((level, index ^ 1), None)) is not None:
            left, right = (other, slot) if index % 2 else (slot, other)
            merges.append((left, right))
            level, index, slot = level + 1, index // 2, left
        self._nodes[level, index] = slot
        return merges

    def finish(self, portions: int) -> tuple[list[Merge], int]:
        """Ends the sum of all portions, and begins anew.

        Args:
            portions: how many there were, at least 1; all are here.

        Returns:
            What is to be added now, in this order, and the slot that holds the sum then.

        Raises:
            ValueError: some are missing, or there are more.
        """
        nodes = sorted(self._nodes, key=lambda node: -(node[1] << node[0]))
        here = sum(1 << level for level, _ in nodes)
        first = nodes[0][1] + 1 << nodes[0][0] if nodes else 0
        if not here == first == portions > 0:
            raise ValueError(f"a sum of {portions} portions, but {here} are there, up to {first}")
        slots: Sequence[int] = [self._nodes[node] for node in nodes]
        self._nodes.clear()
        return [(left, right) for right, left in itertools.pairwise(slots)], slots[-1]
