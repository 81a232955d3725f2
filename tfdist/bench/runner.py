"""Starts a job for each number of workers, and gathers what they have measured."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tfdist.bench.measured import JobTimes, Measured, WorkerTimes
from tfdist.bench.other_ways import Hosts
from tfdist.bench.plot import draw
from tfdist.bench.report import report
from tfdist.errors import LaunchError
from tfdist.launch import local_cluster, run_job

__all__ = ["MODELS", "bench", "measure"]

MODELS = ("tiny", "mlp", "cnn", "lstm")


def bench(
    command: Sequence[str],
    what: str,
    workers: Sequence[int],
    seconds: float,
    output: Path,
    hosts: Hosts,
) -> str:
    """Measures, and writes `bench.json`, `bench.txt` and `bench.png`.

    Args:
        command: `["train.py", "--its_own", "flags"]` or `["-m", "package.module", ...]`.
        what: its name in the report.
        workers: the numbers of workers to measure.
        seconds: how long each job trains.
        output: the folder for the results.
        hosts: that more workers would be on.

    Returns:
        The report.

    Raises:
        LaunchError: a job failed, or measured nothing.
    """
    measured = measure(command, what, workers, seconds)
    output.mkdir(parents=True, exist_ok=True)
    (output / "bench.json").write_text(measured.to_json() + "\n")
    text = report(measured, hosts)
    if not draw(measured, output / "bench.png", hosts):
        text += "\nNo plot: matplotlib is not installed (pip install matplotlib).\n"
    (output / "bench.txt").write_text(text)
    return text


def measure(command: Sequence[str], what: str, workers: Sequence[int], seconds: float) -> Measured:
    """Measures each number of workers, one job after the other; see `bench`."""
    counts = sorted(set(workers))
    # Every worker has as many threads in every job, so that what differs is their number.
    threads = max(1, (os.cpu_count() or 1) // counts[-1])
    return Measured(what, [_job(command, count, seconds, threads) for count in counts])


def _job(command: Sequence[str], workers: int, seconds: float, threads: int) -> JobTimes:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = folder / "output"
        with log.open("w") as out, contextlib.ExitStack() as stack:
            cluster = stack.enter_context(local_cluster(workers=workers))
            result = run_job(
                ["-m", "tfdist.bench.worker", name, str(seconds), *command],
                cluster,
                threads=threads,
                log_dir=folder / "logs",
                out=out,
                err=out,
            )
        if result.returncode:
            end = "\n".join(log.read_text().splitlines()[-15:])
            raise LaunchError(f"the job of {workers} workers failed; the end of its output:\n{end}")
        each = [
            WorkerTimes(**json.loads(path.read_text())) for path in folder.glob("worker-*.json")
        ]
    return JobTimes(workers, sorted(each, key=lambda one: one.worker))
