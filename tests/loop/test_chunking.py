"""Chunks grow until they take a quarter of a second, and are as long on every worker."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdist.training.loop.chunking import TARGET_SECONDS, ChunkLength

TRACED = (1, 30.0)
"""The first chunk, of one step, which has paid for the tracing."""


def after(*chunks: tuple[int, float], target: float = TARGET_SECONDS) -> ChunkLength:
    """The lengths after chunks of so many steps and seconds."""
    length = ChunkLength(target=target)
    for steps, seconds in chunks:
        length.took(steps, seconds)
        length.agreed(*([one] for one in length.told))
    return length


def test_the_first_chunk_is_one_step() -> None:
    assert ChunkLength().next_length(None) == 1
    assert ChunkLength().next_length(100) == 1


def test_the_first_chunk_says_nothing_of_a_step() -> None:
    assert after(TRACED).next_length(None) == 1
    assert after(TRACED).told[0] == 0.0


def test_a_worker_tells_what_its_last_chunk_took() -> None:
    assert after(TRACED, (1, 0.01)).told[0] == 0.01
    assert after(TRACED, (1, 0.01), (4, 0.05)).told[0] == 0.05


def test_a_chunk_is_as_long_as_fits_into_the_target() -> None:
    assert after(TRACED, (1, 0.1)).next_length(None) == 2  # 2.5 steps of 0.1 s
    assert after(TRACED, (1, 0.1), target=0.35).next_length(None) == 3


def test_a_chunk_grows_to_four_times_the_last_at_most() -> None:
    length = after(TRACED, (1, 1e-5))
    assert length.next_length(None) == 4
    length.took(4, 4e-5)
    length.agreed([4e-5], [0.0])
    assert length.next_length(None) == 16


def test_a_chunk_that_ran_longer_than_was_wished_counts_as_the_last() -> None:
    """The last chunk of an epoch may be shorter, and `every` may have been longer."""
    assert after(TRACED, (3, 3e-5)).next_length(None) == 12


def test_a_chunk_becomes_shorter_at_once() -> None:
    assert after(TRACED, (1, 1e-5), (4, 4e-5), (16, 16.0)).next_length(None) == 1


def test_a_step_that_takes_longer_than_the_target_is_a_chunk_of_its_own() -> None:
    assert after(TRACED, (1, 9.0)).next_length(None) == 1


def test_a_chunk_is_never_longer_than_4096_steps() -> None:
    length = after(TRACED, *[(4**i, 1e-9) for i in range(9)])
    assert length.next_length(None) == 4096


def test_a_clock_that_has_not_moved_is_no_division_by_zero() -> None:
    assert after(TRACED, (1, 0.0)).next_length(None) == 4


def test_a_chunk_ends_with_the_epoch() -> None:
    length = after(TRACED, (1, 1e-5))
    assert [length.next_length(left) for left in (1, 3, 4, 5)] == [1, 3, 4, 4]


def test_no_chunk_goes_over_the_border() -> None:
    length = after(TRACED, (1, 1e-5))
    length.border = 6
    assert [length.next_length(None, done) for done in (0, 2, 3, 5, 6, 7)] == [4, 4, 3, 1, 0, 0]
    assert length.next_length(1, 0) == 1


def test_an_exact_length_holds_whatever_steps_take() -> None:
    length = ChunkLength(every=7)
    assert length.next_length(None) == 7
    length.took(7, 1.0)
    length.agreed([1.0], [0.0])
    length.took(7, 1e-6)
    length.agreed([1e-6], [0.0])
    assert length.next_length(None) == 7
    assert length.next_length(5) == 5


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 2), st.floats(0, 2)), min_size=1, max_size=12),
    st.integers(1, 500),
)
def test_workers_that_are_told_the_same_choose_the_same(
    took: list[tuple[float, float]], left: int
) -> None:
    one, other = ChunkLength(), ChunkLength()
    for own, others in took:
        steps = one.next_length(left)
        assert other.next_length(left) == steps
        assert 1 <= steps <= left
        one.took(steps, own)
        other.took(steps, others)
        mean = (one.told[0] + other.told[0]) / 2
        one.agreed([mean], [0.0])
        other.agreed([mean], [0.0])


@pytest.mark.parametrize("seconds", [0.02, 0.05, 0.11])
def test_steps_that_take_as_long_as_each_other_settle_at_the_target(seconds: float) -> None:
    length = ChunkLength()
    for _ in range(8):
        steps = length.next_length(None)
        length.took(steps, steps * seconds)
        length.agreed([steps * seconds], [0.0])
    assert TARGET_SECONDS - seconds < length.next_length(None) * seconds <= TARGET_SECONDS + 1e-9
