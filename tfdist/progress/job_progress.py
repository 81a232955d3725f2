"""Puts together what the tasks of a job tell: how far it is, who lags, who waits, who is gone."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from tfdist.progress.phase_seconds import PHASES, Phase, PhaseSeconds
from tfdist.progress.record import Record

__all__ = ["JobProgress", "JobView", "State", "TaskView"]

State: TypeAlias = Literal["starts", "trains", "lags", "waits", "busy", "silent", "ended", "failed"]

WINDOW = 15.0
"""Seconds over which shares and rates are taken."""

_SHORTEST = 3.0  # seconds of training, before anybody is said to lag
_LAG = 0.25  # of the time: so much less than another one a task waits that lags
_STILL = 5.0
_SILENT = 5.0  # ten records that have not come


@dataclass(frozen=True)
class TaskView:
    """A task, as one looks at it.

    Attributes:
        name: as "worker:1".
        state: "starts" before its first `fit`; "trains"; "lags" where the others wait for it again
            and again; "waits" where it has waited for others for seconds; "busy" where it has been
            at one thing for seconds, and waits for nobody; "silent" where it tells nothing;
            "ended" and "failed".
        why: a few words on that; "" where there is nothing to say.
        shares: of each phase, of the last seconds; empty where it does not train.
        record: its newest; None where there is none yet.
    """

    name: str
    state: State
    why: str = ""
    shares: Mapping[Phase, float] = field(default_factory=dict)
    record: Record | None = None


@dataclass(frozen=True)
class JobView:
    """A job, as one looks at it.

    Attributes:
        record: that which tells for all: the chief's, where it is here; None before any `fit`.
        done: steps of all epochs that are done, of `total`.
        total: steps of all epochs; None where nobody knows.
        steps_per_second: of the last seconds; None where too few were taken.
        seconds_left: to the last epoch's end, at this rate; None where nobody can tell.
        tasks: in the order of the job.
    """

    record: Record | None
    done: int
    total: int | None
    steps_per_second: float | None
    seconds_left: float | None
    tasks: tuple[TaskView, ...]

    @property
    def examples_per_second(self) -> float | None:
        """Rows of global batches; None where nobody knows how many these have."""
        if self.record is None or not self.record.batch or self.steps_per_second is None:
            return None
        return self.steps_per_second * self.record.batch

    @property
    def is_training(self) -> bool:
        """Whether some task is in `fit`."""
        return any(one.record is not None and one.record.phase for one in self.tasks)


@dataclass
class _Heard:
    """Of one task: its records of the last seconds, when the newest came, and how it has ended."""

    records: deque[Record] = field(default_factory=deque)
    at: float = 0.0
    offset: float | None = None
    ended: tuple[State, str] | None = None


class JobProgress:
    """What is known of the tasks that somebody has started.

    It has one clock, that of who calls it; records of other machines are brought to it by the
    quickest of their ways.

    Args:
        tasks: their names, in the order of the job.
        chief: whose record tells for all, where it is among them.
    """

    def __init__(self, tasks: Sequence[str], chief: str = "") -> None:
        self._tasks = {name: _Heard() for name in tasks}
        self._chief = chief

    def began(self, task: str) -> None:
        """A task was started, perhaps again."""
        self._tasks[task] = _Heard()

    def hear(self, task: str, records: Iterable[Record], now: float, *, here: bool = True) -> None:
        """Takes in what has come of a task.

        Args:
            task: its name.
            records: the oldest first.
            now: seconds of `time.monotonic` here.
            here: whether its machine is this one, whose clock all processes share.
        """
        heard = self._tasks.setdefault(task, _Heard())
        for record in records:
            heard.at = now
            late = 0.0 if here else now - record.at
            heard.offset = late if heard.offset is None else min(heard.offset, late)
            if heard.records and heard.records[-1].fit != record.fit:
                heard.records.clear()
            heard.records.append(record)
        while len(heard.records) > 2 and heard.records[1].at < heard.records[-1].at - WINDOW:
            heard.records.popleft()

    def ended(self, task: str, failed: bool, why: str = "") -> None:
        """A task has ended.

        Args:
            task: its name.
            failed: whether badly.
            why: a few words.
        """
        self._tasks.setdefault(task, _Heard()).ended = ("failed" if failed else "ended", why)

    def offset(self, task: str) -> float:
        """What is to be added to times of a task's machine to have those of this one."""
        heard = self._tasks.get(task)
        return 0.0 if heard is None or heard.offset is None else heard.offset

    def view(self, now: float) -> JobView:
        """What there is to see.

        Args:
            now: seconds of `time.monotonic` here.
        """
        spent = {name: _spent(one) for name, one in self._tasks.items()}
        lagging = _lagging({n: s for n, s in spent.items() if self._tasks[n].ended is None})
        trains = any(one.records and one.records[-1].fit for one in self._tasks.values())
        tasks = tuple(
            TaskView(
                name,
                *_state(one, lagging.get(name), trains, now),
                spent[name].shares(),
                one.records[-1] if one.records else None,
            )
            for name, one in self._tasks.items()
        )
        return self._job(tasks)

    def _job(self, tasks: tuple[TaskView, ...]) -> JobView:
        fitting = [one.name for one in tasks if one.record is not None and one.record.fit]
        if not fitting:
            return JobView(None, 0, None, None, None, tasks)
        records = self._tasks[self._chief if self._chief in fitting else fitting[0]].records
        last = records[-1]
        # The first steps take what TensorFlow takes to trace them: they say nothing of the others.
        first = next((one for one in records if _done(one)), last)
        done = _done(last)
        rate = None
        if first.at < last.at and done > _done(first):
            rate = (done - _done(first)) / (last.at - first.at)
        total = last.epochs * last.steps if last.steps else None
        left = (total - done) / rate if total is not None and rate else None
        return JobView(last, done, total, rate, left, tasks)


