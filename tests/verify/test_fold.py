"""Sketches of arrays differ as the arrays do, and rows have marks by which they are known."""

from __future__ import annotations

import numpy as np
import pytest

from tfdist.diagnose.verify.fold import fold, fold_rows, row_marks

RNG = np.random.default_rng(0)


def test_a_small_array_stays_as_it_is() -> None:
    array = RNG.normal(size=(3, 4)).astype("float32")
    np.testing.assert_array_equal(fold(array), array.reshape(-1))


def test_a_sketch_is_linear() -> None:
    one, other = RNG.normal(size=(2, 100, 30))
    np.testing.assert_allclose(fold(one - other, 50), fold(one, 50) - fold(other, 50), atol=1e-12)


@pytest.mark.parametrize("place", [0, 777, 2999])
def test_no_number_is_left_out(place: int) -> None:
    one = RNG.normal(size=3000)
    other = one.copy()
    other[place] += 1.0
    assert np.linalg.norm(fold(one, 64) - fold(other, 64)) == pytest.approx(1.0)


def test_a_sketch_is_as_long_as_the_array() -> None:
    array = RNG.normal(size=100_000)
    assert np.linalg.norm(fold(array, 4096)) == pytest.approx(np.linalg.norm(array), rel=0.1)


def test_rows_are_folded_each_by_itself() -> None:
    rows = RNG.normal(size=(5, 6, 7))
    folded = fold_rows(rows)
    assert folded.shape == (5, 16)
    np.testing.assert_array_equal(fold_rows(rows[2:3])[0], folded[2])


def test_marks_are_those_of_the_rows() -> None:
    x, y = RNG.normal(size=(6, 3)), np.arange(6)
    marks = row_marks([x, y])
    np.testing.assert_array_equal(row_marks([x[::-1], y[::-1]]), marks[::-1])
    assert len(set(marks.tolist())) == 6
    y[3] = 9
    assert (row_marks([x, y]) != marks).tolist() == [False, False, False, True, False, False]


def test_texts_have_marks_and_numbers() -> None:
    texts = np.asarray([b"one", b"two", b"one"], object)
    marks = row_marks([texts])
    assert marks[0] == marks[2] != marks[1]
    assert fold(texts)[0] == fold(texts)[2]
