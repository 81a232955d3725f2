"""Arrays of any size as some numbers whose distances are the arrays' own.

A small array stays as it is. A large one is added up into fewer places, each number with a sign of
its own: a count sketch (Charikar, Chen and Farach-Colton, "Finding frequent items in data streams",
2002). It is linear, so the sketch of a difference is the difference of the sketches; no number is
left out; and its length is the array's to about 1 / sqrt(places).
"""

from __future__ import annotations

import functools
import zlib

import numpy as np

__all__ = ["PLACES", "ROW_PLACES", "as_numbers", "fold", "fold_rows", "row_marks"]

PLACES = 1 << 14
"""Numbers that are kept of an array."""

ROW_PLACES = 16
"""Numbers that are kept of a row of an output."""

_WIDE = 1 << 16


def fold(array: np.ndarray, places: int = PLACES) -> np.ndarray:
    """Returns at most `places` numbers (float64) for an array of any shape."""
    flat = as_numbers(array).reshape(-1)
    if flat.size <= places:
        return flat
    rest = -flat.size % places
    signed = np.concatenate([flat * _signs(flat.size), np.zeros(rest)])
    return np.asarray(signed.reshape(-1, places).sum(0))


def fold_rows(array: np.ndarray, places: int = ROW_PLACES) -> np.ndarray:
    """Returns `[rows, at most places]` numbers (float64) for an array `[rows, ...]`."""
    rows = np.asarray(array).reshape(len(array), -1)
    width = rows.shape[1]
    if width <= places:
        return as_numbers(rows)
    if width > _WIDE:  # a row at a time: less memory
        return np.stack([fold(row, places) for row in rows])
    rest = -width % places
    signed = np.pad(as_numbers(rows) * _signs(width), ((0, 0), (0, rest)))
    return np.asarray(signed.reshape(len(rows), -1, places).sum(1))


def row_marks(arrays: list[np.ndarray]) -> np.ndarray:
    """Returns a number (int64) for each row of a batch, equal where all of its bytes are."""
    count = min(len(array) for array in arrays)
    marks = np.zeros(count, np.int64)
    for i in range(count):
        mark = 0
        for array in arrays:
            row = np.asarray(array[i])
            same = repr(row.tolist()).encode() if row.dtype == object else row.tobytes()
            mark = zlib.crc32(same, mark)
        marks[i] = mark
    return marks


def as_numbers(array: np.ndarray) -> np.ndarray:
    """Returns the array in float64; texts by their check sums."""
    array = np.asarray(array)
    if array.dtype == object:
        numbers = [zlib.crc32(repr(text).encode()) for text in array.reshape(-1)]
        return np.asarray(numbers, np.float64).reshape(array.shape)
    if array.dtype.kind in "USV":
        return (
            np.asarray(array.astype(np.float32), np.float64)
            if array.dtype.kind == "V"
            else (as_numbers(array.astype(object)))
        )
    return np.asarray(array, np.float64)


@functools.lru_cache(maxsize=64)
def _signs(size: int) -> np.ndarray:
    """1 or -1 for each place, the same in every process."""
    draws = np.random.Generator(np.random.PCG64(size)).integers(0, 2, size, dtype=np.int8)
    signs: np.ndarray = 2 * draws - 1
    return signs
