"""The wish of a scheduler, or of a person, that a job ends soon: it saves first.

Slurm (`--signal`), Kubernetes and most clouds send SIGTERM some time before they take a machine
away; Slurm can send SIGUSR1 or SIGUSR2. While a `fit` with a checkpoint runs, these ask for an end
after the next chunk of steps. TensorFlow handles SIGTERM itself from the moment a strategy of
several workers is made, and does nothing; here it is taken back.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["Preemption"]

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class Preemption:
    """Whether this process was asked to end.

    Attributes:
        asked_by: the signal's name; "" where none came.
    """

    def __init__(self) -> None:
        self.asked_by = ""

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.asked_by = signal.Signals(number).name

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Takes the signals while it is entered; outside of the main thread nothing can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        # A SIGUSR that a program handles itself stays its own (a debugger's, a profiler's).
        taken = [
            one
            for one in _SIGNALS
            if one is signal.SIGTERM or signal.getsignal(one) in (signal.SIG_DFL, None)
        ]
        before = {one: signal.signal(one, self._note) for one in taken}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, signal.SIG_DFL if handler is None else handler)
