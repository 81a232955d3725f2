"""How a worker of a parameter-server job is dropped that says nothing any more.

What it was working on is given to others once TensorFlow knows that it is lost. Of a process that
is stopped, or a host that is cut off, TensorFlow learns nothing: so the process is killed where it
runs on this machine, and the connections to it are ended in any case. One that was only cut off
ends by itself, as its connection to the chief has ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from collections.abc import Mapping

from tfdist import process
from tfdist.cluster.address import Address
from tfdist.cluster.spec import Cluster
from tfdist.cluster.task import Task
from tfdist.machine.connections import sever
from tfdist.machine.hosts import look_up
from tfdist.rendezvous.handshake import Handshake

__all__ = ["drop", "overdue"]

_LOOK_UP_SECONDS = 2.0
_SHORTEST_SECONDS = 8.0  # some beats
_LONGEST_SECONDS = 15.0  # a worker's Python has nothing to do but to answer


def overdue(cluster: Cluster, heard: Mapping[Task, float], now: float) -> list[Task]:
    """The workers that have said nothing for 15 s, or for the stall timeout where that is shorter.

    Args:
        cluster: The job; there are none where it has no parameter servers.
        heard: When each task has said something.
        now: By the same clock.
    """
    if "ps" not in cluster.jobs:
        return []
    limit = min(_LONGEST_SECONDS, max(_SHORTEST_SECONDS, process.stall_timeout()))
    return [task for task, at in heard.items() if task.type == "worker" and now - at > limit]


def drop(task: Task, handshake: Handshake, cluster: Cluster) -> str:
    """Has TensorFlow learn that a task is lost, which says nothing any more.

    Args:
        task: Which.
        handshake: What it has said of itself.
        cluster: The job.

    Returns:
        What was done, for the log.
    """
    killed = handshake.host == socket.gethostname() and _is(handshake.pid, task, handshake)
    if killed:
        with contextlib.suppress(OSError):
            os.kill(handshake.pid, signal.SIGKILL)
    at = Address.parse(cluster.address(task))
    found = look_up([at.host], _LOOK_UP_SECONDS)[at.host]
    if isinstance(found, tuple):
        sever(found, at.port)
    how = f"{handshake.who} was killed" if killed else "the connections to it were ended"
    return (
        f"{task} is dropped, as it says nothing any more ({how}): others do its work, and it may "
        "come back"
    )


def _is(pid: int, task: Task, handshake: Handshake) -> bool:
    """Whether a process of this machine is that task of this job: its environment says so."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            entries = file.read().split(b"\0")
        config = next(one for one in entries if one.startswith(b"TF_CONFIG="))
        told = json.loads(config.partition(b"=")[2])
        own = told["task"]
        same = Cluster(told["cluster"]).digest() == handshake.digest
        return same and (str(own["type"]), int(own["index"])) == (task.type, task.index)
    except (OSError, StopIteration, ValueError, KeyError, TypeError, AttributeError):
        return False
