"""A task: one process of a job, named by its job and its index in it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from tfdist.errors import ClusterError

__all__ = ["JOBS", "Task", "canonical_job", "index_from", "nearest"]

JOBS: tuple[str, ...] = ("chief", "worker", "ps", "evaluator")
"""The jobs that TensorFlow's strategies know, in the order in which a cluster lists them."""

_ALIASES = {"master": "chief"}
_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)


def nearest(name: object, known: Iterable[str]) -> str:
    """Returns "; did you mean 'worker'?" for the known name most like `name`, or nothing.

    Args:
        name: What was given.
        known: What would have been right.

    Returns:
        A clause to append to a message; empty where nothing is similar.
    """
    names = {one.lower(): one for one in known}
    for close in difflib.get_close_matches(str(name).strip().lower(), names, cutoff=0.5):
        return f"; did you mean {names[close]!r}?"  # the nearest comes first
    return ""


def canonical_job(name: object) -> str:
    """Returns the name of a job as tfdist writes it: platforms' "master" is "chief".

    Args:
        name: A job's name, from wherever it came.

    Returns:
        One of `JOBS`.

    Raises:
        ClusterError: There is no such job.
    """
    job = _ALIASES.get(name, name) if isinstance(name, str) else name
    if isinstance(job, str) and job in JOBS:
        return job
    hint = nearest(name, (*JOBS, *_ALIASES))
    raise ClusterError(
        f"unknown job {name!r}{hint}{' The' if hint else '; the'} jobs are {', '.join(JOBS)} "
        "(and master, meaning chief)"
    )


def index_from(value: object) -> int:
    """Returns a task's index from an integer or, as some platforms emit it, from its digits.

    Args:
        value: The index as it was read, for example 1 or "1".

    Returns:
        The index, 0 or more.

    Raises:
        ClusterError: It is negative or not an integer.
    """
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ClusterError(
            f"task index {value!r} that is not an integer; count a job's tasks as 0, 1, 2, ..."
        )
    if value < 0:
        raise ClusterError(f"negative task index {value}; count a job's tasks as 0, 1, 2, ...")
    return value


@dataclass(frozen=True, order=True)
class Task:
    """One process of a job.

    Attributes:
        type: The task's job: chief, worker, ps or evaluator ("master" becomes "chief").
        index: Its place in the job's list of addresses, from 0.

    Raises:
        ClusterError: There is no such job, or the index is no index.
    """

    type: str
    index: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "type", canonical_job(self.type))
        object.__setattr__(self, "index", index_from(self.index))

    @classmethod
    def parse(cls, text: str) -> Task:
        """Reads a task's name.

        Args:
            text: For example "worker:1"; "chief" alone is "chief:0", and so is "master".

        Returns:
            The task.

        Raises:
            ClusterError: The text names no task.
        """
        job, colon, index = text.strip().partition(":")
        if (colon and not index) or not job:
            raise ClusterError(f"task name {text!r}; write job:index, for example worker:1")
        if not colon and job not in ("chief", "master", "evaluator") and job in JOBS:
            raise ClusterError(f"task name {text!r} without an index; write for example {job}:0")
        return cls(job, index_from(index) if colon else 0)

    def __str__(self) -> str:
        return f"{self.type}:{self.index}"
