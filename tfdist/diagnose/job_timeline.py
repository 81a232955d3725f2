"""When a job was in which phase, as its chief has told (`tfdist.phases`), and when to strike it.

Pure, but for the reading of the file. A moment of another run of the same job is found again by its
place, the epoch and the step, rather than by the clock: no two runs are equally fast.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tfdist.diagnose.fault_plan import ANY_TIME, LAST_STEP, MOMENTS, START_UP

__all__ = ["Stretch", "Target", "Timeline"]

Place = tuple[int, int, int]
"""Epoch, whether after its steps, step."""

_PHASES = {"tracing": "tracing", "mid-step": "training", "validation": "validation"}


@dataclass(frozen=True)
class Stretch:
    """A time without a change.

    Attributes:
        phase: as it was told.
        place: where the job was.
        saving: whether a checkpoint was being written.
        begin: when it began, in seconds by the clock of `time.monotonic`.
        end: when the next one did; None for the last.
    """

    phase: str
    place: Place
    saving: bool
    begin: float
    end: float | None = None

    def is_in(self, moment: str) -> bool:
        """Whether it is of a moment of `MOMENTS`, start-up and the last step apart."""
        return self.saving if moment == "mid-save" else self.phase == _PHASES.get(moment)

    @property
    def name(self) -> str:
        """The phase as chaos names it."""
        if self.saving:
            return "mid-save"
        return next((name for name, told in _PHASES.items() if told == self.phase), "in between")


@dataclass(frozen=True)
class Target:
    """When to strike.

    Attributes:
        moment: in which phase.
        place: from where on; None at start-up and at any time.
        delay: seconds after it is there.
        before: how many stretches of that moment come first, in the same place.
    """

    moment: str
    place: Place | None
    delay: float
    before: int = 0

    def begun(self, seen: Timeline) -> float | None:
        """When the job has come there; None where it has not.

        Args:
            seen: of the run that is to be struck, until now.
        """
        if self.place is None:
            return None
        wanted = _kind_of(self.moment)
        first = self.before
        for one in seen.stretches:
            if one.place[:2] > self.place[:2] and self.moment != "mid-save":
                return one.begin  # it has passed without
            if one.is_in(wanted) and one.place >= self.place:
                if not first or one.place > self.place:
                    return one.begin
                first -= 1
        return None


@dataclass(frozen=True)
class Timeline:
    """The phases of one run.

    Attributes:
        stretches: in order.
    """

    stretches: tuple[Stretch, ...] = ()

    @classmethod
    def read(cls, folder: Path) -> Timeline:
        """Reads what the chief of a job has told, as far as it has come.

        Args:
            folder: which TFDIST_PHASES named.
        """
        for name in ("chief-0", "worker-0", "alone"):
            try:
                text = (folder / name).read_text()
            except OSError:
                continue
            return cls.of(text)
        return cls()

    @classmethod
    @functools.lru_cache(maxsize=2)  # it is read again and again, and seldom longer
    def of(cls, text: str) -> Timeline:
        """Reads the lines of one task; the last may not be whole yet."""
        lines = [line.split() for line in text[: text.rfind("\n") + 1].splitlines()]
        found: list[Stretch] = []
        for number, (begin, phase, epoch, stage, step, saving) in enumerate(lines):
            end = float(lines[number + 1][0]) if number + 1 < len(lines) else None
            place = (int(epoch), int(stage), int(step))
            found.append(Stretch(phase, place, saving == "1", float(begin), end))
        return cls(tuple(found))

    @property
    def began(self) -> float | None:
        """When the start-up was over; None where it is not."""
        return self.stretches[0].begin if self.stretches else None

    def now(self, moment: str) -> str:
        """The moment in which it is, or was at its end; several can be at once.

        Args:
            moment: the one that is named where it is one of them.
        """
        if not self.stretches:
            return START_UP
        last = self.stretches[-1]
        return moment if last.is_in(_kind_of(moment)) else last.name

    def moments(self) -> tuple[str, ...]:
        """Those of `MOMENTS` that there were; only any time, where nothing was told."""
        if not self.stretches:
            return (ANY_TIME,)
        return tuple(one for one in MOMENTS if one == START_UP or self._of(one))

    def target(self, moment: str, when: float, started: float, ended: float) -> Target:
        """Chooses an instant of a moment.

        Args:
            moment: one of `moments`.
            when: which part of all the time in it, from 0 to 1.
            started: when this run was started, by the clock of `time.monotonic`.
            ended: when it had ended.
        """
        if moment in (START_UP, ANY_TIME):
            end = ended if self.began is None or moment == ANY_TIME else self.began
            return Target(moment, None, when * (end - started))
        of_moment = self._of(moment)
        left = when * sum(_length(one) for one in of_moment)
        for number, one in enumerate(of_moment):
            if left <= _length(one):
                before = sum(other.place == one.place for other in of_moment[:number])
                return Target(moment, one.place, left, 0 if moment == LAST_STEP else before)
            left -= _length(one)
        return Target(moment, of_moment[-1].place, 0.0)

    def _of(self, moment: str) -> Sequence[Stretch]:
        if moment == LAST_STEP:
            return [one for one in self.stretches if one.is_in("mid-step")][-1:]
        return [one for one in self.stretches if one.is_in(moment)]


def _kind_of(moment: str) -> str:
    return "mid-step" if moment == LAST_STEP else moment


def _length(stretch: Stretch) -> float:
    return 0.0 if stretch.end is None else stretch.end - stretch.begin
