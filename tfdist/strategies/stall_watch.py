"""Names the task that this one waits for, and ends the process where that one is lost for good.

A thread looks once a second whether this process has moved, from the rendezvous to its end. After
some seconds without, it tells the others where this task stands, and looks where they are: workers
in step tell each other (`in_touch`); of servers the rendezvous' membership knows which are silent.
A process that waits inside of TensorFlow for a task that never answers cannot be interrupted: after
`stall_timeout` it is ended by `TaskLost`.
"""

from __future__ import annotations

import contextlib
import re
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tfdist import exits, log, phases, process
from tfdist.errors import TaskLost
from tfdist.machine import stacks
from tfdist.machine.connections import which_answer
from tfdist.machine.standstill import Standstill
from tfdist.progress.phase_seconds import Phase
from tfdist.rendezvous.in_touch import InTouch, Standing
from tfdist.rendezvous.membership import Membership
from tfdist.strategies import fit_clock, own_code, step_clock

__all__ = ["StallWatch", "begin", "call", "meeting", "note"]

_PATIENCE = 10
_QUIET = 6.0
"""Seconds without a move after which it is said who is waited for."""

_OUTSIDE = "in its program, outside of fit, evaluate and predict,"
_TOLD = {"in its train steps": "training", "in its test steps": "validation"}
_watch: StallWatch | None = None


def begin(task: str, touch: InTouch | None, membership: Membership | None) -> None:
    """Has this process watched from now to its end.

    Args:
        task: its own name.
        touch: what it knows of the workers that it is in step with; None elsewhere.
        membership: which servers are there; None in a job without.
    """
    global _watch
    if _watch is not None:
        _watch.end()
    _watch = StallWatch(task, touch, membership, process.stall_timeout())
    _watch.start()


def note(
    phase: str,
    counts_as: Phase | None = None,
    *,
    alone: bool = False,
    epoch: int | None = None,
    step: int | None = None,
) -> None:
    """Notes that this process has moved, and what it does now.

    Args:
        phase: as "in its train steps".
        counts_as: the phase of `fit` that its seconds belong to; None for the one before.
        alone: whether it waits for nobody there: in a callback, in the input pipeline.
        epoch: which one it is in, from 0; None for the same as before.
        step: of the epoch or the evaluation, from 0; None for the same as before.
    """
    if counts_as is not None:
        fit_clock.CLOCK.enter(counts_as)
    if phases.are_told():
        phases.tell(_TOLD.get(phase, phases.BETWEEN), epoch, step)
    if _watch is not None and threading.get_ident() == _watch.thread:
        _watch.moved(phase, alone)


@contextlib.contextmanager
def call(name: str) -> Iterator[None]:
    """While a method of a model runs, "fit" for instance, in whichever thread."""
    if _watch is not None and _watch.phase[0] == _OUTSIDE:
        _watch.thread = threading.get_ident()
    with _for_a_while(f"in {name}", False):
        yield


@contextlib.contextmanager
def meeting(what: str = "telling the other workers where it stands") -> Iterator[None]:
    """While it waits for the other workers, in whatever phase it waited for nobody."""
    with fit_clock.CLOCK.during("exchange"):
        if _watch is None or not _watch.phase[1]:
            yield
            return
        with _for_a_while(what, False):
            yield


@contextlib.contextmanager
def _for_a_while(phase: str, alone: bool) -> Iterator[None]:
    if _watch is None or threading.get_ident() != _watch.thread:
        yield
        return
    before = _watch.phase
    _watch.moved(phase, alone)
    try:
        yield
    finally:
        _watch.moved(*before)


