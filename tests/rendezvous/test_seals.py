"""The seal of a message, which nobody can make who does not know the key."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdist.rendezvous.seals import Seals


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=5), st.data())
def test_a_seal_fits_one_message_at_one_place_in_one_direction(
    bodies: list[bytes], data: st.DataObject
) -> None:
    one, other, reader = Seals(b"a", b"b"), Seals(b"a", b"b"), Seals(b"b", b"a")
    sealed = [one.seal(body) + body for body in bodies]
    for body, whole in zip(bodies, sealed, strict=True):
        assert reader.open(whole) == body
    with pytest.raises(ValueError, match="without the job's seal"):
        reader.open(sealed[-1])  # once more
    with pytest.raises(ValueError, match="without the job's seal"):
        other.open(sealed[0])  # back to who sent it
    fresh = Seals(b"b", b"a")
    place = data.draw(st.integers(0, len(sealed[0]) - 1))
    bit = 1 << data.draw(st.integers(0, 7))
    wrong = bytearray(sealed[0])
    wrong[place] ^= bit
    with pytest.raises(ValueError, match="without the job's seal"):
        fresh.open(bytes(wrong))
