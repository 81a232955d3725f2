"""The launcher's own words: what it starts, whom it ends and why, what failed first."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from tfdist.cluster import Task
from tfdist.launch.failure import (
    Failure,
    TaskResult,
    describe,
    ended_well_before,
    lost_another,
)
from tfdist.launch.plan import JobPlan
from tfdist.launch.restarts import Restarts

__all__ = [
    "alone",
    "back",
    "failing",
    "finished",
    "finishing",
    "generation",
    "remains",
    "result_lines",
    "signalled",
    "starting",
    "starting_again",
    "told",
    "waiting_for_evaluator",
]


def starting(plan: JobPlan, log_dir: Path) -> str:
    """Said before the first task starts.

    Args:
        plan: What will run.
        log_dir: The folder of the logs.
    """
    names = ", ".join(str(task.task) for task in plan.tasks)
    each = ""
    if plan.threads is not None:
        compute = "chief and workers: " if plan.has_servers else ""
        each = f" ({compute}{plan.threads} thread{'s' if plan.threads > 1 else ''} each)"
    return _with_gpus(plan, f"starting {names}{each}; logs in {log_dir}")


def signalled(signum: int, running: Sequence[str], grace: float) -> str:
    """Said when the launcher itself is sent a signal.

    Args:
        signum: The signal.
        running: The tasks that are ended now.
        grace: Seconds until SIGKILL.
    """
    if signum == signal.SIGINT:
        return f"Ctrl-C: ending {_names(running)} within {grace:g} s; again to kill at once"
    return f"{signal.Signals(signum).name}: ending {_names(running)} within {grace:g} s"


def failing(first: TaskResult, running: Sequence[str], grace: float) -> str:
    """Said when a task has failed, with the rest still there.

    Args:
        first: The failure as far as it is known now.
        running: The tasks that are ended now.
        grace: Seconds until SIGKILL.
    """
    others = f"; ending {_names(running)} within {grace:g} s" if running else ""
    if lost_another(first):
        return f"{first.name} has ended, having lost another task{others}"
    return f"{first.name} {describe(first)}{others}"


def finishing(running: Sequence[str], grace: float) -> str:
    """Said when the servers of a parameter-server job outlive their chief.

    Args:
        running: The tasks that are ended now.
        grace: Seconds until SIGKILL.
    """
    return f"the chief has ended well: ending {_names(running)} within {grace:g} s"


def remains(whose: str, processes: Mapping[int, str]) -> str:
    """Said when what a script has left running is ended with it.

    Args:
        whose: The task, or the job where the task is not known.
        processes: Their ids and command lines.
    """
    names = ", ".join(f"{pid} ({command})" for pid, command in sorted(processes.items()))
    which = "a process" if len(processes) == 1 else f"{len(processes)} processes"
    return (
        f"{whose} has ended and left {which} running, ended now: {names}; start what is to go on "
        "after the job outside of it"
    )


def alone(tasks: Sequence[Task], *, plugged: bool) -> str:
    """Said of tasks that ended well and have never taken part in their job.

    Args:
        tasks: Which.
        plugged: Whether the script ran under --plug.
    """
    how = (
        "it has asked TensorFlow for nothing"
        if plugged
        else "where it trains, make tfdist.strategy() at its top, or run it with --plug"
    )
    each = "each has run" if len(tasks) > 1 else "it has run"
    return (
        f"NO STRATEGY was made by {_names([str(task) for task in tasks])}: {each} the whole script "
        f"by itself, and a model that it trained is its own; {how}"
    )


def no_strategy_yet(tasks: Sequence[Task], seconds: float) -> str:
    """Said while tasks run of which none has taken part in its job.

    Args:
        tasks: Which.
        seconds: For how long they have run.
    """
    return (
        f"no strategy was made by {_names([str(task) for task in tasks])} in {seconds:.0f} s: "
        "where the script makes none, each of them trains by itself; make tfdist.strategy() at its "
        "top, or run it with --plug"
    )


def starting_again(result: TaskResult, restarts: Restarts, *, everybody: bool) -> str:
    """Said when a task, or with it the whole job, is started again after a failure.

    Args:
        result: How the task ended.
        restarts: Those of the job, this one counted.
        everybody: Whether all tasks are started again.
    """
    whom = "all tasks" if everybody else "it"
    count = f"({restarts.used} of {restarts.most})"
    return f"{result.name} {describe(result)}; starting {whom} again {count}"


def generation(plan: JobPlan, places: Mapping[str, Task], log_dir: Path) -> str:
    """Said before the tasks of a generation start, in a job that all launchers lead together.

    Args:
        plan: What will run.
        places: The place of each task.
        log_dir: The folder of the logs.
    """
    jobs = plan.cluster.jobs
    servers = len(jobs.get("ps", ()))
    count = len(jobs.get("worker", ())) if servers else plan.cluster.num_workers
    here = [
        name if str(place) == name else f"{name} (place {place})" for name, place in places.items()
    ]
    tasks = f"{count} worker{'s' if count > 1 else ''}" + f" and {servers} ps" * bool(servers)
    return _with_gpus(plan, f"{tasks}: starting {', '.join(here)}; logs in {log_dir}")


def back(place: Task, restarts: Restarts) -> str:
    """Said when a lost worker is taken in again.

    Args:
        place: Which.
        restarts: Those of the job, this one counted.
    """
    return f"starting {place} again ({restarts.used} of {restarts.most})"


def told(why: str, running: Sequence[str], grace: float) -> str:
    """Said when tasks are ended because of what has happened elsewhere.

    Args:
        why: What.
        running: The tasks that are ended now.
        grace: Seconds until SIGKILL.
    """
    return f"{why}; ending {_names(running)} within {grace:g} s"


def waiting_for_evaluator() -> str:
    """Said once when only the evaluator is left after a job that has ended well."""
    return "the chief has ended well: waiting for evaluator:0, which ends by itself (or by Ctrl-C)"


def finished(results: Sequence[TaskResult]) -> str:
    """Said when every task has ended well."""
    if not results:
        return "the job has ended well, without any task here"
    seconds = max(task.ended for task in results) - min(task.started for task in results)
    which = "all tasks" if len(results) > 1 else str(results[0].task)
    return f"{which} ended well after {seconds:.1f} s"


def result_lines(results: Sequence[TaskResult], failure: Failure) -> str:
    """The first failure with the end of its log, and what came of it.

    Args:
        results: How each task ended.
        failure: The first failure.

    Returns:
        Several lines.
    """
    first = failure.result
    well = ended_well_before(first, results) if lost_another(first) else []
    title = "the first failure: " if len(results) > 1 else ""
    told = describe(first, explained=not well)
    lines = [f"{title}{first.name} {told} after {first.seconds:.1f} s"]
    if len(results) > 1:  # a task alone has just shown it
        lines += [f"  {line}" for line in failure.excerpt]
    if well:
        lines.append(
            f"{_names_of(well)} had ended well before, so no task was lost: they did not do the "
            "same; have every task call fit, evaluate and predict alike (started again, the job "
            "would end so again)"
        )
    rest = [task for task in results if task.returncode != 0 and task is not first]
    losers = [task for task in rest if lost_another(task)]
    if lost_another(first) and not well and (still := [one for one in rest if one.stopped]):
        lines.append(
            f"no task had ended before: {_names_of(still)} still ran, and hung or could not be "
            "reached"
        )
    if losers:
        codes = sorted({task.returncode for task in losers})
        code = ", ".join(map(str, codes))
        lines.append(f"then {_names_of(losers)} ended, having lost another task (exit code {code})")
    for task in rest:
        if task not in losers:
            by_us = ": ended by tfdist" if task.stopped and task.returncode < 0 else ""
            lines.append(f"then {task.name} {describe(task)}{by_us}")
    return "\n".join(lines)


def _with_gpus(plan: JobPlan, line: str) -> str:
    """A line, and behind it which task gets which GPU where there is any."""
    return "\n".join(filter(None, [line, plan.gpus.describe()]))


def _names_of(results: Sequence[TaskResult]) -> str:
    return _names([result.name for result in results])


def _names(running: Sequence[str]) -> str:
    return ", ".join(running) or "what is left"
