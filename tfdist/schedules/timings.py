"""When each slot of one real step began and ended. Pure: imports no TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tfdist.schedules.schedule import Slot

__all__ = ["Timing", "Timings"]


@dataclasses.dataclass(frozen=True)
class Timing:
    """One slot of a step.

    Attributes:
        slot: which one.
        begin: seconds after the step's first slot began.
        end: seconds, as `begin`.
        replica: whose.
    """

    slot: Slot
    begin: float
    end: float
    replica: int = 0


@dataclasses.dataclass(frozen=True)
class Timings:
    """The slots of one step, as measured.

    The clocks of different machines differ; those of the processes of one machine do not.

    Attributes:
        slots: all of them.
        tasks: the task of each stage; none where each stage has its own.
    """

    slots: tuple[Timing, ...]
    tasks: tuple[str, ...] = ()

    @property
    def stages(self) -> int:
        """The number of stages."""
        return 1 + max(timing.slot.stage for timing in self.slots)

    @property
    def rows(self) -> tuple[int, ...]:
        """The row of each stage in a picture; those of one task share their first one's."""
        stages = range(self.stages)
        return tuple(self.tasks.index(self.tasks[s]) if self.tasks else s for s in stages)

    @property
    def shared(self) -> bool:
        """Whether a task has several stages."""
        return len(set(self.rows)) < self.stages

    @property
    def seconds(self) -> float:
        """From the first slot's begin to the last slot's end."""
        return max(t.end for t in self.slots) - min(t.begin for t in self.slots)

    @property
    def bubble(self) -> float:
        """The share of all tasks' time in which they did nothing."""
        replicas = 1 + max(timing.replica for timing in self.slots)
        busy = sum(t.end - t.begin for t in self.slots)
        there = len(set(self.rows)) * replicas * self.seconds
        return max(0.0, 1 - busy / there) if there else 0.0

    @classmethod
    def planned(cls, slots: Sequence[Slot], placement: Sequence[int] = ()) -> Timings:
        """The timings of a schedule in which every slot takes one second.

        Args:
            slots: of a schedule.
            placement: the task of each stage; none where each stage has its own.
        """
        return cls(
            tuple(Timing(s, float(s.clock), float(s.clock + 1)) for s in slots),
            tuple(f"task {task}" for task in placement),
        )
