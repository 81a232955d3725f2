"""Which axes of input and output an axis of a kernel belongs to. Pure: imports no TensorFlow."""

from __future__ import annotations

import dataclasses
import math

__all__ = ["Axes", "axes_of", "chosen_axis"]


@dataclasses.dataclass(frozen=True)
class Axes:
    """Where an axis of a kernel is, in what `einsum(equation, input, kernel)` takes and gives.

    Attributes:
        into: the input's axis, counted from the last one, which is -1; None where it has none: then
            every device takes the whole input.
        out: likewise the output's; None where there is none: then devices give terms of a sum.
        letter: of the axis in the equation.
    """

    into: int | None
    out: int | None
    letter: str


def axes_of(equation: str, axis: int) -> Axes:
    """Returns where an axis of the kernel is.

    Args:
        equation: such as "abc,cde->abde" or "...x,xy->...y"; the second term is the kernel's.
        axis: a number of an axis of the kernel.
    """
    into, kernel, out = _terms(equation)
    letter = kernel[axis]
    return Axes(_from_the_end(into, letter), _from_the_end(out, letter), letter)


def chosen_axis(equation: str, shape: tuple[int, ...]) -> int:
    """The axis of a kernel along which less has to be exchanged.

    The input is sent to each device whole, or the output comes from each: whichever is smaller.

    Args:
        equation: see above.
        shape: of the kernel.
    """
    into, kernel, out = _terms(equation)
    taken = [i for i, letter in enumerate(kernel) if letter in into and letter not in out]
    given = [i for i, letter in enumerate(kernel) if letter in out]
    if not taken or not given:
        return given[0] if given else taken[0]
    inputs, outputs = (math.prod(shape[i] for i in axes) for axes in (taken, given))
    return given[0] if outputs >= inputs else taken[0]


def _terms(equation: str) -> tuple[str, str, str]:
    left, _, out = equation.replace(" ", "").partition("->")
    into, _, kernel = left.partition(",")
    return into, kernel, out


def _from_the_end(term: str, letter: str) -> int | None:
    if letter not in term:
        return None
    after = term[term.index(letter) :]
    # An ellipsis behind it would stand for an unknown number of axes; Keras has it in front.
    return -len(after)
