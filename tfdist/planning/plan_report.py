"""A plan as text and as JSON. Pure."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

from tfdist.planning.recommendation import recommend
from tfdist.planning.script_plan import Plan, gigabytes

__all__ = ["as_json", "as_text"]

_PARTS = ("program", "weights", "gradients", "slots", "activations", "exchange")


def as_text(plan: Plan) -> str:
    """Returns what is printed."""
    parts = [f"{plan.what}\n", _memory(plan), _speed(plan), _predicted(plan), _advice(plan)]
    return "\n".join(part for part in parts if part)


def _memory(plan: Plan) -> str:
    rows = [
        [
            task.strategy,
            task.task,
            *(f"{task.parts[part] / 1e6:.1f}" for part in _PARTS),
            f"{task.total / 1e6:.0f}",
            "measured" if task.is_measured else "computed",
            "yes" if plan.fits(task) else "no",
        ]
        for task in plan.tasks
    ]
    place = "GPU memory" if plan.memory.alone.place == "gpu" else "memory"
    text = _table([f"{place} of a task, MB", "", *_PARTS, "total", "how", "fits"], rows)
    text += (
        f"Fits: a task takes at most {gigabytes(plan.limit)}; tasks on one machine add up.\n"
        "Program: Python, libraries, data, traced programs, buffers. Activations: what a step\n"
        f"takes more for more rows, {plan.memory.alone.activations_a_row / 1e3:.1f} kB a row.\n"
    )
    if plan.memory.alone.no_pipeline:
        text += f"No pipeline: {plan.memory.alone.no_pipeline}.\n"
    if plan.memory.alone.no_servers:
        text += f"No parameter servers: {plan.memory.alone.no_servers}.\n"
    if plan.memory.alone.no_shards:
        text += f"No shard_optimizer: {plan.memory.alone.no_shards}.\n"
    return text


def _speed(plan: Plan) -> str:
    rows = []
    for count in plan.counts:
        split = plan.speed.split(count)
        times = (split.compute, split.all_reduce, split.input, split.python, split.total)
        rows.append(
            [
                str(count),
                f"{plan.speed.rows_of(count):g}",
                *(f"{1e3 * seconds:.2f}" for seconds in times),
                f"{plan.speed.rows_of(count) / split.total:,.0f}",
                f"{plan.speed.gain(count):.2f}",
                "measured" if count <= 2 else "predicted",
            ]
        )
    head = ["workers in step", "rows", "compute, ms", "exchange", "input", "Python", "a step"]
    return _table([*head, "examples/s", "gain", "how"], rows) + (
        "The exchange is between processes of this machine; a network between hosts is slower:\n"
        "measure there with tfdist bench. Each worker has an equal part of this machine's cores,\n"
        "one alone as well.\n"
    )


def _predicted(plan: Plan) -> str:
    rows = [
        [
            step.strategy,
            f"{step.rows:g}",
            *(f"{1e3 * seconds:.2f}" for seconds in step.parts.values()),
            f"{1e3 * step.seconds:.2f}",
            f"{step.examples_a_second:,.0f}",
            f"{plan.gain(step):.2f}",
            "predicted",
        ]
        for step in plan.others
    ]
    if not rows:
        return ""
    head = ["other strategies", "rows", "compute, ms", "transfer", "update", "waiting", "host"]
    return _table([*head, "a step", "examples/s", "gain", "how"], rows) + (
        "Each task has a machine as one worker has here. Of workers with a parameter server each\n"
        "takes steps of its own: one ends every so many ms. Waiting: for other stages, or for a\n"
        "server that all share. Host: for the chief's Python, and input that is not hidden.\n"
    )


def _advice(plan: Plan) -> str:
    found = recommend(plan)
    head = f"Take {found.command}:" if found.command else "Nothing fits:"
    return "\n".join([head, *(f"  - {reason}" for reason in found.reasons)]) + "\n"


def as_json(plan: Plan) -> str:
    """Returns the plan's numbers and its recommendation: bytes and seconds."""
    found = recommend(plan)
    tasks = [
        {**dataclasses.asdict(task), "total": task.total, "fits": plan.fits(task)}
        for task in plan.tasks
    ]
    steps = [
        {
            "workers": count,
            "rows": plan.speed.rows_of(count),
            "seconds": plan.speed.seconds(count),
            "split": dataclasses.asdict(plan.speed.split(count)),
            "gain": plan.speed.gain(count),
            "is_measured": count <= 2,
        }
        for count in plan.counts
    ]
    others = [
        {
            **dataclasses.asdict(step),
            "seconds": step.seconds,
            "gain": plan.gain(step),
            "is_measured": False,
        }
        for step in plan.others
    ]
    content = {
        "what": plan.what,
        "place": plan.memory.alone.place,
        "limit": plan.limit,
        "memory": tasks,
        "steps": steps,
        "other_steps": others,
        "recommended": found.command,
        "reasons": found.reasons,
    }
    return json.dumps(content, indent=1)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    table = [list(head), *(list(row) for row in rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
    return "\n".join(lines) + "\n"
