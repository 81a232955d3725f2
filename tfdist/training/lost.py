"""What a worker says when another task of its job has gone away."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import tensorflow as tf

from tfdist.errors import TaskLost

__all__ = ["told_of_lost_tasks"]

_ALWAYS = (tf.errors.UnavailableError,)
_SOMETIMES = (tf.errors.AbortedError, tf.errors.InternalError, tf.errors.CancelledError)
_SIGNS = ("Collective ops is aborted", "Socket closed", "Connection reset", "/job:", "peer")
_PEER = re.compile(r"/job:(\w+)/replica:\d+/task:(\d+)")


@contextlib.contextmanager
def told_of_lost_tasks(task: str) -> Iterator[None]:
    """Turns TensorFlow's errors about an unreachable peer into `TaskLost`.

    Args:
        task: this process's own name, such as "worker:1".

    Raises:
        TaskLost: another task ended or cannot be reached any more.
    """
    try:
        yield
    except (*_ALWAYS, *_SOMETIMES) as error:
        message = str(error)
        if isinstance(error, _ALWAYS) or any(sign in message for sign in _SIGNS):
            raise TaskLost(_explain(task, message)) from error
        raise


def _explain(task: str, message: str) -> str:
    others = dict.fromkeys(f"{job}:{index}" for job, index in _PEER.findall(message))
    named = [name for name in others if name != task]
    lost = f"another task ({', '.join(named)} by what TensorFlow says)" if named else "another task"
    lines = [line.strip() for line in message.splitlines()]
    said = next((line for line in lines if any(sign in line for sign in _SIGNS)), lines[0])
    return (
        f"{task} lost {lost}: it ended, or can no longer be reached. Its own log tells why; then "
        "start the whole job again, with tfdist.callbacks.Checkpoint it resumes where it was "
        f"(TensorFlow: {said[:200]})"
    )
