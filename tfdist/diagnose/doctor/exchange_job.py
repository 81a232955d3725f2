"""The job that measures all-reduces: it alone starts TensorFlow, in processes of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tfdist.cluster import Cluster, Task
from tfdist.diagnose.doctor.finding import Finding

__all__ = ["MARK", "Exchange"]

MARK = "tfdist-exchange"
"""Before the line that tells what was measured."""

_MODULE = "tfdist.diagnose.doctor.all_reduces"
_START_SECONDS = 120.0
_MEET_SECONDS = "60"
_END_SECONDS = 15.0
_LONGEST = 500


@dataclass(frozen=True)
class Exchange:
    """All-reduces between the chief and the workers.

    Attributes:
        cluster: The job; None for none. Without a task, all of its tasks are on this machine.
        seconds: How long to measure.
    """

    cluster: Cluster | None
    seconds: float

    def measure(self) -> Finding:
        """Runs it."""
        computing = _computing(self.cluster)
        if computing is None or len(computing) < 2:
            todo = "give a spec of two tasks that compute, or more"
            return Finding("unchecked", "exchange", "there is nobody to exchange with", todo)
        own = None if self.cluster is None else self.cluster.task
        if own is not None and own.type not in computing.jobs:
            return Finding("good", "exchange", f"{own} has no part in it")
        with tempfile.TemporaryDirectory(prefix="tfdist-doctor-") as folder:
            code, said = self._run(computing, own, Path(folder))
        found = re.search(rf"{MARK} (\{{.*\}})", said)
        if found:
            return _told(json.loads(found[1]), len(computing))
        if code == 0:
            return Finding("good", "exchange", f"the chief says how fast it was: {own} took part")
        return Finding(
            "bad",
            "exchange",
            f"all-reduces failed (exit code {code}): {_cause(said)}",
            "see what the other tasks say of it; NCCL needs ports of its own to be open, beside "
            "those of the spec",
        )

    def _run(self, computing: Cluster, own: Task | None, folder: Path) -> tuple[int | None, str]:
        spec = folder / "cluster.json"
        spec.write_text(computing.to_tf_config())
        words = ["--cluster", spec, "--log_dir", folder / "logs"]
        words += ["--task", own] if own is not None else []
        words += ["--rendezvous_timeout", _MEET_SECONDS, "-m", _MODULE, self.seconds]
        with subprocess.Popen(
            [sys.executable, "-m", "tfdist", "run", *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as job:
            try:
                said, _ = job.communicate(timeout=self.seconds + _START_SECONDS)
            except subprocess.TimeoutExpired:
                said = f"it was not done after {self.seconds + _START_SECONDS:.0f} s"
            finally:
                job.terminate()  # which it ends in order, its tasks with it
                try:
                    job.wait(_END_SECONDS)
                except subprocess.TimeoutExpired:
                    job.kill()
        return job.returncode, said


def _cause(said: str) -> str:
    """The line that names an error, or else the last one."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"\b\w+(Error|Timeout|Mismatch|Lost)\b: ", line)]
    return (errors or lines or ["it said nothing"])[-1][:_LONGEST]


def _computing(cluster: Cluster | None) -> Cluster | None:
    jobs = {} if cluster is None else cluster.jobs
    wanted = {job: at for job, at in jobs.items() if job in ("chief", "worker")}
    return Cluster(wanted) if wanted else None


def _told(told: dict[str, float], tasks: int) -> Finding:
    rate = told["bytes"] / told["seconds"] / 1e6
    return Finding(
        "good",
        "exchange",
        f"between {tasks} tasks a number is summed in {told['latency'] * 1000:.2f} ms (of "
        f"{told['small']:,}), and {told['bytes'] / (1 << 20):.0f} MiB in "
        f"{told['seconds'] * 1000:.0f} ms (of {told['large']:,}): {rate:,.0f} MB/s",
    )
