"""How variables are cut into shares."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfdist.training.slot_shards.cut import Cut

SHAPES = st.lists(st.integers(0, 9), max_size=4).map(tuple)


@given(SHAPES, st.integers(1, 7), st.booleans())
def test_shares_put_together_are_the_variable(
    shape: tuple[int, ...], replicas: int, table: bool
) -> None:
    cut = Cut.of(shape, replicas, table)
    whole = np.arange(math.prod(shape), dtype=np.float64).reshape(shape) + 1
    shares = [cut.own(whole, replica) for replica in range(replicas)]
    assert {share.shape for share in shares} == {cut.share}
    np.testing.assert_array_equal(cut.whole(np.stack(shares)), whole)


@given(SHAPES, st.integers(1, 7), st.booleans())
def test_each_number_is_one_replicas(shape: tuple[int, ...], replicas: int, table: bool) -> None:
    cut = Cut.of(shape, replicas, table)
    bounds = [cut.bounds(replica) for replica in range(replicas)]
    assert [b for start, stop in bounds for b in range(start, stop)] == list(range(cut.units))


@pytest.mark.parametrize("replicas", range(2, 9))
@pytest.mark.parametrize("shape", [(784, 2048), (3, 3, 64, 128), (999,), (50_001, 3), (2, 10**6)])
def test_a_share_is_one_in_n_and_five_percent_at_most(
    shape: tuple[int, ...], replicas: int
) -> None:
    cut = Cut.of(shape, replicas)
    assert cut.numbers <= (1 / replicas + 0.05) * math.prod(shape)


def test_a_table_is_cut_between_its_rows() -> None:
    assert Cut.of((7, 100_000), 3, table=True).by_rows
    assert not Cut.of((7, 100_000), 3).by_rows


def test_numbers_in_one_row_are_rows() -> None:
    assert Cut.of((999,), 2).by_rows


def test_what_cannot_be_cut_is_refused() -> None:
    with pytest.raises(ValueError, match="has no 0 shares"):
        Cut((3, 4), 0, by_rows=False)
