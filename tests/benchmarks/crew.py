"""A job that is measured, seen from the measuring process: it is started, has its turns, and ends.

start ──► (warm-up) ──► turn, turn, ... ──► end
"""

from __future__ import annotations

import dataclasses
import io
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.line import Line
from tests.benchmarks.machine import busy_seconds
from tests.benchmarks.models import Model
from tests.benchmarks.turns import Assignment
from tests.benchmarks.variants import Variant
from tfdist.errors import LaunchError, TfdistError
from tfdist.launch import local_cluster, run_job

__all__ = ["Crew", "Turn"]

ROOT = Path(__file__).parents[2]
_START_SECONDS = 180.0
_TURN_SECONDS = 300.0


@dataclasses.dataclass(frozen=True)
class Turn:
    """One turn of a job.

    Attributes:
        step_ms: milliseconds a step took, by the clock of the slowest worker.
        cpu_ms: milliseconds that one worker computed for a step, the mean over the workers.
        foreign: share of the machine's cores that everything else took meanwhile, from 0 to 1.
    """

    step_ms: float
    cpu_ms: float
    foreign: float


class Crew:
    """The processes that train one model with one variant.

    Args:
        variant: how to train.
        model: what to train.
        workers: processes of the job.
        steps: of a turn.
        turns: how many turns there will be.
        logs: a folder for the processes' logs.
    """

    def __init__(
        self, variant: Variant, model: Model, *, workers: int, steps: int, turns: int, logs: Path
    ) -> None:
        self.variant, self.model = variant, model
        self._workers, self._steps, self._turns = workers, steps, turns
        self._logs = logs
        self._lines: list[Line] = []
        self._error: TfdistError | None = None
        self._thread = threading.Thread(target=self._run, name=variant.name, daemon=True)
        self._server = socket.create_server(("127.0.0.1", 0))

    def start(self) -> list[dict[str, float]]:
        """Starts the job and waits until it is warm.

        Returns:
            For each worker, the seconds of each stage of its start.

        Raises:
            LaunchError: a process failed.
        """
        self._thread.start()
        self._server.settimeout(0.2)
        lines: dict[int, Line] = {}
        deadline = time.monotonic() + _START_SECONDS
        while len(lines) < self._workers:
            try:
                connection, _ = self._server.accept()
            except TimeoutError:
                if self._thread.is_alive() and time.monotonic() < deadline:
                    continue
                raise self._failure("its workers did not come") from None
            line = Line(connection, _TURN_SECONDS)
            lines[line.receive()["worker"]] = line
        self._server.close()
        self._lines = [lines[worker] for worker in sorted(lines)]
        return [message["stages"] for message in self._hear()]

    def turn(self) -> Turn:
        """Lets the job work for one turn.

        Raises:
            LaunchError: a process failed.
        """
        busy, began = busy_seconds(), time.perf_counter()
        for line in self._lines:
            line.send(go=True)
        told = self._hear()
        busy, seconds = busy_seconds() - busy, time.perf_counter() - began
        own = sum(message["cpu"] for message in told)
        return Turn(
            step_ms=1e3 * max(message["seconds"] for message in told) / self._steps,
            cpu_ms=1e3 * own / len(told) / self._steps,
            foreign=max(0.0, (busy - own) / seconds / (os.cpu_count() or 1)),
        )

    def end(self) -> list[float]:
        """Waits for the job's end.

        Returns:
            For each worker, the most memory that it held, in MB of 2**20 bytes.

        Raises:
            LaunchError: a process failed.
        """
        memory = [float(message["memory_mb"]) for message in self._hear()]
        self._thread.join(60)
        if self._thread.is_alive() or self._error:
            raise self._failure("it did not end")
        self.close()
        return memory

    def close(self) -> None:
        """Hangs up: whoever still waits for a turn ends."""
        for line in self._lines:
            line.close()
        self._server.close()
        self._thread.join(60)

    def _hear(self) -> list[dict[str, Any]]:
        try:
            return [line.receive() for line in self._lines]
        except OSError as error:
            raise self._failure(str(error)) from error

    def _failure(self, what: str) -> LaunchError:
        self.close()
        return LaunchError(f"{self.variant.name} on {self.model.name}: {self._error or what}")

    def _run(self) -> None:
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        environ = {**os.environ, "PYTHONPATH": path, "KERAS_BACKEND": "tensorflow"}
        environ.pop("TF_CONFIG", None)
        try:
            with local_cluster(workers=self._workers) as cluster:
                assignment = Assignment(
                    self.variant.name,
                    self.model.name,
                    self._workers,
                    self._steps,
                    self._turns,
                    self._server.getsockname()[1],
                    time.time(),
                )
                run_job(
                    ["-m", "tests.benchmarks.worker", assignment.to_json()],
                    cluster,
                    threads=self.variant.local_replicas,
                    environ={**environ, **self.variant.environ},
                    log_dir=self._logs,
                    isolate="off",  # whoever measures is reached by the line
                    grace=1,
                    out=io.StringIO(),
                    err=io.StringIO(),
                ).check()
        except TfdistError as error:
            self._error = error
