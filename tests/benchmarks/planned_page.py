"""The page of what plans say and runs take. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["page"]

_MODELS = {
    "mlp": "two Dense(2048), batch 128",
    "wide": "eight Dense(1024), batch 256",
    "cnn": "three convolutions, batch 32",
    "lstm": "two LSTM(128), batch 64",
    "tiny": "one Dense(10), batch 64",
}
_OF_STEPS = (
    "With parameter servers: from the end of one step to the end of the next, whichever worker has "
    "taken it. Where more processes compute than there are cores, a run is slower than the plan, "
    "whose tasks have a machine each."
)


def page(told: Mapping[str, Any]) -> str:
    """Returns the whole page.

    Args:
        told: `machine` as `machine.describe` has it, and `results`: dictionaries of `model`, `run`,
            `planned` and `real` (bytes by task), `planned_step` and `real_step` (seconds; None
            where the run has failed).
    """
    results = told["results"]
    parts = [
        "# What a plan says, and what a run takes",
        _how(told["machine"]),
        "## Memory of a task, MB",
        "Of tasks of one kind the one that took most.",
        _memory(results),
        "## A step, ms",
        _OF_STEPS,
        _steps(results, int(told["machine"]["cores"])),
    ]
    return "\n\n".join(parts) + "\n"


def _how(machine: Mapping[str, Any]) -> str:
    versions = machine["versions"]
    return (
        "`python -m tests.benchmarks.planned --markdown docs/figures/plan.md` wrote this page: "
        "`tfdist plan` of a script, and then real runs of it (`tfdist run --threads 1`), whose "
        "processes tell their own peaks, and seconds as the median of three parts of a run. "
        f"{machine['cores']} cores of an {machine['processor']}, {machine['memory_gb']} GB, "
        f"{machine['system']}, Python {versions['python']}, TensorFlow {versions['tensorflow']}, "
        f"Keras {versions['keras']}; load before: {machine['load_before']}."
    )


def _memory(results: list[dict[str, Any]]) -> str:
    rows = []
    off = []
    for one in results:
        for task, planned in one["planned"].items():
            real = one["real"].get(task)
            if real is None:
                rows.append([_name(one), one["run"], task, _mb(planned), "failed", ""])
                continue
            off.append(abs(planned / real - 1))
            rows.append(
                [_name(one), one["run"], task, _mb(planned), _mb(real), _off(planned, real)]
            )
    return _table("model | run | task | planned | real | off by", rows) + _summary(off, 0.1)


def _steps(results: list[dict[str, Any]], cores: int) -> str:
    rows, off = [], []
    for one in results:
        planned, real = one["planned_step"], one["real_step"]
        run = one["run"]
        busy = sum(map(int, re.findall(r"(\d+)(?=-stage| worker| ps)", run)))
        if busy > cores:
            run += f" ({busy} processes on {cores} cores)"
        if real is None:
            rows.append([_name(one), run, _ms(planned), "failed", ""])
            continue
        if busy <= cores:
            off.append(abs(planned / real - 1))
        rows.append([_name(one), run, _ms(planned), _ms(real), _off(planned, real)])
    return _table("model | run | planned | real | off by", rows) + _summary(
        off, 0.25, ", of those with a core for each process"
    )


def _summary(off: list[float], limit: float, of: str = "") -> str:
    if not off:
        return ""
    near = sum(one <= limit for one in off)
    told = (
        f"{near} of {len(off)} are within {limit:.0%}, the farthest is off by {max(off):.0%}{of}."
    )
    return "\n\n" + told.replace("%", " %")


def _name(one: Mapping[str, Any]) -> str:
    return _MODELS.get(one["model"], one["model"])


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f}"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.1f}" if seconds >= 0.01 else f"{1e3 * seconds:.2f}"


def _off(planned: float, real: float) -> str:
    return f"{planned / real - 1:+.0%}".replace("%", " %")


def _table(head: str, rows: list[list[str]]) -> str:
    lines = [f"| {head} |", "|" + "---|" * (head.count("|") + 1)]
    before = ""
    for model, *rest in rows:
        lines.append(f"| {' | '.join(['' if model == before else model, *rest])} |")
        before = model
    return "\n".join(lines)
