"""Runs a script for a few steps on one worker and on two, and gathers what they have shown."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tfdist.bench.measured import JobTimes, Measured, WorkerTimes
from tfdist.errors import LaunchError
from tfdist.launch import local_cluster, run_job
from tfdist.planning.script_plan import Plan
from tfdist.planning.seen_process import SeenProcess
from tfdist.planning.step_speed import StepSpeed
from tfdist.planning.task_memory import MemoryPlan

__all__ = ["make_plan_of"]


def make_plan_of(
    command: Sequence[str], seconds: float, deadline: float, most: int, limit: int, *, plug: bool
) -> Plan:
    """Measures a script, and plans it.

    Args:
        command: the script and its own arguments.
        seconds: how long each job trains.
        deadline: seconds until its `fit` must have begun.
        most: the largest number of workers to look at.
        limit: bytes that a task may take.
        plug: whether every model is plugged, as `tfdist run --plug` does.

    Raises:
        LaunchError: a job failed, or has trained nothing.
    """
    jobs, seen = [], []
    for workers in (1, 2):
        times, memory = _job(command, workers, seconds, deadline, plug)
        jobs.append(times)
        seen.append(max(memory, key=lambda one: one.peak))
    what = " ".join(command)
    alone, of_two = seen
    speed = StepSpeed.of(Measured(what, jobs), alone.rows, of_two.rows)
    return Plan(what, MemoryPlan(alone, of_two), speed, most, limit)


def _job(
    command: Sequence[str], workers: int, seconds: float, deadline: float, plug: bool
) -> tuple[JobTimes, list[SeenProcess]]:
    # One alone has as many threads as each of two, so that what differs is their number.
    threads = max(1, (os.cpu_count() or 1) // 2)
    probe = ["-m", "tfdist.planning.probe"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = folder / "output"
        how = [name, str(seconds), str(deadline), "plug" if plug else "as_it_is"]
        with log.open("w") as out, local_cluster(workers=workers) as cluster:
            result = run_job(
                [*probe, *how, *command],
                cluster,
                threads=threads,
                log_dir=folder / "logs",
                out=out,
                err=out,
            )
        if result.returncode:
            end = "\n".join(log.read_text().splitlines()[-15:])
            raise LaunchError(
                f"the script failed on {workers} worker{'s'[: workers - 1]}: mend what the end of "
                f"its output tells, or try it with tfdist run first:\n{end}"
            )
        each = [
            WorkerTimes(**json.loads(path.read_text())) for path in folder.glob("worker-*.json")
        ]
        memory = [SeenProcess.from_json(path.read_text()) for path in folder.glob("memory-*.json")]
    return JobTimes(workers, sorted(each, key=lambda one: one.worker)), memory
