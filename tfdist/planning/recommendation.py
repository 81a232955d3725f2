"""Which strategy and options to take; every sentence follows from numbers of the plan. Pure."""

from __future__ import annotations

import dataclasses

from tfdist.bench.model import advise
from tfdist.planning.step_speed import StepSpeed
from tfdist.planning.task_memory import MemoryPlan, TaskMemory

__all__ = ["Plan", "Recommendation", "gigabytes", "recommend"]

ENOUGH = 0.95
"""The fewest workers are taken that bring so much of the best gain."""
WORTH_WHILE = 1.1
"""More workers pay if they bring so many times one worker's examples a second."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is known of a script before its run.

    Attributes:
        what: its command line.
        memory: of tasks.
        speed: of steps.
        most: the largest number of workers that is looked at.
        limit: bytes that a task may take.
    """

    what: str
    memory: MemoryPlan
    speed: StepSpeed
    most: int
    limit: int

    def __post_init__(self) -> None:
        if self.most < 2 or self.limit < 1:
            raise ValueError(f"most={self.most}, limit={self.limit}: give 2 workers and a byte")

    @property
    def counts(self) -> list[int]:
        """The numbers of workers that are shown."""
        powers = [2**i for i in range(2, 10) if 2**i < self.most]
        return [1, 2, *powers, *([self.most] if self.most > 2 else [])]

    @property
    def tasks(self) -> list[TaskMemory]:
        """Every kind of task of every strategy."""
        in_step = [self.memory.workers(count) for count in self.counts]
        return [*in_step, *self.memory.servers(2), *self.memory.pipeline]

    def fits(self, task: TaskMemory) -> bool:
        """Whether a task may take what it needs."""
        return task.total <= self.limit


@dataclasses.dataclass(frozen=True)
class Recommendation:
    """What to take.

    Attributes:
        command: of `tfdist run`, as options; "" where nothing fits.
        reasons: sentences.
    """

    command: str
    reasons: tuple[str, ...]


def recommend(plan: Plan) -> Recommendation:
    """Says what to take, and why."""
    fitting = [count for count in plan.counts if plan.fits(plan.memory.workers(count))]
    if not fitting:
        return _of_what_is_left(plan)
    gains = {count: plan.speed.gain(count) for count in fitting}
    best = max(gains.values())
    chosen = min(count for count in fitting if gains[count] >= ENOUGH * best)
    if best < WORTH_WHILE and 1 in fitting:
        chosen = 1
    need = plan.memory.workers(chosen)
    reasons = [
        f"each worker takes {gigabytes(need.total)} of the {gigabytes(plan.limit)} that it may"
    ]
    if chosen > 1:
        reasons.append(f"on one machine they take {gigabytes(chosen * need.total)} together")
    others = [count for count in fitting if count > 1]
    if chosen > 1:
        reasons.append(
            f"{chosen} workers train {gains[chosen]:.2f} times the examples a second of one "
            f"({_ms(plan, chosen)} a step of {plan.speed.rows_of(chosen):g} rows, and "
            f"{_ms(plan, 1)} of {plan.speed.rows_of(1):g})"
        )
        if any(count > chosen for count in fitting):
            reasons.append(f"more than {chosen} workers bring at most {best:.2f} times")
        split, network = plan.speed.split(chosen), plan.speed.network
        reasons += [
            f"{advice.option} would bring {advice.faster:.2f} times more: {advice.why}"
            for advice in advise(split, plan.speed.gradient_bytes, network, chosen)[:2]
            if advice.pays
        ]
    elif others:
        reasons.append(
            f"{others[0]} workers take {_ms(plan, others[0])} a step of "
            f"{plan.speed.rows_of(others[0]):g} rows, of which the exchange is "
            f"{1e3 * plan.speed.split(others[0]).all_reduce:.1f} ms; one takes {_ms(plan, 1)} of "
            f"{plan.speed.rows_of(1):g}: {best:.2f} times the examples a second is the best that "
            f"{others[-1]} workers or fewer bring"
        )
    return Recommendation(f"--workers {chosen}", tuple(reasons))


def _of_what_is_left(plan: Plan) -> Recommendation:
    """Where no number of workers in step fits."""
    alone = min((plan.memory.workers(count) for count in plan.counts), key=lambda one: one.total)
    least, most = gigabytes(alone.total), gigabytes(plan.limit)
    reasons = [f"a worker takes {least} at least, more than the {most} that it may"]
    stages = plan.memory.pipeline
    if len(stages) > 1 and all(map(plan.fits, stages)):
        largest = gigabytes(max(stage.total for stage in stages))
        reasons.append(f"a stage of a pipeline of two takes at most {largest} (computed)")
        return Recommendation(
            '--chief --workers 2 with tfdist.strategy("pipeline")', tuple(reasons)
        )
    servers = plan.memory.servers(2)
    if all(map(plan.fits, servers)):
        largest = gigabytes(max(task.total for task in servers))
        reasons.append(
            f"a task of a job with a parameter server takes at most {largest} (computed)"
        )
        return Recommendation("--workers 2 --ps 1", tuple(reasons))
    reasons.append("nor does a task of a two-stage pipeline or of a parameter-server job fit")
    if alone.activations > alone.total / 4:
        reasons.append(f"{gigabytes(alone.activations)} are activations: a smaller batch has less")
    return Recommendation("", tuple(reasons))


def _ms(plan: Plan, workers: int) -> str:
    return f"{1e3 * plan.speed.seconds(workers):.1f} ms"


def gigabytes(size: float) -> str:
    """A size for people, as "1.24 GB" (10^9 bytes) or "38 MB"."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
