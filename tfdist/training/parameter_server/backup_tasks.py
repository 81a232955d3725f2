"""Which workers compute the parts of an update, and which parts are handed out twice. Pure.

Backup workers (Chen et al., "Revisiting Distributed Synchronous SGD", 2016) keep a slow worker from
holding up all others. There the gradients that come last are dropped, and their rows with them.
Here a part that is late is handed out again, as MapReduce does (Dean and Ghemawat, 2004, section
3.6), and whoever is first counts: every row is in its own update, and the weights do not depend on
who was slow. Whoever is known to be slow is left out, as long as there are enough others.
"""

from __future__ import annotations

import collections
import statistics
from collections.abc import Iterable

__all__ = ["NO_PART", "BackupTasks"]

NO_PART = -1
"""What is no part of this update: a probe, or what comes of an earlier one."""

_LATE = 1.5  # times the usual, from handing out to coming back
_UNKNOWN_SECONDS = 60.0  # that a part is waited for where nothing is known yet
_LEAST_SECONDS = 0.1  # that a part is waited for: to hand it out again costs something, too
_SLOW = 1.5  # times what the others take to compute a part,
_SLOW_SECONDS = 0.02  # and so much longer
_KEPT = 3  # last parts of each worker
_PROBED_EVERY = 8  # updates, in which a worker that is left out shows how fast it is now


class BackupTasks:
    """Knows what is under way, and how long each worker has taken of late.

    Args:
        workers: of the job.
        spare: so many may be left out.

    Attributes:
        twice: parts that were handed out once more as they were late, in all updates.
    """

    def __init__(self, workers: int, spare: int) -> None:
        self._workers, self._spare = workers, spare
        self._took = [collections.deque[float](maxlen=_KEPT) for _ in range(workers)]
        self._met: set[int] = set()  # whose first part has come, for which all is made ready
        self._came_after = collections.deque[float](maxlen=_KEPT * workers)
        self._handed: dict[int, float | None] = {}  # None: whoever gets it is busy still
        self._held_back: dict[int, None] = {}
        self._out: list[bool] | None = None
        self._absent: set[int] = set()
        self._under_way = 0
        self._updates = 0
        self.twice = 0

    # ------------------------------------------------------------ an update

    def begin(self, parts: Iterable[int], now: float) -> None:
        """Begins an update, all of whose parts are being handed out.

        Args:
            parts: their numbers.
            now: seconds.
        """
        self._handed = {}
        for part in parts:
            self._handed[part] = now if self._under_way < self._there else None
            self._under_way += 1
        self._held_back = {}
        self._out = None
        self._updates += 1

    def forget(self) -> None:
        """Notes that nothing of what is under way will come."""
        self._handed, self._held_back, self._under_way = {}, {}, 0

    def gone(self, workers: Iterable[int]) -> None:
        """Notes which workers are not there: how fast they come back is not known."""
        self._absent = set(workers)
        for worker in self._absent:
            self._took[worker].clear()
            self._met.discard(worker)

    @property
    def left(self) -> bool:
        """Whether some part has not come."""
        return bool(self._handed)

    def came(self, part: int, worker: int, seconds: float, now: float) -> bool:
        """Notes that a part has come.

        Args:
            part: of this update, or `NO_PART`.
            worker: who has computed it.
            seconds: that it has taken.
            now: seconds.

        Returns:
            Whether it is the first that comes of this part.
        """
        self._ended(now)
        if worker in self._met:
            self._took[worker].append(seconds)
        self._met.add(worker)
        self._held_back.pop(part, None)
        if part not in self._handed:
            return False
        since = self._handed.pop(part)
        if since is not None:
            self._came_after.append(now - since)
        return True

    def declined(self, part: int, now: float) -> None:
        """Notes that a worker that is left out was handed a part, and has not computed it."""
        self._ended(now)
        if part in self._handed:
            self._held_back[part] = None

    def again(self) -> list[int]:
        """Takes the parts that were declined, as far as somebody else is free."""
        if not self._held_back:
            return []
        free = self._there - sum(self.left_out) - self._under_way
        parts = [*self._held_back][: max(0, free)]
        for part in parts:
            del self._held_back[part]
        self._under_way += len(parts)
        return parts

    def late(self, now: float) -> list[int]:
        """Takes the parts that are late, as far as somebody is free, the slow included."""
        patience = _UNKNOWN_SECONDS
        if self._came_after:
            patience = max(_LEAST_SECONDS, _LATE * statistics.median(self._came_after))
        free = self._there - self._under_way
        due = [
            part
            for part, since in self._handed.items()
            if since is not None and now - since > patience
        ]
        parts = due[: max(0, free)]
        for part in parts:
            self._handed[part] = now
            if part in self._held_back:
                del self._held_back[part]
            else:
                self.twice += 1
        self._under_way += len(parts)
        return parts

    def to_probe(self) -> int | None:
        """Takes, now and then, a part for those who are left out, to see how fast they are now."""
        due = self._updates % _PROBED_EVERY == 0 and any(self.left_out)
        if not due or self._held_back or self._under_way >= self._there or not self._handed:
            return None
        self._under_way += 1
        return next(iter(self._handed))

    def _ended(self, now: float) -> None:
        """Notes that somebody is free, and so begins what was waiting, if anything was."""
        self._under_way -= 1
        waiting = next((part for part, since in self._handed.items() if since is None), None)
        if waiting is not None:
            self._handed[waiting] = now

    # ------------------------------------------------------------ workers

    @property
    def _there(self) -> int:
        return self._workers - len(self._absent)

    @property
    def left_out(self) -> list[bool]:
        """For each worker, whether it is slow and the others are enough, as an update begins."""
        if self._out is None:
            self._out = self._find_slow()
        return self._out

    def _find_slow(self) -> list[bool]:
        slow = {w: times for w in range(self._workers) if (times := self._times_the_others(w))}
        last = sorted(slow, key=lambda worker: (-slow[worker], worker))
        last = last[: max(0, self._spare - len(self._absent))]
        return [worker in last for worker in range(self._workers)]

    def describe(self) -> str:
        """What to tell of it: who is left out, and how many parts were computed twice."""
        told = [
            f"worker:{worker} is slow ({self._times_the_others(worker):.1f} times as long as the "
            "others) and left out"
            for worker, out in enumerate(self.left_out)
            if out
        ]
        if self.twice:
            told.append(f"{self.twice} late parts were handed out twice")
        return "; ".join(told)

    def _times_the_others(self, worker: int) -> float:
        """How many times as long as the others a worker takes; 0 where it is not slow."""
        own = self._usual([worker])
        others = self._usual(w for w in range(self._workers) if w != worker)
        if own is None or others is None or own <= max(_SLOW * others, others + _SLOW_SECONDS):
            return 0.0
        return own / others

    def _usual(self, workers: Iterable[int]) -> float | None:
        """The median of what these workers take; None where nobody knows."""
        own = [statistics.median(self._took[w]) for w in workers if self._took[w]]
        return statistics.median(own) if own else None
