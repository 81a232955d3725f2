"""Work that the workers of a parameter-server job have been given and not yet returned."""

from __future__ import annotations

import collections
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfdist.training.parameter_server.chunk_tickets import ChunkTicket

__all__ = ["WorkQueue"]


class _OnceOnly(logging.Filter):
    """Drops TensorFlow's own note of an error that the user is about to be raised."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "encountered the following error when processing" not in str(record.msg)


_PAUSE_SECONDS = 0.1


def _is_for_another_worker(error: tf.errors.OpError) -> bool:
    """Whether a worker was lost while its result was on the way: the work is done again elsewhere.

    The coordinator takes care of a worker that is lost while it works; but a result is ready a
    moment before it has been copied to the chief.
    """
    text = str(error)
    if "/job:ps" in text or "/job:worker" not in text:
        return False
    gone = isinstance(error, tf.errors.UnavailableError | tf.errors.AbortedError)
    # A worker that was started again knows nothing of its predecessor's tensors.
    return gone or "context_id" in text or "remote_handle" in text


class WorkQueue:
    """Hands functions to whichever worker is free, and takes the results in the order they come.

    A function that a lost worker had begun runs again, on another one: its result comes once.

    Args:
        coordinator: of the strategy.

    Attributes:
        tickets: of the chunks of steps that were handed out (`chunk_tickets`).
        early: results that came while there was no slot for more.
    """

    def __init__(self, coordinator: tf.distribute.coordinator.ClusterCoordinator) -> None:
        self._coordinator = coordinator
        self._came: queue.SimpleQueue[tuple[Any, Any, BaseException | None]] = queue.SimpleQueue()
        self._count = 0
        self.tickets: set[ChunkTicket] = set()
        self.early: collections.deque[tuple[int, Any]] = collections.deque()
        log = tf.get_logger()
        if not any(isinstance(one, _OnceOnly) for one in log.filters):
            log.addFilter(_OnceOnly())

    def __len__(self) -> int:
        """How many have not returned."""
        return self._count

    def start(self, function: Any, arguments: Sequence[Any], tag: Any = None) -> None:
        """Hands out one call.

        Args:
            function: a `tf.function`'s concrete function.
            arguments: its arguments; what is per worker is each worker's own.
            tag: comes back with the result.
        """
        remote = self._coordinator.schedule(function, args=tuple(arguments))
        self._count += 1
        # A remote value tells nobody that it is ready: somebody has to wait for it.
        threading.Thread(target=self._fetch, args=(remote, tag), daemon=True).start()

    def _fetch(self, remote: Any, tag: Any) -> None:
        while True:
            try:
                self._came.put((tag, remote.fetch(), None))
            except tf.errors.OpError as error:
                if _is_for_another_worker(error):
                    time.sleep(_PAUSE_SECONDS)
                    continue
                self._came.put((tag, None, error))
            except BaseException as error:
                self._came.put((tag, None, error))
            return

    def wait(self, seconds: float) -> tuple[Any, Any] | None:
        """Waits for the next result.

        Args:
            seconds: how long at most.

        Returns:
            Its tag and the result; None where none came in time.

        Raises:
            Exception: the error of the function, or what became of its servers.
        """
        try:
            tag, value, error = self._came.get(timeout=seconds)
        except queue.Empty:
            return None
        self._count -= 1
        if error is not None:
            self._give_up()
            raise error
        return tag, value

    def drain(self) -> None:
        """Waits for all that is left, and forgets it."""
        while self._count:
            self.wait(1.0)

    def forget(self) -> None:
        """Waits for nothing more: there is nobody left to bring it."""
        self._count = 0

    def _give_up(self) -> None:
        """Cancels the rest; the coordinator raises its error once, and works again after that."""
        with contextlib.suppress(Exception):
            self._coordinator.join()
        while self._count:
            self._came.get()
            self._count -= 1
