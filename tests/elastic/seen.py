"""Reads what the workers of `resized.py` have noted: the examples they saw, how it ended."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

__all__ = ["check_trained_alike", "examples_of_steps", "steps_of_chiefs", "workers_of_steps"]


def check_trained_alike(folder: Path, undisturbed: Path) -> None:
    """The same examples in each step, and the same bits."""

    def end(of: Path) -> dict[str, Any]:
        result: dict[str, Any] = json.loads((of / "result.json").read_text())
        return {name: result[name] for name in ("values", "iterations", "epochs")}

    assert end(folder) == end(undisturbed)
    assert examples_of_steps(folder) == examples_of_steps(undisturbed)


def examples_of_steps(folder: Path) -> dict[int, list[int]]:
    """The examples of each step of the job, sorted: of the last time that it was trained.

    A run of several workers has one file each; a step that was trained again after a loss counts
    as what it was the last time.
    """
    last = _last_runs(folder)
    return {step: sorted(n for numbers in last[step] for n in numbers) for step in sorted(last)}


def workers_of_steps(folder: Path) -> dict[int, int]:
    """How many workers have trained each step, the last time."""
    return {step: len(parts) for step, parts in _last_runs(folder).items()}


def steps_of_chiefs(folder: Path) -> list[int]:
    """The steps that worker:0 of each run has trained, in order, those that came twice too."""
    files = sorted((folder / "seen").glob("*-worker:0-*.jsonl"))
    return [json.loads(line)[0] for file in files for line in file.read_text().splitlines()]


def _last_runs(folder: Path) -> dict[int, list[list[int]]]:
    """The parts of each step, by the workers of the last run that has trained it."""
    starts = sorted(
        float(path.name.partition("-")[0]) for path in (folder / "seen").glob("*-worker:0-*")
    )
    steps: dict[int, dict[int, list[list[int]]]] = defaultdict(lambda: defaultdict(list))
    for path in (folder / "seen").glob("*.jsonl"):
        began = float(path.name.partition("-")[0])
        run = min(range(len(starts)), key=lambda k: abs(starts[k] - began))
        for line in path.read_text().splitlines():
            step, numbers = json.loads(line)
            steps[step][run].append(numbers)
    return {step: runs[max(runs)] for step, runs in steps.items()}
