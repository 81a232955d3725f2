"""In how many sums gradients travel, so that the first is on its way while others are computed.

One sum of all gradients waits for the last of them. A backward pass has those of the last layers
first; in buckets, they travel while the pass goes on (Li et al., "PyTorch Distributed: Experiences
on Accelerating Data Parallel Training", 2020). What is large goes alone, so that nothing copies it.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["BUCKET_BYTES", "LANES", "in_buckets"]

BUCKET_BYTES = 4 << 20
"""Where a sum of its own begins to pay: below, what each costs is more than what it hides."""

LANES = 2
"""Sums under way at a time: one fills the wire while another adds up or waits for an answer."""


def in_buckets(sizes: Sequence[int], limit: int = BUCKET_BYTES) -> list[list[int]]:
    """Puts tensors together that are summed together.

    Args:
        sizes: bytes of each, in the order of the variables: a backward pass has the last first.
        limit: bytes from which on a tensor goes alone, and a bucket is full.

    Returns:
        The places of each bucket's tensors, in the order in which the buckets are full.
    """
    buckets: list[list[int]] = []
    filling: list[int] = []
    for place in reversed(range(len(sizes))):
        if sizes[place] >= limit:
            buckets.append([place])
            continue
        filling.append(place)
        if sum(sizes[i] for i in filling) >= limit:
            buckets.append(filling)
            filling = []
    return [*buckets, filling] if filling else buckets
