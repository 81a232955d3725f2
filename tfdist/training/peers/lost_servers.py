"""What a chief says when a server has gone that it cannot go on without."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator

import tensorflow as tf

from tfdist.errors import TaskLost
from tfdist.strategies import registry

__all__ = ["told_of_lost_servers"]

_NOTICE_SECONDS = 3.0
"""How long it may take until a lost server is known to be lost."""


@contextlib.contextmanager
def told_of_lost_servers(
    strategy: tf.distribute.Strategy, jobs: Collection[str], what: str
) -> Iterator[None]:
    """Says which servers are lost, where TensorFlow's error is of that.

    Args:
        strategy: whose servers they are.
        jobs: those of which every task is needed, such as "ps".
        what: what is lost with one, for the message.

    Raises:
        TaskLost: some are lost.
    """
    try:
        yield
    except tf.errors.OpError as error:
        own = isinstance(error, tf.errors.InvalidArgumentError)  # of the user's program: tell it
        deadline = time.monotonic() + (0.0 if own else _NOTICE_SECONDS)
        while not (lost := _lost(strategy, jobs)) and time.monotonic() < deadline:
            time.sleep(0.05)
        if not lost:
            raise
        raise TaskLost(
            f"chief:0 lost {', '.join(lost)}, and with it {what}: its own log tells why; start the "
            "job again, with tfdist.callbacks.Checkpoint it resumes where it was"
        ) from error


def _lost(strategy: tf.distribute.Strategy, jobs: Collection[str]) -> list[str]:
    """Those that have gone; one that has come back has come without its variables."""
    membership = registry.membership_of(strategy)
    if membership is None:
        return []
    absent = membership.absent()
    tasks = [task for task in membership.tasks if task.type in jobs]
    return [str(task) for task in tasks if task in absent or membership.times(task) > 1]
