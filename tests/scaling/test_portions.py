"""Batches in portions on paper."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.scaling.numbers import patient
from tfdist.scaling.portion_job import PortionJob

paces = st.lists(st.floats(0.1, 10), min_size=1, max_size=10)


@patient
@given(st.integers(1, 60), st.integers(1, 10), st.booleans())
def test_equal_workers_share_alike(portions: int, workers: int, backups: bool) -> None:
    rounds = -(-portions // workers)
    assert PortionJob(portions, backups).seconds([0.5] * workers) == pytest.approx(0.5 * rounds)


@patient
@given(st.integers(1, 60), paces)
def test_no_pass_is_faster_than_its_workers_together(portions: int, own: list[float]) -> None:
    for backups in (True, False):
        took = PortionJob(portions, backups).seconds(own)
        assert took >= portions / sum(1 / pace for pace in own) * (1 - 1e-9)
        assert took <= portions * max(own) * (1 + 1e-9)


@patient
@given(st.integers(1, 60), paces)
def test_backups_never_make_it_later(portions: int, own: list[float]) -> None:
    with_, without = (PortionJob(portions, backups).seconds(own) for backups in (True, False))
    assert with_ <= without


def test_the_last_portion_of_a_slow_worker_is_waited_for_without_backups() -> None:
    # The slow one takes its second portion after 4 s; the fast one has done the other three then.
    assert PortionJob(5, backups=False).seconds([4.0, 1.0]) == pytest.approx(4)
    assert PortionJob(6, backups=False).seconds([4.1, 1.0]) == pytest.approx(5)
    assert PortionJob(6, backups=False).seconds([3.9, 1.0]) == pytest.approx(7.8)
    assert PortionJob(6).seconds([3.9, 1.0]) == pytest.approx(5)


def test_what_is_copied_is_copied_once() -> None:
    assert PortionJob(1).seconds([5.0, 3.0, 1.0]) == pytest.approx(3)


def test_numbers_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="portions=0: give a number of at least 1"):
        PortionJob(0)
    for own in ([], [0.0]):
        with pytest.raises(ValueError, match="give seconds of a portion for each worker"):
            PortionJob(4).seconds(own)
