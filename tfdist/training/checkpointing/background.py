"""Work that goes on beside the training: one piece at a time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from tfdist import phases, process
from tfdist.progress import teller

__all__ = ["Background"]


class Background:
    """Does one piece of work after the other in a thread of its own.

    A process that ends in order waits for what has begun.

    Args:
        active: False does each piece at once, in the caller's thread.
    """

    def __init__(self, active: bool) -> None:
        self._active = active
        self._pool: ThreadPoolExecutor | None = None
        self._begun: Future[None] | None = None

    def begin(self, work: Callable[[], None]) -> None:
        """Begins a piece of work, once the one before it has ended.

        What that one has raised is raised here, but only once the new piece is done, too: it may be
        the last for which there is time.
        """
        try:
            self.settle()
        except Exception:
            _do(work)
            raise
        if not self._active:
            _do(work)
            return
        self._pool = self._pool or ThreadPoolExecutor(1, thread_name_prefix="tfdist-checkpoint")
        self._begun = self._pool.submit(_do, work)

    def wait(self) -> None:
        """Waits until all has ended; what it has raised is raised by whatever comes next."""
        if self._begun is not None:
            wait([self._begun])

    def settle(self) -> None:
        """Waits until all has ended; raises what it has raised."""
        begun, self._begun = self._begun, None
        if begun is not None:
            begun.result()

    def close(self) -> None:
        """The same, and ends the thread."""
        pool, self._pool = self._pool, None
        try:
            self.settle()
        finally:
            if pool is not None:
                pool.shutdown()


def _do(work: Callable[[], None]) -> None:
    # Else the launcher might end this task, where it starts all again.
    with process.writes(), phases.saving(), teller.saving():
        work()