class StallWatch:
    """Watches the thread that makes it.

    Args:
        task: this process's own name.
        touch: what it knows of the workers that it is in step with.
        membership: which servers are there.
        limit: seconds without a move after which lost tasks end this process.
        quiet: seconds after which they are named.

    Attributes:
        thread: which thread it watches.
    """

    def __init__(
        self,
        task: str,
        touch: InTouch | None,
        membership: Membership | None,
        limit: float,
        quiet: float = _QUIET,
    ) -> None:
        self._task = task
        self._touch = touch
        self._membership = membership
        self._limit = limit
        self._quiet = quiet
        self.thread = threading.get_ident()
        self._done = threading.Event()
        self._told: set[str] = set()
        self._wrote: Path | None = None
        self._clock = (0, 0.0)
        self._seen = ("", 0.0)
        self.moved(_OUTSIDE)

    def moved(self, phase: str, alone: bool = False) -> None:
        """Notes that something has been done, and what comes now; see `note`."""
        self._now = (phase, alone, time.monotonic())

    @property
    def phase(self) -> tuple[str, bool]:
        """What was noted last."""
        return self._now[:2]

    def start(self) -> None:
        """Begins to watch."""
        threading.Thread(target=self._run, name="tfdist-stall-watch", daemon=True).start()

    def end(self) -> None:
        """Ends it."""
        self._done.set()

    def _run(self) -> None:
        standstill = Standstill()
        while not self._done.wait(min(1.0, self._quiet / 4)):
            if standstill.is_over():
                self.moved(*self.phase)
                continue
            own = self._standing(time.monotonic())
            still = own.seconds >= self._quiet
            if self._touch is not None:
                self._touch.stand(own if still else None)
            if still:
                self._look_around(own)
            else:
                self._told.clear()
                self._wrote = None

    # ------------------------------------------------------------ where this task stands

    def _standing(self, now: float) -> Standing:
        phase, alone, since = self._now
        frame = sys._current_frames().get(self.thread)
        in_tensorflow = own_code.is_in_tensorflow(frame)
        where = own_code.place_of(frame, module=phase == _OUTSIDE)
        ticks = step_clock.ticks()
        if ticks != self._clock[0]:
            self._clock = (ticks, now)
        since = max(since, self._clock[1])
        if phase == _OUTSIDE:
            alone = not in_tensorflow
            if where != self._seen[0]:
                self._seen = (where, now)
            since = max(since, self._seen[1])
        elif own_code.is_tracing(frame):
            phase, alone = f"tracing, {phase},", True
        elif not alone and not in_tensorflow and where:
            phase, alone = f"{phase}, in code of its own,", True
        elif alone and in_tensorflow and (self._silent() or self._gone()):
            alone = False  # what a callback asks TensorFlow for, the others may have to bring
        elif not alone and in_tensorflow:
            called = own_code.called_from_graphs((self.thread, threading.get_ident()))
            if ticks % 2:
                phase, alone, where = "in the input pipeline", True, "".join(called[:1])
            elif called:
                # A pipeline that has batches ready calls nothing while nobody takes any.
                if called[0] == self._seen[0]:
                    phase, alone, where = (
                        f"{phase}, in Python code that they call,",
                        True,
                        called[0],
                    )
                self._seen = (called[0], now)
        return Standing(self._task, phase, alone, where, now - since)

    # ------------------------------------------------------------ who is waited for

    def _look_around(self, own: Standing) -> None:
        who = f"{self._task} is {own.phase} for {own.seconds:.0f} s"
        others = [] if self._touch is None else self._touch.standing()
        if own.alone:
            if any(not other.alone for other in others):
                self._say(who, [f"the others wait for it{own.where}"])
            return
        gone = [] if own.phase == _OUTSIDE else self._gone()
        silent = self._silent()  # after those, of whom none is named twice
        waits = [f"it waits for {other}" for other in others if other.alone]
        self._say(who, [*silent, *gone, *self._left(own), *waits, *self._late(others)])
        for_good = []
        if own.seconds >= self._limit:
            for_good += [text for text, is_lost in silent.items() if is_lost]
            # The work of a worker that has gone is done by another one, where there are servers.
            for_good += [text for text in gone if self._is_needed(text)]
        if for_good and not self._done.is_set():
            exits.end_by(
                TaskLost(
                    f"{who}, and would be for ever: {'; '.join(for_good)}; its own log may tell "
                    "why; start the job again, with tfdist.callbacks.Checkpoint it resumes "
                    "where it was (TFDIST_STALL_TIMEOUT sets the seconds)"
                )
            )

    def _say(self, who: str, named: Iterable[str]) -> None:
        """Says who is waited for, once for each reason, and writes where all threads stand."""
        news = [text for text in named if _without_times(text) not in self._told]
        if not news:
            return
        self._told |= {_without_times(text) for text in news}
        if self._wrote is None:
            self._wrote = stacks.write(process.log_folder(), self._task)
            if self._membership is not None:
                self._membership.ask_for_stacks()
        kept = f" (Python stacks: {self._wrote})" if self._wrote is not None else ""
        log.warning("%s: %s%s", who, "; ".join(news), kept)

    def _silent(self) -> dict[str, bool]:
        """The tasks that do not answer, and whether they have been silent for too long."""
        longest = max(self._quiet / 2, self._quiet - 1.0)
        found: list[tuple[object, float]] = []
        if self._membership is not None:
            found += self._membership.silent(longest)
        if self._touch is not None:
            found += self._touch.silent(longest)
        overdue = {task: seconds for task, seconds in found if seconds >= self._limit}
        lost = set(overdue) - self._busy(overdue)
        return {
            f"it waits for {task}, which has said nothing for {seconds:.0f} s (its process is "
            "stopped, or its host cannot be reached)": task in lost
            for task, seconds in found
        }

    def _busy(self, silent: Mapping[object, float]) -> set[object]:
        """The workers of which Python alone is silent: a library lets it do nothing."""
        if self._touch is None:
            return set()
        may_be = [task for task, seconds in silent.items() if seconds <= _PATIENCE * self._limit]
        at = {task: self._touch.address(str(task)) for task in may_be}
        answer = which_answer(at.values())
        return {task for task in may_be if at[task] in answer}

    def _gone(self) -> list[str]:
        """The tasks that have died, or were cut off, and have not come back."""
        gone: list[object] = []
        if self._membership is not None:
            gone += self._membership.absent()
        if self._touch is not None:
            ended = self._touch.ended()
            gone += [name for name in self._touch.absent() if ended.get(name) != ""]
        return [f"it waits for {task}, which has gone" for task in gone]

    def _left(self, own: Standing) -> list[str]:
        """The workers that have ended well, where this one is in something that all must do."""
        if self._touch is None or own.phase == _OUTSIDE or self.phase[1]:
            return []
        well = [name for name, why in self._touch.ended().items() if not why]
        return [f"it waits for {name}, whose program has ended well" for name in well]

    def _late(self, others: Iterable[Standing]) -> list[str]:
        """The workers that have not begun the call that this one is in, and stand nowhere."""
        late = [] if self._touch is None else self._touch.not_here_yet()
        known = {other.task for other in others} | {name for name, _ in self._quiet_ones()}
        return [
            f"it waits for {name}, which has not called it yet"
            for name in late
            if name not in known
        ]

    def _quiet_ones(self) -> list[tuple[str, float]]:
        return [] if self._touch is None else self._touch.silent(self._quiet / 2)

    def _is_needed(self, text: str) -> bool:
        tasks = () if self._membership is None else self._membership.tasks
        return "for ps:" in text or not any(task.type == "ps" for task in tasks)


def _without_times(text: str) -> str:
    return re.sub(r"for \d+ s", "", text)
