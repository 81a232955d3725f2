"""Jobs over three hosts, of which one is cut off: what each side says, and how it ends."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.recovery.watched_command import DEADLINE, WatchedCommand
from tfdist.cluster import Cluster
from tfdist.diagnose.namespace_hosts import Hosts

__all__ = ["CUTS", "LIMIT", "Cut", "Side", "run"]

SCRIPT = Path(__file__).with_name("hanging.py")
LIMIT = 15
"""The jobs' stall timeout, in seconds."""

_JOBS = {
    "multi_worker_mirrored": ("worker", "worker", "worker"),
    "parameter_server": ("chief", "worker", "ps"),
    "pipeline": ("chief", "worker", "worker"),
}
_LONG, _SHORT = 200, 60  # epochs: one that a cut ends, one that goes on to its end


@dataclass(frozen=True)
class Cut:
    """A cable that is pulled.

    Attributes:
        kind: of the strategy.
        host: of the three.
        task: which runs there.
        seconds: after which it is put back; None for never.
    """

    kind: str
    host: int
    task: str
    seconds: float | None = None


@dataclass(frozen=True)
class Side:
    """What one task has said and done.

    Attributes:
        named: seconds from the cut until it named somebody that it has lost; None for never.
        sentence: in which.
        ended: seconds from the cut to its launcher's end.
        code: its exit code.
        output: all that it has written.
    """

    named: float | None
    sentence: str
    ended: float
    code: int
    output: str


CUTS = (
    Cut("multi_worker_mirrored", 2, "worker:2"),
    Cut("multi_worker_mirrored", 0, "worker:0"),
    Cut("parameter_server", 2, "ps:0"),
    Cut("parameter_server", 0, "chief:0"),
    Cut("pipeline", 2, "worker:1"),
    Cut("pipeline", 0, "chief:0"),
    Cut("multi_worker_mirrored", 2, "worker:2", 9.0),
    Cut("parameter_server", 2, "ps:0", 9.0),
    Cut("parameter_server", 1, "worker:0", 7.0),
    Cut("pipeline", 2, "worker:1", 9.0),
)


def run(cut: Cut) -> dict[str, Side]:
    """Runs a job, pulls the cable, and waits for all its tasks to end; needs root."""
    with tempfile.TemporaryDirectory() as folder, Hosts(3) as hosts:
        epochs = _LONG if cut.seconds is None else _SHORT
        with _training(cut.kind, epochs, hosts, Path(folder)) as tasks:
            began = time.monotonic()
            hosts.cut(cut.host)
            if cut.seconds is not None:
                time.sleep(cut.seconds)
                hosts.mend(cut.host)
            return {name: _side(job, began) for name, job in tasks.items()}


def _side(job: WatchedCommand, began: float) -> Side:
    code, ended = job.end()
    for at, line in job.lines:
        if at > began and (found := re.search(r"[^\]]*has said nothing for [^)]*\)", line)):
            return Side(
                at - began,
                found[0].strip().removeprefix("tfdist.errors."),
                ended - began,
                code,
                job.output,
            )
    return Side(None, "", ended - began, code, job.output)


@contextlib.contextmanager
def _training(
    kind: str, epochs: int, hosts: Hosts, folder: Path
) -> Iterator[dict[str, WatchedCommand]]:
    """A job with a task on each host, once it trains; what is left is killed."""
    jobs: dict[str, tuple[str, ...]] = {}
    for job, address in zip(_JOBS[kind], hosts.addresses, strict=True):
        jobs[job] = (*jobs.get(job, ()), f"{address}:5001")
    cluster = Cluster(jobs)
    spec = folder / "spec.json"
    spec.write_text(json.dumps({"cluster": jobs}))
    with contextlib.ExitStack() as stack:
        tasks: dict[str, WatchedCommand] = {}
        for task in cluster.tasks:
            options = ["--cluster", spec, "--task", task, "--stall_timeout", LIMIT]
            command = [sys.executable, "-m", "tfdist", "run", *options]
            program = [SCRIPT, folder, kind, "nowhere", "nobody", epochs]
            host = hosts.addresses.index(cluster.address(task).rpartition(":")[0])
            tasks[str(task)] = WatchedCommand(hosts.on(host, [*command, *program]), folder)
            stack.callback(tasks[str(task)].kill)
        tasks[str(cluster.chief)].find(r"epoch 3\b", DEADLINE)
        yield tasks
