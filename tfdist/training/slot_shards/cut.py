"""Which part of a variable, and of its slots, each replica updates. Pure.

Every variable is cut into as many equal shares as there are replicas, with zeros behind the last.
It is cut between rows where that costs next to nothing, else between any two numbers.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

__all__ = ["Cut"]

_MOST_PADDING = 0.02
_SMALL = 1 << 12


@dataclasses.dataclass(frozen=True)
class Cut:
    """How one variable is cut.

    Attributes:
        shape: of the variable.
        replicas: how many share it.
        by_rows: whether it is cut between rows: only then can a sparse gradient be cut, too.
    """

    shape: tuple[int, ...]
    replicas: int
    by_rows: bool

    def __post_init__(self) -> None:
        if self.replicas < 1 or min(self.shape, default=0) < 0 or (self.by_rows and not self.shape):
            raise ValueError(f"a variable {self.shape} has no {self.replicas} shares of rows")

    @classmethod
    def of(cls, shape: tuple[int, ...], replicas: int, table: bool = False) -> Cut:
        """Returns how a variable of a shape is best cut.

        Args:
            shape: of the variable.
            replicas: how many share it.
            table: whether its gradients may be sparse.
        """
        rows = shape[0] if shape else 0
        padding = (-rows) % replicas
        numbers = len(shape) == 1  # each of them a row
        small = len(shape) == 2 and math.prod(shape) <= _SMALL
        cheap = numbers or small or padding <= _MOST_PADDING * rows
        return cls(shape, replicas, rows > 0 and (table or cheap))

    @property
    def units(self) -> int:
        """Rows, or numbers, that are cut apart."""
        return self.shape[0] if self.by_rows else math.prod(self.shape)

    @property
    def width(self) -> int:
        """Numbers of each."""
        return math.prod(self.shape[1:]) if self.by_rows else 1

    @property
    def each(self) -> int:
        """How many of them a share has, zeros behind the last one's among them."""
        return -(-self.units // self.replicas)

    @property
    def share(self) -> tuple[int, ...]:
        """The shape of a share."""
        return (self.each, *self.shape[1:]) if self.by_rows else (self.each,)

    @property
    def numbers(self) -> int:
        """How many numbers a share has."""
        return self.each * self.width

    def bounds(self, replica: int) -> tuple[int, int]:
        """Returns which units are a replica's: `[start, stop)`; the last ones' may be fewer."""
        start = min(replica * self.each, self.units)
        return start, min(start + self.each, self.units)

    def own(self, whole: np.ndarray, replica: int) -> np.ndarray:
        """Returns a replica's share of an array of the variable's shape."""
        start, stop = self.bounds(replica)
        units = whole.reshape((self.units, self.width))[start:stop]
        return np.pad(units, ((0, self.each - len(units)), (0, 0))).reshape(self.share)

    def whole(self, shares: np.ndarray) -> np.ndarray:
        """Returns the array of the variable's shape, of the shares `[replicas, numbers]`."""
        units = shares.reshape((self.replicas * self.each, self.width))
        return units[: self.units].reshape(self.shape)
