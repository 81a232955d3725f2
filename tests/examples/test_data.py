"""The examples' data: real digits, always split the same way."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from tfdist.examples import data


def test_digits_are_images_from_0_to_1_with_a_label_each() -> None:
    (train_images, train_labels), (test_images, test_labels) = data.digits()
    assert train_images.shape == (1437, 8, 8, 1)
    assert test_images.shape == (360, 8, 8, 1)
    assert train_images.dtype == test_images.dtype == np.float32
    assert train_images.min() == 0
    assert train_images.max() == 1
    assert train_labels.shape == (1437,)
    assert test_labels.shape == (360,)
    assert set(train_labels) == set(range(10))


def test_every_digit_has_the_same_share_of_the_test_images() -> None:
    (_, train_labels), (_, test_labels) = data.digits()
    shares = np.bincount(test_labels) / (np.bincount(train_labels) + np.bincount(test_labels))
    np.testing.assert_allclose(shares, 0.2, atol=0.005)


def test_the_split_is_always_the_same() -> None:
    for first, second in zip(data.digits(), data.digits(), strict=True):
        np.testing.assert_array_equal(first[0], second[0])
        np.testing.assert_array_equal(first[1], second[1])


def test_a_missing_scikit_learn_is_answered_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'tfdist\[examples\]'"):
        data.digits()
