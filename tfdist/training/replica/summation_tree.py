"""The one order in which the numbers of replicas are added up, whoever has computed them. Pure.

Floating-point sums depend on their order. Here it is that of a tree: the sum of replicas
`[low, high)` is that of their lower half plus that of their upper half. A process that has replicas
`[first, last)` can add up by itself the largest branches that lie within these (`branches`); of all
the processes' branches everybody then computes the same root (`total`), to the last bit. Addition
commutes in floating point (it does not associate), so it does not matter who of two adds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tfdist.structures import T

__all__ = ["Branch", "branches", "total"]

Branch = tuple[int, int]
"""Replicas `[low, high)`."""


def branches(first: int, last: int, replicas: int) -> list[Branch]:
    """Returns the largest branches of the tree that lie within some replicas, in their order.

    Args:
        first: the first replica.
        last: the one after the last.
        replicas: how many there are in all.
    """

    def within(low: int, high: int) -> list[Branch]:
        if last <= low or high <= first:
            return []
        if first <= low and high <= last:
            return [(low, high)]
        middle = (low + high) // 2
        return within(low, middle) + within(middle, high)

    return within(0, replicas)


def total(parts: Mapping[Branch, T], add: Callable[[T, T], T], low: int, high: int) -> T:
    """Returns the sum of the replicas `[low, high)`.

    Args:
        parts: branches of the tree that cover them; one that is there is not computed.
        add: adds two values.
        low: the first replica.
        high: the one after the last.

    Raises:
        KeyError: a replica is covered by none of the parts.
    """
    if (low, high) in parts or high - low == 1:
        return parts[low, high]
    middle = (low + high) // 2
    return add(total(parts, add, low, middle), total(parts, add, middle, high))
