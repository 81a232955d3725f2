"""What a worker says when TensorFlow has given a collective up."""

from __future__ import annotations

from typing import Any

import pytest
import tensorflow as tf

from tfdist.errors import TaskLeft, TaskLost
from tfdist.machine import standstill
from tfdist.training.peers.peer_errors import told_of_lost_tasks

ABORTED = "Collective ops is aborted by: Socket closed /job:worker/replica:0/task:2"


class Touch:
    def __init__(
        self,
        ended: dict[str, str] | None = None,
        silent: list[tuple[str, float]] | None = None,
        gone: list[str] | None = None,
    ) -> None:
        self._ended, self._silent = ended or {}, silent or []
        self._gone = [*self._ended, *(gone or [])]

    def ended(self) -> dict[str, str]:
        return self._ended

    def silent(self, longest: float) -> list[tuple[str, float]]:
        return self._silent

    def absent(self) -> list[str]:
        return self._gone


def told(touch: Any, error: type[tf.errors.OpError] = tf.errors.UnavailableError) -> TaskLost:
    with pytest.raises(TaskLost) as caught, told_of_lost_tasks("worker:0", "fit", touch):
        raise error(None, None, ABORTED)
    return caught.value


@pytest.fixture(autouse=True)
def awake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two tests of one process nobody looks at the clock."""
    monkeypatch.setattr(standstill, "_looked", None)
    monkeypatch.setattr(standstill, "_seconds", 0.0)


def test_one_that_was_killed_is_named() -> None:
    error = told(Touch(gone=["worker:2"]))
    assert "worker:0 lost worker:2, whose process has ended without a word" in str(error)


def test_one_that_is_silent_is_named_whatever_tensorflow_raises() -> None:
    error = told(Touch(silent=[("worker:2", 12.0)]), tf.errors.DeadlineExceededError)
    assert "worker:0 lost worker:2, which has said nothing for 12 s" in str(error)


def test_the_reason_of_one_that_failed_is_told() -> None:
    error = told(Touch({"worker:1": "ValueError: no", "worker:2": ""}))
    assert "worker:0 lost worker:1 (ValueError: no), which failed" in str(error)


def test_one_that_ended_well_has_left_but_not_where_another_was_killed() -> None:
    assert isinstance(told(Touch({"worker:1": ""})), TaskLeft)
    error = told(Touch({"worker:1": ""}, gone=["worker:2"]))
    assert not isinstance(error, TaskLeft)
    assert "worker:0 lost worker:2, whose process has ended without a word" in str(error)


def test_who_has_stood_still_blames_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standstill, "lately", lambda within: 30.0)
    error = told(Touch({"worker:1": "TaskLost: worker:0 has said nothing"}))
    assert "worker:0 itself stood still for 30 s" in str(error)
    error = told(Touch({"worker:1": "ValueError: no"}))
    assert "worker:0 lost worker:1 (ValueError: no)" in str(error)


def test_an_error_of_its_own_is_not_explained_away() -> None:
    with pytest.raises(tf.errors.DeadlineExceededError), told_of_lost_tasks("worker:0"):
        raise tf.errors.DeadlineExceededError(None, None, "the user's own queue was empty")
