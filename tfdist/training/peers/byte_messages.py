"""Bytes that workers tell each other, in the numbers that they can send."""

from __future__ import annotations

import numpy as np

from tfdist.training.data.stream import AllGatherNumbers

__all__ = ["all_gather_bytes"]

_PIECE = 2**19  # words of a message
_WORD = 4  # bytes that a float64 holds exactly, whatever it is multiplied with


def all_gather_bytes(all_gather: AllGatherNumbers, own: bytes) -> list[bytes]:
    """Shows this worker's bytes to all; every worker calls it together.

    Args:
        all_gather: shows numbers to all.
        own: as many as a worker likes.

    Returns:
        Each worker's.
    """
    sizes = [int(size) for size in all_gather([float(len(own))])[:, 0]]
    if len(sizes) == 1:
        return [own]
    words = -(-max(sizes) // _WORD)
    numbers = np.frombuffer(own.ljust(words * _WORD, b"\0"), "<u4").astype(np.float64)
    told = [b""] * len(sizes)
    for begin in range(0, words, _PIECE):
        table = all_gather(numbers[begin : begin + _PIECE].tolist())
        told = [
            so_far + row.astype("<u4").tobytes() for so_far, row in zip(told, table, strict=True)
        ]
    return [one[:size] for one, size in zip(told, sizes, strict=True)]
