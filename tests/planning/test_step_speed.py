"""The seconds of a step on more workers."""

from __future__ import annotations

import pytest

from tests.planning.plans import speed


def test_what_was_measured_is_what_is_told() -> None:
    assert speed().seconds(1) == pytest.approx(0.1)
    assert speed().seconds(2) == pytest.approx(0.06)
    assert speed().gain(2) == pytest.approx(0.1 / 0.06)


def test_compute_is_a_line_through_one_and_two() -> None:
    halved = speed(alone=0.1, of_two=0.06)  # 20 ms whatever the rows, and 0.8 ms a row
    assert halved.split(4).compute == pytest.approx(0.02 + 25 * 0.0008)


def test_the_exchange_follows_the_ring() -> None:
    # 2 (N-1)/N of the bytes: 1 for two workers, 1.5 for four
    assert speed().split(4).all_reduce == pytest.approx(0.015)


def test_compute_never_falls_below_nothing_nor_with_noise_rises() -> None:
    assert speed(alone=0.1, of_two=0.01).split(8).compute == 0.0
    assert speed(alone=0.1, of_two=0.12).split(8).compute == pytest.approx(0.12)


def test_a_batch_that_grows_trains_more_rows_in_the_same_compute() -> None:
    grown = speed(alone=0.1, of_two=0.1, exchange=0.0, rows_each=100)
    assert grown.rows_of(4) == 400
    assert grown.split(4).compute == pytest.approx(0.1)
    assert grown.gain(4) == pytest.approx(4, rel=1e-3)


def test_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        speed(rows_each=0)
