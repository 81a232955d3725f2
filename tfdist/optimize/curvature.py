"""The inverse Hessian of L-BFGS: what the last steps have taught, applied by two loops.

Source: Nocedal and Wright, "Numerical Optimization", 2006, algorithm 7.4 and equation 7.20.
"""

from __future__ import annotations

import dataclasses
import math
import sys

from tfdist.optimize.vector_space import FIXED, VectorSpace

__all__ = ["Curvature", "Pair"]

_EPSILON = sys.float_info.epsilon


@dataclasses.dataclass(frozen=True)
class Pair:
    """One step s and the change y of the gradient along it.

    Attributes:
        place: which of the pairs of vectors it has, from 0.
        product: s·y, above 0.
        square: y·y, above 0.
    """

    place: int
    product: float
    square: float

    def __post_init__(self) -> None:
        if self.place < 0 or not (self.product > 0 and self.square > 0):
            raise ValueError(f"no pair of L-BFGS: {self}")

    @property
    def step(self) -> int:
        """The number of the vector s."""
        return FIXED + 2 * self.place

    @property
    def change(self) -> int:
        """The number of the vector y."""
        return FIXED + 2 * self.place + 1


class Curvature:
    """The last pairs of one descent.

    Args:
        vectors: where they are kept.
        most: how many, at least 1.

    Attributes:
        pairs: the oldest first.
    """

    def __init__(self, vectors: VectorSpace, most: int) -> None:
        if most < 1:
            raise ValueError(f"a history of {most} pairs: there must be one at least")
        self._vectors = vectors
        self._most = most
        self.pairs: list[Pair] = []

    def clear(self) -> None:
        """Forgets all pairs."""
        self.pairs.clear()

    def keep(self, step: float, direction: int, now: int, before: int) -> bool:
        """Makes a pair of the step that was taken.

        Args:
            step: how many times the direction.
            direction: a vector.
            now: the gradient after the step.
            before: the gradient before it.

        Returns:
            Whether it is one: a step along which the gradient does not grow teaches nothing.
        """
        used = {pair.place for pair in self.pairs}
        full = len(used) == self._most
        # One place is spare, so that a pair that is none costs no older one.
        place = next(place for place in range(self._most + 1) if place not in used)
        s, y = FIXED + 2 * place, FIXED + 2 * place + 1
        vectors = self._vectors
        vectors.copy(direction, s)
        vectors.scale(step, s)
        vectors.copy(now, y)
        vectors.add(-1.0, before, y)
        product, square = vectors.dot(s, y), vectors.dot(y, y)
        if not (math.isfinite(product) and product > _EPSILON * square > 0):
            return False
        if full:
            del self.pairs[0]
        self.pairs.append(Pair(place, product, square))
        return True

    def apply(self, gradient: int, result: int) -> None:
        """Makes `result` minus the inverse Hessian times the gradient: where to go.

        Without pairs it is minus the gradient.
        """
        vectors = self._vectors
        vectors.copy(gradient, result)
        factors: list[float] = []
        for pair in reversed(self.pairs):
            factor = vectors.dot(pair.step, result) / pair.product
            vectors.add(-factor, pair.change, result)
            factors.append(factor)
        last = self.pairs[-1] if self.pairs else None
        vectors.scale(-1.0 if last is None else -last.product / last.square, result)
        # From here on the result has the other sign.
        for pair, factor in zip(self.pairs, reversed(factors), strict=True):
            back = -vectors.dot(pair.change, result) / pair.product
            vectors.add(back - factor, pair.step, result)
