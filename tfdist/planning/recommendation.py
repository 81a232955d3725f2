"""Which strategy and options to take; every sentence follows from numbers of the plan. Pure.

Workers in step come first: they train as one process would. A pipeline does, too, but wants more
of its model and its network, so that it is taken where it is clearly faster. With parameter servers
each update misses what others have done meanwhile; they are taken where they are much faster, or
where workers in step bring nothing. Where a worker does not fit, one with a share of the optimizer
is looked for first, then a pipeline, then servers: one worker with a server, too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tfdist.bench.model import advise
from tfdist.planning.predicted_step import PredictedStep
from tfdist.planning.script_plan import Plan, gigabytes
from tfdist.planning.task_memory import TaskMemory

__all__ = ["Recommendation", "recommend"]

ENOUGH = 0.95
"""The fewest workers are taken that bring so much of the best gain."""
WORTH_WHILE = 1.1
"""More workers pay if they bring so many times one worker's examples a second."""
CLEARLY = 1.3
"""A pipeline is taken if it trains so many times the examples a second of workers in step; its
prediction is rather too fast than too slow."""
MUCH = 1.5
"""And parameter servers so many times, where workers in step bring something."""


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
    cut = _fewest(plan, [one for one in plan.pipelines if plan.fit_all(plan.stages_of(one))])
    served = _fewest(plan, _worth_serving(plan))
    shared = [one for one in plan.sharded if plan.fit_all(plan.shares_of(one))]
    if not fitting:
        return _of_what_is_left(plan, _fewest(plan, shared), cut, served)
    in_step = _in_step(plan, fitting)
    best = max(plan.speed.gain(count) for count in fitting)
    if cut is not None and plan.gain(cut) >= CLEARLY * max(1.0, best):
        why = [_faster(plan, cut, fitting, best), _memory_of(plan, plan.stages_of(cut))]
        return Recommendation(_pipeline(cut), tuple(why))
    if served is not None and plan.gain(served) >= (
        MUCH * best if best >= WORTH_WHILE else WORTH_WHILE * max(1.0, best)
    ):
        why = [
            _faster(plan, served, fitting, best),
            "each update misses what others have done since its weights were fetched",
            _memory_of(plan, plan.servers_of(served)),
        ]
        return Recommendation(_servers(served), tuple(why))
    others = [_not_taken(plan, one, best) for one in (cut, served) if one is not None]
    return Recommendation(in_step.command, (*in_step.reasons, *_shares(plan, shared), *others))


def _shares(plan: Plan, shared: Sequence[PredictedStep]) -> list[str]:
    """What a share of the optimizer for each worker would bring, where it pays."""
    pay = [
        step
        for step in shared
        if plan.gain(step) >= WORTH_WHILE * max(1.0, plan.speed.gain(step.workers))
    ]
    one = _fewest(plan, pay)
    if one is None:
        return []
    more = plan.gain(one) / plan.speed.gain(one.workers)
    slots = plan.memory.workers(one.workers).slots - plan.memory.sharded(one.workers).slots
    told = (
        f"shard_optimizer=True would have {one.workers} workers train {more:.2f} times as fast "
        f"(predicted), and each take {gigabytes(slots)} less"
    )
    return [told]


def _worth_serving(plan: Plan) -> list[PredictedStep]:
    """What fits with servers; of one worker only where it would not fit without them."""
    least = 2 if plan.fits(plan.memory.workers(1)) else 1
    steps = [one for one in plan.served if one.workers >= least]
    return [one for one in steps if plan.fit_all(plan.servers_of(one))]


def _fewest(plan: Plan, steps: Sequence[PredictedStep]) -> PredictedStep | None:
    """Of one strategy that of the fewest workers that brings nearly the most; None of none."""
    most = max((plan.gain(one) for one in steps), default=0.0)
    return next((one for one in steps if plan.gain(one) >= ENOUGH * most), None)


def _faster(plan: Plan, one: PredictedStep, fitting: Sequence[int], best: float) -> str:
    count = max(fitting, key=plan.speed.gain)
    return (
        f"{_predicted(plan, one)}; {count} worker{'s in step' if count > 1 else ''} "
        f"train{'s' * (count == 1)} {best:.2f} times, the best of all that fit"
    )


def _not_taken(plan: Plan, one: PredictedStep, best: float) -> str:
    """What another strategy would bring; where it is faster, why it is not taken all the same."""
    best = max(1.0, best)
    told = f"{_predicted(plan, one)}, workers in step at most {best:.2f} times"
    if plan.gain(one) <= best:
        return told
    if one.strategy.endswith("pipeline"):
        return (
            f"{told}; it is taken from {CLEARLY * best:.2f} times on, as its prediction is rather "
            "too fast"
        )
    least = MUCH if best >= WORTH_WHILE else WORTH_WHILE
    return (
        f"{told}; servers are taken from {least * best:.2f} times on, as each update misses what "
        "others have done meanwhile"
    )


def _predicted(plan: Plan, one: PredictedStep) -> str:
    name = f"a {one.strategy}" if one.strategy.endswith("pipeline") else one.strategy
    step = f"{1e3 * one.seconds:.1f} ms a step"
    if one.strategy.endswith("ps"):
        step = f"every {1e3 * one.seconds:.1f} ms ends a step, of {1e3 * one.own_seconds:.1f} ms"
    return (
        f"{name} would train {plan.gain(one):.2f} times the examples a second of one worker "
        f"(predicted: {step}, {1e3 * one.compute:.1f} of them compute)"
    )


def _memory_of(plan: Plan, tasks: Sequence[TaskMemory]) -> str:
    largest = max(tasks, key=lambda task: task.total)
    return (
        f"its largest task, {largest.task}, takes {gigabytes(largest.total)} of the "
        f"{gigabytes(plan.limit)} that it may (computed)"
    )


def _sharded(step: PredictedStep) -> str:
    return f"--workers {step.workers} with tfdist.plug(model, shard_optimizer=True)"


def _pipeline(step: PredictedStep) -> str:
    return f'--chief --workers {step.workers} with tfdist.strategy("pipeline")'


def _servers(step: PredictedStep) -> str:
    return f"--workers {step.workers} --ps 1"


def _in_step(plan: Plan, fitting: Sequence[int]) -> Recommendation:
    """Of workers in step."""
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


def _of_what_is_left(
    plan: Plan,
    shared: PredictedStep | None,
    cut: PredictedStep | None,
    served: PredictedStep | None,
) -> Recommendation:
    """Where no number of workers in step fits."""
    alone = min((plan.memory.workers(count) for count in plan.counts), key=lambda one: one.total)
    least, most = gigabytes(alone.total), gigabytes(plan.limit)
    reasons = [f"a worker takes {least} at least, more than the {most} that it may"]
    for one, tasks_of, command in (
        (shared, plan.shares_of, _sharded),
        (cut, plan.stages_of, _pipeline),
        (served, plan.servers_of, _servers),
    ):
        if one is not None:
            reasons += [_memory_of(plan, tasks_of(one)), _predicted(plan, one)]
            return Recommendation(command(one), tuple(reasons))
    reasons.append("nor does a task of any pipeline or of a parameter-server job fit")
    if alone.activations > alone.total / 4:
        reasons.append(f"{gigabytes(alone.activations)} are activations: a smaller batch has less")
    return Recommendation("", tuple(reasons))


def _ms(plan: Plan, workers: int) -> str:
    return f"{1e3 * plan.speed.seconds(workers):.1f} ms"
