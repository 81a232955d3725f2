"""The wish of a scheduler, or of a person, that a job ends soon: it saves first (`saving`).

Slurm (`--signal`), Kubernetes and most clouds send SIGTERM some time before they take a machine
away; Slurm can send SIGUSR1 or SIGUSR2. While a `fit` with a checkpoint runs, these ask for an end
after the next chunk of steps, and so does Ctrl-C where `tfdist run` hands it on. Elsewhere they end
the process, as any other: TensorFlow would catch SIGTERM from the moment a strategy of several
workers is made, and do nothing, but it is taken back (`tfdist.strategies.multi_worker`).
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

import tensorflow as tf

from tfdist import process
from tfdist.machine.signals import ENDS, caught
from tfdist.strategies import registry

__all__ = ["Preemption"]


class Preemption:
    """Whether this process, or a server of its job, was asked to end.

    Args:
        strategy: of the job.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self._membership = registry.membership_of(strategy)
        self._signal = ""

    @property
    def asked_by(self) -> str:
        """The signal's name, and the server that it was sent to; "" where none came."""
        there = self._membership
        return self._signal or ("" if there is None else there.asked_by)

    @property
    def asks_for_others(self) -> bool:
        """Whether the launcher wants the job to go on with other tasks than now."""
        return process.is_asked_to_save()

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Takes the signals while it is entered; outside of the main thread only the servers'."""
        if self._membership is not None:
            self._membership.saves = True
        try:
            with caught(self._note, _ours()), process.saves_when_asked():
                yield
        finally:
            if self._membership is not None:
                self._membership.saves, self._membership.asked_by = False, ""
        if self._signal:  # it came too late to end this training; what comes after it ends
            os.kill(os.getpid(), signal.Signals[self._signal])

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._signal:
            signal.default_int_handler(number, frame)  # a second Ctrl-C waits for nothing
        self._signal = signal.Signals(number).name


def _ours() -> list[signal.Signals]:
    # A SIGUSR that a program handles itself stays its own: a debugger's, a profiler's.
    free = (signal.SIG_DFL, None)
    taken = [one for one in ENDS if one is signal.SIGTERM or signal.getsignal(one) in free]
    if process.current().launched and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        taken.append(signal.SIGINT)
    return taken
