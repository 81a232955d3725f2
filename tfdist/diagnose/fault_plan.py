"""Which fault strikes which task of a job, and when: drawn from a seed. Pure: no processes."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tfdist.errors import ClusterError

__all__ = [
    "ANY_TIME",
    "FAULTS",
    "LAST_STEP",
    "MOMENTS",
    "OVER_HOSTS",
    "START_UP",
    "Fault",
    "draw_faults",
]

FAULTS: dict[str, str] = {
    "kill": "SIGKILL to a task",
    "kill-launcher": "SIGKILL to a launcher, whose tasks must end with it",
    "term": "SIGTERM to a task: the job saves, and ends with exit code 75",
    "term-launcher": "SIGTERM to a launcher",
    "pause": "SIGSTOP to a task, and SIGCONT after 2 to 8 s",
    "stop": "SIGSTOP to a task for good",
    "truncate": "SIGKILL to a task, and the newest checkpoint cut in half",
    "disk-full": "the disk of the working directory is full for 2 to 8 s",
    "cut": "with --hosts: the network of a task's host is gone for 2 to 8 s",
    "cut-for-good": "with --hosts: it is gone until the job has ended",
}
"""Each fault, by its name."""

OVER_HOSTS = ("cut", "cut-for-good")
"""Those that need several hosts."""

START_UP, LAST_STEP, ANY_TIME = "start-up", "last step", "any time"
MOMENTS = (START_UP, "tracing", "mid-step", "mid-save", "validation", LAST_STEP)
"""When a fault strikes; at any time, where the job does not tell in which phase it is."""

_LAUNCHER = "-launcher"
_NOTHING_TO_CUT = (START_UP, "tracing")
_SHORTEST, _LONGEST = 2.0, 8.0


@dataclass(frozen=True)
class Fault:
    """One fault of one round.

    Attributes:
        kind: one of `FAULTS`.
        task: the task that it strikes, or whose launcher or host it does, as "worker:1".
        moment: one of `MOMENTS`, or `ANY_TIME`.
        when: after which part of all the time in that moment, from 0 to 1.
        seconds: for how long, where it is for a while.
    """

    kind: str
    task: str
    moment: str
    when: float
    seconds: float = _SHORTEST

    def __post_init__(self) -> None:
        if self.kind not in FAULTS:
            raise ClusterError(f"fault {self.kind!r}; the faults are {', '.join(FAULTS)}")
        if self.moment not in (*MOMENTS, ANY_TIME):
            raise ClusterError(f"moment {self.moment!r}; the moments are {', '.join(MOMENTS)}")
        if not 0 <= self.when <= 1:
            raise ClusterError(f"a fault at {self.when:g} of a moment; give a part from 0 to 1")

    @property
    def strikes_launcher(self) -> bool:
        """Whether it strikes the task's launcher."""
        return self.kind.endswith(_LAUNCHER)


def draw_faults(
    rounds: int,
    seed: int,
    tasks: Sequence[str],
    kinds: Sequence[str],
    moments: Sequence[str] = MOMENTS,
) -> list[Fault]:
    """Draws one fault for each round.

    Kinds take turns, in an order of their own in each turn; so do the moments and the tasks of each
    kind. After as many turns as there are moments, every kind has struck at each.

    Args:
        rounds: how many.
        seed: the same seed draws the same faults.
        tasks: of the job.
        kinds: which faults.
        moments: that the job has; a checkpoint is cut only where there may be one.

    Raises:
        ClusterError: there is no such fault, or no task.
    """
    if not tasks or not kinds or not moments:
        raise ClusterError("chaos without a task or without a fault; give both")
    drawn = random.Random(seed)
    later = [one for one in moments if one not in _NOTHING_TO_CUT] or list(moments)
    moments_of = {
        kind: _in_turn(drawn, later if kind == "truncate" else list(moments)) for kind in kinds
    }
    tasks_of = {kind: _in_turn(drawn, list(tasks)) for kind in kinds}
    faults: list[Fault] = []
    while len(faults) < rounds:
        for kind in drawn.sample(list(kinds), len(kinds)):
            when, seconds = drawn.uniform(0.0, 0.95), drawn.uniform(_SHORTEST, _LONGEST)
            faults.append(
                Fault(
                    kind,
                    next(tasks_of[kind]),
                    next(moments_of[kind]),
                    round(when, 3),
                    round(seconds, 1),
                )
            )
    return faults[:rounds]


def _in_turn(drawn: random.Random, all_of: list[str]) -> Iterator[str]:
    while True:
        yield from drawn.sample(all_of, len(all_of))
