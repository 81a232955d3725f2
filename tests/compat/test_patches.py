"""A set of patches is a value: what is entered and left in whatever order leaves nothing behind."""

from __future__ import annotations

from typing import Any

import pytest

from tfdist.compat import patches
from tfdist.compat.patches import Patches

CLIP, APPLY = patches.original("clip"), patches.original("apply")


def now() -> tuple[Any, Any]:
    """What `clip` and `apply` are at present."""
    found = [patches.POINTS[name] for name in ("clip", "apply")]
    return tuple(getattr(point.owner, point.name) for point in found)


def one(self: Any, grads: Any) -> Any:
    return grads


def two(self: Any, grads: Any, trainable_variables: Any = None) -> None:
    pass


def test_what_is_replaced_is_itself_again_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), Patches({"clip": one}):
        assert now() == (one, APPLY)
        raise ZeroDivisionError
    assert now() == (CLIP, APPLY)


def test_another_set_within_adds_its_own() -> None:
    with Patches({"clip": one}):
        with Patches({"apply": two}):
            assert now() == (one, two)
        assert now() == (one, APPLY)


def test_the_last_that_was_entered_is_the_one_that_counts() -> None:
    def other(self: Any, grads: Any) -> Any:
        return None

    outer, inner = Patches({"clip": one}), Patches({"clip": other, "apply": two})
    with outer:
        with inner:
            assert now() == (other, two)
        assert now() == (one, APPLY)


def test_threads_that_leave_in_another_order_leave_nothing_behind() -> None:
    first, second = Patches({"clip": one}), Patches({"apply": two})
    first.__enter__()
    second.__enter__()
    first.__enter__()
    first.__exit__()
    assert now() == (one, two)
    first.__exit__()
    assert now() == (CLIP, two)
    second.__exit__()
    assert now() == (CLIP, APPLY)


def test_two_sets_are_one_when_joined() -> None:
    with Patches({"clip": one}) | Patches({"apply": two}):
        assert now() == (one, two)
    assert now() == (CLIP, APPLY)


def test_a_point_that_is_not_known_is_refused_before_it_is_entered() -> None:
    with pytest.raises(KeyError, match="cilp"):
        Patches({"cilp": one})
