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
        vectors, pairs = self._vectors, self.pairs
        vectors.copy(gradient, result)
        if not pairs:
            vectors.scale(-1.0, result)
            return
        factors = [0.0] * len(pairs)
        product = vectors.dot(pairs[-1].step, result)
        for i in reversed(range(len(pairs))):
            factors[i] = product / pairs[i].product
            if i:  # one message does both
                change, older = pairs[i].change, pairs[i - 1].step
                product = vectors.add_and_dot(-factors[i], change, result, older)
        vectors.add(-factors[0], pairs[0].change, result)
        vectors.scale(-pairs[-1].product / pairs[-1].square, result)
        # From here on the result has the other sign.
        product = vectors.dot(pairs[0].change, result)
        for i, pair in enumerate(pairs):
            back = -product / pair.product - factors[i]
            if i + 1 < len(pairs):
                newer = pairs[i + 1].change
                product = vectors.add_and_dot(back, pair.step, result, newer)
            else:
                vectors.add(back, pair.step, result)
