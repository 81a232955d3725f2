"""A worker's side of the measurement: it trains when it is its turn, and tells how long it took.

Every job of a model is alive at the same time and waits; only the one whose turn it is works. A
turn is a fixed number of steps, after a warm-up of as many, so what is timed is steady state.
"""

from __future__ import annotations

import dataclasses
import json
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks.line import Line
from tests.benchmarks.models import MODELS, Model
from tests.benchmarks.variants import VARIANTS, Variant

__all__ = ["Assignment", "Turns", "fit_in_turns", "loop_in_turns"]

_PATIENCE_SECONDS = 1800.0  # while the other jobs start and have their turns


@dataclasses.dataclass(frozen=True)
class Assignment:
    """What a worker is told on its command line.

    Attributes:
        variant_name: what to train with.
        model_name: what to train.
        workers: processes of the job.
        steps: of a turn.
        turns: how many.
        port: where the measuring process listens, on loopback.
        launched: when the job was started, in seconds since the epoch.
    """

    variant_name: str
    model_name: str
    workers: int
    steps: int
    turns: int
    port: int
    launched: float

    @classmethod
    def from_json(cls, text: str) -> Assignment:
        """Reads what `to_json` wrote."""
        return cls(**json.loads(text))

    def to_json(self) -> str:
        """This assignment as a command line's word."""
        return json.dumps(dataclasses.asdict(self))

    @property
    def variant(self) -> Variant:
        """What to train with."""
        return VARIANTS[self.variant_name]

    @property
    def model(self) -> Model:
        """What to train."""
        return MODELS[self.model_name]

    @property
    def replicas(self) -> int:
        """Replicas of the whole job."""
        return self.workers * self.variant.local_replicas


class Turns:
    """Notes how long the start takes, then waits for turns and times them.

    Args:
        assignment: what this worker is to do.
        worker: this worker's number.
        began: when Python ran its first line, in seconds since the epoch.
    """

    def __init__(self, assignment: Assignment, worker: int, began: float) -> None:
        self._stages = {"launch": began - assignment.launched}
        self._last = began
        self._started: tuple[float, float] | None = None
        address = ("127.0.0.1", assignment.port)
        self._line = Line(socket.create_connection(address, timeout=30), _PATIENCE_SECONDS)
        self._line.send(worker=worker)

    def stage(self, name: str) -> None:
        """Notes that a stage of the start ends here."""
        now = time.time()
        self._stages[name] = now - self._last
        self._last = now

    def ready(self) -> None:
        """Tells that the warm-up is over."""
        self._line.send(stages=self._stages)

    def begin(self) -> None:
        """Waits until it is this job's turn."""
        self._line.receive()
        self._started = time.perf_counter(), time.process_time()

    def end(self) -> None:
        """Tells how long the turn took, and how much of it the process computed."""
        assert self._started is not None
        began, cpu = self._started
        self._line.send(seconds=time.perf_counter() - began, cpu=time.process_time() - cpu)

    def done(self) -> None:
        """Tells how much memory it took."""
        status = Path("/proc/self/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        self._line.send(memory_mb=int(found[1]) / 1024 if found else 0.0)
        self._line.close()


def loop_in_turns(turns: Turns, assignment: Assignment, run: Callable[[int], None]) -> None:
    """Takes the turns of a hand-written loop.

    Args:
        turns: this worker's turns.
        assignment: what this worker is to do.
        run: runs so many steps, to their end.
    """
    for name in ("first step", "second step"):
        run(1)
        turns.stage(name)
    run(assignment.steps)
    turns.ready()
    for _ in range(assignment.turns):
        turns.begin()
        run(assignment.steps)
        turns.end()


def fit_in_turns(
    turns: Turns, assignment: Assignment, callback_base: Any, fit: Callable[..., Any]
) -> None:
    """Takes the turns of one call of `fit`: each is an epoch, with all that belongs to one.

    Args:
        turns: this worker's turns.
        assignment: what this worker is to do.
        callback_base: the `Callback` class of Keras 3 or of tf_keras.
        fit: a model's `fit`, with its data.
    """

    class FirstSteps(callback_base):
        """Times two epochs of one step."""

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            turns.stage("second step" if epoch else "first step")

    class Turn(callback_base):
        """Waits between epochs. It has no batch hooks: those would cost something."""

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if epoch == 1:
                turns.ready()
            elif epoch > 1:
                turns.end()
            if epoch:
                turns.begin()

        def on_train_end(self, logs: Any = None) -> None:
            turns.end()

    fit(epochs=2, steps_per_epoch=1, callbacks=[FirstSteps()])
    fit(epochs=1 + assignment.turns, steps_per_epoch=assignment.steps, callbacks=[Turn()])
