"""A job's progress as lines, for what is no terminal."""

from __future__ import annotations

from collections.abc import Callable

from tfdist.launch.live.live_view import Watcher
from tfdist.launch.live.progress_wording import job_line
from tfdist.progress import JobView

__all__ = ["SECONDS", "PlainLines"]

SECONDS = 10.0
"""Between two lines."""


class PlainLines(Watcher):
    """Says how far a job is, now and then, while it trains.

    Args:
        seconds: between two lines.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        self._every = seconds
        self._next: float | None = None
        self._say: Callable[[str], None] = print  # until there is a job

    def open(self, say: Callable[[str], None]) -> None:
        """See `Watcher`."""
        self._say = say

    def look(self, view: JobView, now: float) -> None:
        """See `Watcher`."""
        if not view.is_training:
            self._next = None
            return
        if self._next is None:
            self._next = now + self._every  # a short training says it all by itself
        elif now >= self._next:
            self._next = now + self._every
            self._say(job_line(view))
