"""What a worker says when another task of its job has gone away, or does something else."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import tensorflow as tf

from tfdist.errors import DataError, TaskLeft, TaskLost
from tfdist.training.peers.key_value_store import KeyValueStore

__all__ = ["told_of_lost_tasks"]

_ALWAYS = (tf.errors.UnavailableError,)
_SOMETIMES = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.InternalError,
    tf.errors.InvalidArgumentError,
)
_SIGNS = ("Collective ops is aborted", "Socket closed", "Connection reset", "/job:", "peer")
_OTHER_COLLECTIVE = re.compile(
    r"expected (type|data_type|group_size|shape)\b.* but got|Shape mismatch"
)
_PEER = re.compile(r"/job:(\w+)/replica:\d+/task:(\d+)")


@contextlib.contextmanager
def told_of_lost_tasks(
    task: str, call: str = "fit", board: KeyValueStore | None = None
) -> Iterator[None]:
    """Turns TensorFlow's errors about an unreachable peer into our own.

    Args:
        task: this process's own name, such as "worker:1".
        call: the method that this process is in.
        board: where others have said how they ended.

    Raises:
        TaskLeft: another task has ended well, without what this one waits for.
        TaskLost: another task failed or cannot be reached any more.
        DataError: the workers have run different things at the same time.
    """
    try:
        yield
    except (*_ALWAYS, *_SOMETIMES) as error:
        message = str(error)
        if not isinstance(error, _ALWAYS) and not any(sign in message for sign in _SIGNS):
            raise
        other = _OTHER_COLLECTIVE.search(message)
        if isinstance(error, tf.errors.InvalidArgumentError) and not other:
            raise  # an error of this worker's own
        if other:
            raise DataError(
                f"{task} is in {call}, while another worker does something else that all workers "
                "must do together (another call of fit, evaluate or predict, making a variable in "
                "strategy.scope(), reading a metric): every worker must run the same program; only "
                "printing and writing files are the chief's alone"
            ) from error
        ended = board.ended() if board is not None else {}
        well = [name for name, failure in ended.items() if not failure]
        if well and len(well) == len(ended):
            raise TaskLeft(_left(task, call, well)) from error
        raise TaskLost(_explain(task, call, ended, message)) from error


def _left(task: str, call: str, well: list[str]) -> str:
    return (
        f"{task} is in {call} and waits for {', '.join(well)}, whose program has ended well "
        f"meanwhile: every worker must call fit, evaluate and predict as often as the others, so "
        f"call {call} on all of them (or on none), and end no worker in the middle of it"
    )


def _explain(task: str, call: str, ended: dict[str, str], message: str) -> str:
    again = "start the whole job again, with tfdist.callbacks.Checkpoint it resumes where it was"
    failed = [f"{name} ({failure})" for name, failure in ended.items() if failure]
    if failed:
        return (
            f"{task} lost {', '.join(failed)}, which failed while this one was in {call}: see its "
            f"log, then {again}"
        )
    others = dict.fromkeys(f"{job}:{index}" for job, index in _PEER.findall(message))
    named = [name for name in others if name != task]
    lost = f"another task ({', '.join(named)} by what TensorFlow says)" if named else "another task"
    lines = [line.strip() for line in message.splitlines()]
    said = next((line for line in lines if any(sign in line for sign in _SIGNS)), lines[0])
    return (
        f"{task} lost {lost} while it was in {call}: it has ended, hangs, or can no longer be "
        f"reached; where its log ends with an error, that is why, and where it ended well, it did "
        f"not call {call}, which all must; else {again} (TensorFlow: {said[:200]})"
    )
