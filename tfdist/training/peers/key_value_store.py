"""Where workers of a synchronous job leave word for each other, and read it when all else fails.

It hangs in TensorFlow's coordination service, which the first worker keeps: it can be asked while
a collective waits, and after one was aborted. A worker notes which calls it has begun, all of which
every worker must make, and how it has ended.
"""

from __future__ import annotations

import atexit
import weakref
from typing import Any

import tensorflow as tf

from tfdist import exits
from tfdist.compat import tf_collectives
from tfdist.strategies.layout import ReplicaLayout

__all__ = ["KeyValueStore"]

_PATIENCE = 50
"""Milliseconds to wait for a note that may not be there."""

_boards: weakref.WeakKeyDictionary[Any, KeyValueStore] = weakref.WeakKeyDictionary()


class KeyValueStore:
    """What one worker writes there, and finds of the others.

    Args:
        layout: the replicas, of several workers.
    """

    def __init__(self, layout: ReplicaLayout) -> None:
        self._layout = layout
        self._calls = 0
        self._phases = 0
        self._seen: dict[int, tuple[int, str]] = {}
        exits.watch_the_end()
        atexit.register(self._say_how_it_ended)

    @classmethod
    def of(cls, strategy: tf.distribute.Strategy, layout: ReplicaLayout) -> KeyValueStore | None:
        """Returns the one of a strategy; None in a job of one process."""
        if layout.workers == 1:
            return None
        if strategy not in _boards:
            _boards[strategy] = cls(layout)
        return _boards[strategy]

    def note_call(self, call: str) -> None:
        """Notes that this worker begins a call that all must make."""
        self._calls += 1
        tf_collectives.post(self._key("call", self._layout.worker, self._calls), call)

    def not_here_yet(self) -> list[int]:
        """The workers that have not begun as many calls as this one."""
        return [
            worker
            for worker in range(self._layout.workers)
            if worker != self._layout.worker
            and tf_collectives.posted(self._key("call", worker, self._calls), _PATIENCE) is None
        ]

    def note_phase(self, text: str) -> None:
        """Notes what this worker does, for those who wait for it."""
        self._phases += 1
        tf_collectives.post(self._key("phase", self._layout.worker, self._phases), text)

    def phases(self) -> list[str]:
        """What the other workers have noted last."""
        for worker in range(self._layout.workers):
            number, text = self._seen.get(worker, (0, ""))
            while worker != self._layout.worker:
                found = tf_collectives.posted(self._key("phase", worker, number + 1), _PATIENCE)
                if found is None:
                    break
                number, text = number + 1, found
            self._seen[worker] = number, text
        return [text for _, text in self._seen.values() if text]

    def ended(self) -> dict[str, str]:
        """The tasks that have ended in order, and why badly; "" for those that ended well."""
        found = {}
        for worker in range(self._layout.workers):
            note = tf_collectives.posted(self._key("end", worker), _PATIENCE)
            if note is not None and worker != self._layout.worker:
                task, _, failure = note.partition("\n")
                found[task] = failure
        return found

    def _say_how_it_ended(self) -> None:
        note = f"{self._layout.task}\n{exits.failure()}"
        tf_collectives.post(self._key("end", self._layout.worker), note)

    def _key(self, kind: str, worker: int, number: int = 0) -> str:
        return f"tfdist/{kind}/{worker}/{number}"
