"""Which tensors replicas on several machines sum by a gather, in place of a ring all-reduce. Pure.

A ring all-reduce (Patarasuk and Yuan, 2009) passes parts of a tensor around twice, in 2(N-1)
messages one after the other; a gather passes whole tensors around once, in N-1 messages, and then
everybody adds them up. Where the bytes take no time the latency is all, and the gather takes half
of it.
"""

from __future__ import annotations

__all__ = ["is_gathered"]

_LARGEST = 1 << 18
"""Bytes of a tensor above which there is nothing to gain even between two."""

_MORE = 1 << 16
"""Bytes that a replica may send more than by the ring: 0.5 ms at 1 Gbit/s."""


def is_gathered(replicas: int, size: int | float) -> bool:
    """Whether a sum over the replicas goes by a gather.

    Args:
        replicas: how many, at least 2.
        size: bytes of the tensor.
    """
    more = (replicas - 1) * (replicas - 2) / replicas * size
    return size <= _LARGEST and more <= _MORE