def _done(record: Record) -> int:
    return record.epoch * (record.steps or 0) + record.step


def _spent(heard: _Heard) -> PhaseSeconds:
    """Where the last seconds have gone."""
    records = heard.records
    if not records or not records[-1].phase:
        return PhaseSeconds()
    last = records[-1].seconds
    # Before its first step, a fit does not know yet what it will tell apart.
    alike = [one.seconds for one in records if one.seconds.measured.keys() == last.measured.keys()]
    return last.since(alike[0]) if len(alike) > 1 else last


def _state(heard: _Heard, lags: Phase | None, others_train: bool, now: float) -> tuple[State, str]:
    if heard.ended is not None:
        return heard.ended
    if not heard.records or not heard.records[-1].fit:
        return "starts", "not in fit" if others_train else ""  # a server, perhaps
    record = heard.records[-1]
    if not record.phase:
        return "trains", "outside of fit"
    if now > heard.at + _SILENT:
        return "silent", f"says nothing for {now - heard.at:.0f} s"
    still = record.still + now - heard.at
    if still >= _STILL:
        if record.phase in ("compute", "exchange"):
            return "waits", f"nothing has moved for {still:.0f} s"
        return "busy", f"{record.phase} for {still:.0f} s"
    return ("trains", "") if lags is None else ("lags", f"by its {lags}")


def _lagging(spent: Mapping[str, PhaseSeconds]) -> dict[str, Phase]:
    """Who keeps the others waiting, and by what phase.

    Workers in step are done at the same time: who waits least for the others is the last of them.
    It spends more of its time than they do on something else: that phase is to blame.
    """
    shares = {
        name: one.shares()
        for name, one in spent.items()
        if one.exchange is not None and one.total >= _SHORTEST
    }
    if len(shares) < 2:
        return {}
    longest = max(one["exchange"] for one in shares.values())
    found: dict[str, Phase] = {}
    for name, own in shares.items():
        if own["exchange"] > longest - _LAG:
            continue
        others = [one for other, one in shares.items() if other != name]
        found[name] = max(
            (phase for phase in PHASES if phase in own and phase != "exchange"),
            key=lambda phase: own[phase] - statistics.median(o.get(phase, 0.0) for o in others),
        )
    return found
