"""Which axes of input and output an axis of a kernel belongs to, and which is cut."""

from __future__ import annotations

import pytest

from tfdist.training.tensor_parallel.einsum_axes import Axes, axes_of, chosen_axis


@pytest.mark.parametrize(
    ("equation", "axis", "expected"),
    [
        ("...x,xy->...y", 0, Axes(-1, None, "x")),
        ("...x,xy->...y", 1, Axes(None, -1, "y")),
        ("abc,cde->abde", 1, Axes(None, -2, "d")),
        ("abde,dec->abc", 0, Axes(-2, None, "d")),
        ("abc,bcd->abd", 0, Axes(-2, -2, "b")),
    ],
)
def test_axes_of_kernels_are_found(equation: str, axis: int, expected: Axes) -> None:
    assert axes_of(equation, axis) == expected


@pytest.mark.parametrize(
    ("equation", "shape", "axis"),
    [
        ("...x,xy->...y", (4, 16), 1),
        ("...x,xy->...y", (16, 4), 0),
        ("...x,xy->...y", (16, 16), 1),
        ("abc,cde->abde", (64, 8, 8), 1),
        ("abde,dec->abc", (8, 8, 16), 0),
        ("...x,xy->...y", (16, 9), 0),
        ("abc,bcd->abd", (2, 64, 4), 1),
        ("ab,cb->abc", (3, 5), 0),
        ("ab,bc->a", (3, 5), 0),
        ("ab,b->ab", (5,), 0),
    ],
)
def test_the_axis_with_less_to_send_is_chosen(
    equation: str, shape: tuple[int, ...], axis: int
) -> None:
    assert chosen_axis(equation, shape) == axis


def test_axes_stay_as_they_are() -> None:
    with pytest.raises(AttributeError):
        axes_of("ab,bc->ac", 0).letter = "x"  # type: ignore[misc]
