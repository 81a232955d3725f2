"""Which fault strikes which task of a job, and when: drawn from a seed. Pure: no processes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tfdist.errors import ClusterError

__all__ = ["FAULTS", "Fault", "draw_faults"]

FAULTS: dict[str, str] = {
    "kill": "SIGKILL to a task",
    "kill-launcher": "SIGKILL to the launcher, whose tasks must end with it",
    "term": "SIGTERM to a task: the job saves, and ends with exit code 75",
    "term-launcher": "SIGTERM to the launcher",
    "pause": "SIGSTOP to a task, and SIGCONT after 3 s",
    "stop": "SIGSTOP to a task for good",
    "truncate": "SIGKILL to a task, and the newest checkpoint cut in half",
}
"""Each fault, by its name."""

_LAUNCHER = "launcher"


@dataclass(frozen=True)
class Fault:
    """One fault of one round.

    Attributes:
        kind: one of `FAULTS`.
        task: the task that it strikes, as "worker:1"; "launcher" for the launcher.
        when: after which part of an undisturbed run, from 0 to 1.
    """

    kind: str
    task: str
    when: float

    def __post_init__(self) -> None:
        if self.kind not in FAULTS:
            raise ClusterError(f"fault {self.kind!r}; the faults are {', '.join(FAULTS)}")
        if not 0 <= self.when <= 1:
            raise ClusterError(f"a fault at {self.when:g} of a run; give a part from 0 to 1")


def draw_faults(
    rounds: int, seed: int, tasks: Sequence[str], kinds: Sequence[str] = tuple(FAULTS)
) -> list[Fault]:
    """Draws one fault for each round.

    Args:
        rounds: how many.
        seed: the same seed draws the same faults.
        tasks: of the job.
        kinds: which faults; they take turns, in an order of their own in each turn.

    Raises:
        ClusterError: there is no such fault, or no task.
    """
    if not tasks or not kinds:
        raise ClusterError("chaos without a task or without a fault; give both")
    drawn = random.Random(seed)
    faults: list[Fault] = []
    while len(faults) < rounds:
        for kind in drawn.sample(list(kinds), len(kinds)):
            task = _LAUNCHER if kind.endswith(_LAUNCHER) else drawn.choice(list(tasks))
            faults.append(Fault(kind, task, round(drawn.uniform(0.0, 0.95), 3)))
    return faults[:rounds]
