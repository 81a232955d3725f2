"""Names the task that a call waits for, and ends the process where that one is lost for good.

A thread looks once a second whether the call has moved. After some seconds without, it tells the
other workers in which phase this one is, and reads where they are; of a job with servers it asks
the rendezvous' membership which of them are silent. A process that waits inside of TensorFlow for
a task that never answers cannot be interrupted: after `stall_timeout` it is ended by `TaskLost`.
"""

from __future__ import annotations

import json
import re
import sys
import sysconfig
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from types import FrameType, TracebackType

import tfdist
from tfdist import exits, log
from tfdist.errors import TaskLost
from tfdist.machine.standstill import Standstill
from tfdist.rendezvous.membership import Membership
from tfdist.training.peers.key_value_store import KeyValueStore

__all__ = ["StallWatch", "note"]

_QUIET = 6.0
"""Seconds without a move after which it is said who is waited for."""

_POST_SECONDS = 4.0
_STALE_SECONDS = 15.0  # more than between two notes of a worker that stands still, by any clock
_LIBRARIES = (Path(tfdist.__file__).parent, *map(Path, sysconfig.get_paths().values()))
_open: list[StallWatch] = []


def note(phase: str, *, alone: bool = False) -> None:
    """Notes that the call that runs has moved, and what it does now.

    Args:
        phase: as "in its train steps".
        alone: whether it waits for nobody there: in a callback, in the input pipeline.
    """
    for watch in _open:
        watch.moved(phase, alone)


class StallWatch:
    """Watches one call of a model's method in a job of several tasks; a context manager.

    Args:
        task: this process's own name.
        call: the method.
        board: where workers leave word for each other; None where there are none.
        membership: which servers are there; None in a job without.
        limit: seconds without a move after which lost servers end this process.
    """

    def __init__(
        self,
        task: str,
        call: str,
        board: KeyValueStore | None,
        membership: Membership | None,
        limit: float,
        quiet: float = _QUIET,
    ) -> None:
        self._task = task
        self._board = board
        self._membership = membership
        self._limit = limit
        self._quiet = quiet
        self._thread = threading.get_ident()
        self._done = threading.Event()
        self._posted = 0.0
        self._told: set[str] = set()
        self.moved(f"in {call}")

    def moved(self, phase: str, alone: bool = False) -> None:
        """Notes that something has been done, and what comes now; see `note`."""
        self._now = (phase, alone, time.monotonic())

    def __enter__(self) -> StallWatch:
        _open.append(self)
        threading.Thread(target=self._watch, name="tfdist-stall-watch", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        _open.remove(self)

    def _watch(self) -> None:
        standstill = Standstill()
        while not self._done.wait(min(1.0, self._quiet / 4)):
            phase, alone, since = self._now
            if standstill.is_over():
                self.moved(phase, alone)
                continue
            still = time.monotonic() - since
            if still < self._quiet:
                self._told.clear()
                continue
            where = place_of(sys._current_frames().get(self._thread))
            self._tell_the_others(phase, alone, still, where)
            silent, gone = self._silent(), self._gone()
            who = f"{self._task} is {phase} for {still:.0f} s"
            if alone and self._others(alone=False):
                self._say(who, [f"the others wait for it{where}"])
            elif not alone:
                self._say(who, [*silent, *gone, *self._others(alone=True)])
            # The work of a worker that has gone is done by another one, where there are servers.
            lost = [*silent, *(text for text in gone if self._is_needed(text))]
            if lost and not alone and still >= self._limit and not self._done.is_set():
                exits.end_by(
                    TaskLost(
                        f"{who}, and would be for ever: {'; '.join(lost)}; its own log may tell "
                        "why; start the job again, with tfdist.callbacks.Checkpoint it resumes "
                        "where it was (TFDIST_STALL_TIMEOUT sets the seconds)"
                    )
                )

    def _say(self, who: str, named: Iterable[str]) -> None:
        """Says who is waited for, once for each reason."""
        news = [text for text in named if _without_times(text) not in self._told]
        if news:
            self._told |= {_without_times(text) for text in news}
            log.warning("%s: %s", who, "; ".join(news))

    def _silent(self) -> list[str]:
        """The servers that do not answer."""
        if self._membership is None:
            return []
        return [
            f"it waits for {task}, which has said nothing for {seconds:.0f} s (its process is "
            "stopped, or its host cannot be reached)"
            for task, seconds in self._membership.silent(max(self._quiet / 2, self._quiet - 1.0))
        ]

    def _gone(self) -> list[str]:
        """The servers that have ended, or were cut off, and have not come back."""
        gone = () if self._membership is None else self._membership.absent()
        return [f"it waits for {task}, which has gone" for task in gone]

    def _is_needed(self, text: str) -> bool:
        tasks = () if self._membership is None else self._membership.tasks
        return "for ps:" in text or not any(task.type == "ps" for task in tasks)

    # ------------------------------------------------------------ workers in step

    def _tell_the_others(self, phase: str, alone: bool, still: float, where: str) -> None:
        if self._board is not None and time.monotonic() - self._posted > _POST_SECONDS:
            self._posted = time.monotonic()
            self._board.note_phase(
                json.dumps([self._task, phase, alone, where, still, time.time()])
            )

    def _others(self, alone: bool) -> list[str]:
        """The workers that stand still, and wait for nobody there, or wait as others do."""
        found = []
        for text in self._board.phases() if self._board is not None else []:
            task, phase, is_alone, where, still, posted = json.loads(text)
            if is_alone == alone and abs(time.time() - posted) < _STALE_SECONDS:
                found.append(f"it waits for {task}, which is {phase} for {still:.0f} s{where}")
        return found


def _without_times(text: str) -> str:
    return re.sub(r"for \d+ s", "", text)


def place_of(frame: FrameType | None) -> str:
    """Where the user's own code stands, " (train.py, line 41, in on_epoch_end)"; "" outside."""
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_file() and not any(library in path.parents for library in _LIBRARIES):
            if frame.f_code.co_name == "<module>":
                return ""
            return f" ({path.name}, line {frame.f_lineno}, in {frame.f_code.co_name})"
        frame = frame.f_back
    return ""
