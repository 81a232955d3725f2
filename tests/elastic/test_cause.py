"""What the end of a task means for its job, and how many workers a job may have."""

from __future__ import annotations

import pytest

from tests.elastic.play import FAILED, FOLLOWS, lost
from tfdist.cluster.crew_size import Size
from tfdist.errors import ClusterError
from tfdist.launch.crew.cause import Cause, kind_of


@pytest.mark.parametrize(("least", "most"), [(0, 2), (3, 2), (-1, 1)])
def test_what_is_no_size_is_refused(least: int, most: int) -> None:
    with pytest.raises(ClusterError, match="give the fewest"):
        Size(least, most)


@pytest.mark.parametrize(
    ("code", "by_signal", "follows", "kind"),
    [
        (137, True, False, "lost"),
        (1, False, False, "failed"),
        (75, False, True, "follows"),
        (64, False, False, "hopeless"),
        (69, False, False, "hopeless"),
    ],
)
def test_what_an_end_means(code: int, by_signal: bool, follows: bool, kind: str) -> None:
    assert kind_of(code, by_signal=by_signal, follows=follows) == kind


def test_a_cause_is_read_as_it_was_written() -> None:
    for cause in (lost("worker:1"), FOLLOWS, FAILED):
        assert Cause.from_tree(cause.to_tree()) == cause
