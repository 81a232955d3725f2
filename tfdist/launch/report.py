"""The launcher's own words: what it starts, whom it ends and why, what failed first."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

from tfdist.launch.failure import Failure, TaskResult, describe
from tfdist.launch.plan import JobPlan
from tfdist.launch.restarts import Restarts

__all__ = [
    "failing",
    "finished",
    "finishing",
    "result_lines",
    "signalled",
    "starting",
    "starting_again",
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
    return f"starting {names}{each}; logs in {log_dir}"


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
    return f"{first.task} {describe(first)}{others}"


def finishing(running: Sequence[str], grace: float) -> str:
    """Said when the servers of a parameter-server job outlive their chief.

    Args:
        running: The tasks that are ended now.
        grace: Seconds until SIGKILL.
    """
    return f"the chief has ended well: ending {_names(running)} within {grace:g} s"


def starting_again(result: TaskResult, restarts: Restarts, *, everybody: bool) -> str:
    """Said when a task, or with it the whole job, is started again after a failure.

    Args:
        result: How the task ended.
        restarts: Those of the job, this one counted.
        everybody: Whether all tasks are started again.
    """
    whom = "all tasks" if everybody else "it"
    count = f"({restarts.used} of {restarts.most})"
    return f"{result.task} {describe(result)}; starting {whom} again {count}"


def waiting_for_evaluator() -> str:
    """Said once when only the evaluator is left after a job that has ended well."""
    return "the chief has ended well: waiting for evaluator:0, which ends by itself (or by Ctrl-C)"


def finished(results: Sequence[TaskResult]) -> str:
    """Said when every task has ended well."""
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
    title = "the first failure: " if len(results) > 1 else ""
    lines = [f"{title}{first.task} {describe(first)} after {first.seconds:.1f} s"]
    if len(results) > 1:  # a task alone has just shown it
        lines += [f"  {line}" for line in failure.excerpt]
    for task in results:
        if task.returncode != 0 and task is not first:
            by_us = ": ended by tfdist" if task.stopped and task.returncode < 0 else ""
            lines.append(f"then {task.task} {describe(task)}{by_us}")
    return "\n".join(lines)


def _names(running: Sequence[str]) -> str:
    return ", ".join(running) or "what is left"
