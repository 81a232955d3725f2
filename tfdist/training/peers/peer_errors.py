"""What a worker says when another task of its job has gone away, or does something else."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator

import tensorflow as tf

from tfdist.errors import DataError, TaskLeft, TaskLost
from tfdist.machine import standstill
from tfdist.rendezvous.in_touch import InTouch

__all__ = ["told_of_lost_tasks"]

_ALWAYS = (tf.errors.UnavailableError,)
_SOMETIMES = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.InvalidArgumentError,
)
_NOTICE_SECONDS = 1.5
_SILENT_SECONDS = 4.0
_LATELY_SECONDS = 30.0
_SIGNS = (
    "Collective ops is aborted",
    "Socket closed",
    "Connection reset",
    "/job:",
    "peer",
    "Deadline Exceeded",
)
_OTHER_COLLECTIVE = re.compile(
    r"expected (type|data_type|group_size|shape)\b.* but got|Shape mismatch"
)
_PEER = re.compile(r"/job:(\w+)/replica:\d+/task:(\d+)")


@contextlib.contextmanager
def told_of_lost_tasks(
    task: str, call: str = "fit", touch: InTouch | None = None
) -> Iterator[None]:
    """Turns TensorFlow's errors about an unreachable peer into our own.

    Args:
        task: this process's own name, such as "worker:1".
        call: the method that this process is in.
        touch: what is known of the others.

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
        ended = {} if touch is None else _last_words(touch)
        well = [name for name, failure in ended.items() if not failure]
        gone = () if touch is None else touch.absent()
        if well and len(well) == len(ended) and set(gone) <= set(ended):
            raise TaskLeft(_left(task, call, well)) from error
        raise TaskLost(_explain(task, call, ended, touch, message)) from error


def _left(task: str, call: str, well: list[str]) -> str:
    return (
        f"{task} is in {call} and waits for {', '.join(well)}, whose program has ended well "
        f"meanwhile: every worker must call fit, evaluate and predict as often as the others, so "
        f"call {call} on all of them (or on none), and end no worker in the middle of it"
    )


def _last_words(touch: InTouch) -> dict[str, str]:
    """How the others have ended; who has just done so may say it a moment later."""
    until = time.monotonic() + _NOTICE_SECONDS
    while not (ended := touch.ended()) and not (touch.silent(_SILENT_SECONDS) or touch.absent()):
        if time.monotonic() > until:
            break
        time.sleep(0.05)
    return ended


def _explain(
    task: str, call: str, ended: dict[str, str], touch: InTouch | None, message: str
) -> str:
    again = "start the whole job again, with tfdist.callbacks.Checkpoint it resumes where it was"
    failed = [f"{name} ({failure})" for name, failure in ended.items() if failure]
    of_others = all(failure.startswith(TaskLost.__name__) for failure in ended.values())
    if of_others and (seconds := standstill.lately(_LATELY_SECONDS)) > 0:
        return (
            f"{task} itself stood still for {seconds:.0f} s while it was in {call} (its process "
            "was stopped, or its machine slept), and the other tasks have not waited for it: "
            f"{again}"
        )
    if failed:
        names = ", ".join(failed)
        if of_others:
            return (
                f"{task} lost {names}, which failed while this one was in {call}: see its log, "
                f"then {again}"
            )
        return (
            f"{task} lost {names}, which failed while this one was in {call}: mend what its log "
            f"says, then {again}"
        )
    silent = [] if touch is None else touch.silent(_SILENT_SECONDS)
    if gone := [] if touch is None else [name for name in touch.absent() if name not in ended]:
        return (
            f"{task} lost {' and '.join(gone)}, whose process has ended without a word (it was "
            f"killed, or its host cannot be reached), while this one was in {call}: {again}"
        )
    if silent:
        named = [f"{name}, which has said nothing for {seconds:.0f} s" for name, seconds in silent]
        return (
            f"{task} lost {' and '.join(named)} (its process is stopped, or its host cannot be "
            f"reached), while this one was in {call}: {again}"
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
