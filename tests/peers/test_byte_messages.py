"""Bytes go to the other workers in pieces, and come whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tfdist.training.peers import byte_messages


@pytest.mark.parametrize("size", [0, 1, 4, 30, 33])
def test_messages_of_any_size_come_whole(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_messages, "_PIECE", 4)
    own, other = bytes(range(size)), b"another worker's"
    words = -(-max(size, len(other)) // 4)
    theirs = np.frombuffer(other.ljust(words * 4, b"\0"), "<u4").astype(float)
    pieces: list[int] = []

    def all_gather(numbers: Sequence[float]) -> np.ndarray:
        if not pieces:
            pieces.append(0)
            return np.asarray([numbers, [len(other)]])
        begin, length = sum(pieces), len(numbers)
        assert length <= 4
        pieces.append(length)
        return np.asarray([numbers, theirs[begin : begin + length]])

    assert byte_messages.all_gather_bytes(all_gather, own) == [own, other]
