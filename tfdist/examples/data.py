"""The data of the examples: real, small, and shipped with a package, so nothing is downloaded."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Examples: TypeAlias = tuple[NDArray[np.float32], NDArray[np.int32]]
"""Images and their labels."""

_TEST_SHARE = 0.2


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


def _examples(pixels: NDArray[np.float64], labels: NDArray[np.int64]) -> Examples:
    """Pixels from 0 to 16 in rows of 64, as images."""
    images = (pixels / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    return images, labels.astype(np.int32)
