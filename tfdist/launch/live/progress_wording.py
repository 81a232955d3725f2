"""The progress of a job in words: for a bar, for lines, for whoever else shows it. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tfdist.progress import JobView, TaskView

__all__ = ["duration", "figures", "job_line", "metrics_text", "place", "shares_text", "task_text"]

_MOST_METRICS = 3


def place(view: JobView) -> str:
    """Where the job is, as "epoch 2/5"; "" before any training."""
    record = view.record
    if record is None:
        return ""
    return f"epoch {record.epoch + 1}/{max(record.epochs, record.epoch + 1)}"


def figures(view: JobView) -> list[str]:
    """What numbers there are: the step, the speed, metrics, the time left."""
    record = view.record
    if record is None:
        return []
    found = []
    if record.steps != 1:
        found.append(f"step {record.step}" + (f"/{record.steps}" if record.steps else ""))
    if view.examples_per_second is not None:
        found.append(f"{_count(view.examples_per_second)} examples/s")
    elif view.steps_per_second is not None:
        found.append(f"{_count(view.steps_per_second)} steps/s")
    if record.logs:
        found.append(metrics_text({**record.logs, **record.validation}))
    if view.seconds_left is not None and record.phase:
        found.append(f"{duration(view.seconds_left)} left")
    return found


def metrics_text(logs: Mapping[str, float]) -> str:
    """The first metrics, the loss before all."""
    names = sorted(logs, key=lambda name: name != "loss")[:_MOST_METRICS]
    return ", ".join(f"{name} {logs[name]:.4g}" for name in names)


def job_line(view: JobView) -> str:
    """All in one line; the tasks of which there is something to say at its end."""
    line = ", ".join([place(view), *figures(view)])
    odd = [f"{one.name} {_said(one)}" for one in view.tasks if _is_odd(one)]
    return "; ".join([line, *odd])


def task_text(task: TaskView) -> str:
    """What a task does, without its name."""
    if _is_odd(task):
        return _said(task)
    return task.why or ("trains" if task.shares else task.state)


def shares_text(task: TaskView) -> str:
    """The shares of time that are not nothing, as "input 3 %, compute 71 %"."""
    shown = {name: round(100 * share) for name, share in task.shares.items()}
    return ", ".join(f"{name} {percent} %" for name, percent in shown.items() if percent)


def duration(seconds: float) -> str:
    """As 0:07, 12:30, 3:01:00 or 2 days."""
    whole = math.ceil(seconds)
    if whole >= 172800:
        return f"{whole // 86400} days"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def _is_odd(task: TaskView) -> bool:
    return task.state in ("lags", "waits", "busy", "silent", "failed")


def _said(task: TaskView) -> str:
    if task.state == "lags":
        return f"lags {task.why} ({shares_text(task)})"
    if task.state in ("silent", "failed"):
        return task.why or task.state
    return f"{task.state}: {task.why}"


def _count(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}"
