"""How those who are missing are named."""

from __future__ import annotations

import pytest

from tfdist.cluster import Cluster
from tfdist.rendezvous.wording import late_text, named, some_of

FOUR = ", ".join(f"worker:{n} (10.0.0.{n + 1}:2222)" for n in range(4))
MANY = Cluster({"worker": tuple(f"10.0.0.{n}:2222" for n in range(1, 65))})


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (1, "worker:0 (10.0.0.1:2222)"),
        (2, "worker:0 (10.0.0.1:2222) and worker:1 (10.0.0.2:2222)"),
        (62, f"62 tasks: {FOUR} and 58 more"),
    ],
)
def test_of_many_tasks_the_number_and_the_first_are_named(count: int, text: str) -> None:
    assert named(MANY.tasks[:count], MANY) == text


def test_five_are_all_named() -> None:
    assert named(MANY.tasks[:5], MANY).count("worker:") == 5


def test_an_error_about_many_is_short_and_begins_with_their_number() -> None:
    text = late_text(MANY.tasks[2:], MANY, 120.0, detail="2 of 64 tasks came")
    assert text.startswith("62 tasks: worker:2 (10.0.0.3:2222), ")
    assert "and 58 more did not come within 120 s (2 of 64 tasks came); start them" in text
    assert len(text) < 400


def test_of_many_who_are_here_some_are_listed() -> None:
    assert some_of(MANY.tasks[:3]) == "worker:0, worker:1, worker:2"
    assert some_of(MANY.tasks).endswith("worker:6 and 57 more")
