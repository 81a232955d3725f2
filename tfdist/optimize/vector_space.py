"""Vectors that live elsewhere, and the commands of a coordinator that never sees one.

Source: Dean et al., "Large Scale Distributed Deep Networks", 2012, section 4.2: the coordinator of
Sandblaster issues commands "drawn from a small set of operations (e.g., dot product, scaling,
coefficient-wise addition, multiplication) that can be performed by each parameter server shard
independently".
"""

from __future__ import annotations

from typing import Protocol

__all__ = ["BASE", "BEFORE", "DIRECTION", "FIXED", "GRADIENT", "Objective", "VectorSpace"]

BASE, GRADIENT, BEFORE, DIRECTION = range(4)
"""The vectors of a descent: the point that a line search begins from, the gradient where the
weights are, the one at the base, and where the search goes."""

FIXED = 4
"""How many these are; the pairs of the history follow."""


class VectorSpace(Protocol):
    """Vectors of one length, known by their numbers; only scalars come back."""

    def dot(self, one: int, other: int) -> float:
        """Returns the inner product of two vectors."""

    def add(self, factor: float, one: int, to: int) -> None:
        """Adds a multiple of one vector to another one."""

    def add_and_dot(self, factor: float, one: int, to: int, other: int) -> float:
        """Adds a multiple of one vector to another one; returns its inner product with a third."""

    def scale(self, factor: float, which: int) -> None:
        """Multiplies a vector."""

    def copy(self, source: int, target: int) -> None:
        """Makes a vector equal to another one."""

    def largest(self, which: int) -> float:
        """Returns the largest absolute value in a vector."""


class Objective(Protocol):
    """A smooth function of a point, with the vectors that its descent works with."""

    @property
    def vectors(self) -> VectorSpace:
        """Returns `FIXED` vectors, and two for each pair of the history and for a spare one."""

    def measure(self) -> float:
        """Returns the function's value at the point, and leaves its gradient in `GRADIENT`."""

    def note_base(self) -> None:
        """Copies the point to `BASE`."""

    def is_at_base(self) -> bool:
        """Whether the point is where `note_base` found it."""

    def go(self, step: float) -> None:
        """Moves the point to `BASE` plus so many times `DIRECTION`."""
