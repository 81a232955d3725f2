"""`tfdist.optimize.Portions`: data that workers read for themselves, portion by portion."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from tfdist.errors import DataError
from tfdist.given_numbers import is_count

__all__ = ["Portions"]


@dataclasses.dataclass(frozen=True)
class Portions:
    """Data in numbered portions: whoever takes one reads it, and nothing passes through the chief.

    Args:
        read: from the number of a portion (an int64 scalar tensor, from 0) to `x`, `(x, y)` or
            `(x, y, sample_weight)`, tensors with the portion's rows. It is traced, and runs on the
            worker that takes the portion, in every pass: files that it names must lie there, and a
            number must give the same rows each time, on every worker. It may have no rows.
        count: how many portions there are, at least 1.

    Raises:
        DataError: `read` cannot be called, or there is no portion.

    Example:
        >>> def read(number):
        ...     file = tf.gather(files, number)  # a list of paths
        ...     rows = tf.data.TFRecordDataset(file).map(parse).batch(10**6)
        ...     return rows.get_single_element()
        >>> tfdist.optimize.LBFGS().minimize(model, tfdist.optimize.Portions(read, len(files)))
    """

    read: Callable[[Any], Any]
    count: int

    def __post_init__(self) -> None:
        if not callable(self.read):
            raise DataError(
                f"Portions(read={self.read!r}) cannot read: give a function from a portion's "
                "number to its x, (x, y) or (x, y, sample_weight)"
            )
        if not is_count(self.count):
            raise DataError(
                f"Portions(count={self.count!r}): give the number of portions, at least 1"
            )
