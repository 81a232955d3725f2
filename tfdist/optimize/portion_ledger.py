"""Who works on which portion of a batch: new ones for whoever is free, and backup tasks at the end.

Source: Dean et al., "Large Scale Distributed Deep Networks", 2012, section 4.2: the coordinator
"assigns each of the N model replicas a small portion of work, much smaller than 1/Nth of the total
size of a batch, and assigns replicas new portions whenever they are free"; for the slow ones at the
end of a batch it "schedules multiple copies of the outstanding portions and uses the result from
whichever model replica finishes first".

A copy is not made before the first has taken longer than portions usually do: a worker that
has one in hand is not free when the next pass begins. Workers take what is handed out in its order,
so it is known when each began, though not who has it.
"""

from __future__ import annotations

import collections
import dataclasses
import statistics

from tfdist.optimize.portion_sums import Merge, PortionSums

__all__ = ["Assignment", "PortionLedger", "slots_for"]

_AHEAD = 2  # portions for each worker: one that it works on, one that waits for it
_PATIENCE = 1.25  # times the usual duration: then a portion is late
_REMEMBERED = 63  # durations, of which the median is the usual one
_MERGES = 4  # partial sums that are added in one message
_DIGITS = 24  # of the number of portions, where nobody knows it yet


def slots_for(workers: int, portions: int | None) -> int:
    """How many slots let all workers work, and one portion be late.

    Args:
        workers: how many there are.
        portions: of a pass; None where nobody knows.
    """
    digits = _DIGITS if portions is None else portions.bit_length()
    return (_AHEAD + 1) * workers + 2 * digits + 2


@dataclasses.dataclass(frozen=True)
class Assignment:
    """A portion that was handed out.

    Attributes:
        portion: its number in the pass, from 0.
        slot: where its gradient goes.
        number: of the assignment; they only grow.
        turn: the number of the pass.
    """

    portion: int
    slot: int
    number: int
    turn: int


class PortionLedger:
    """Notes what is handed out and what has come back.

    Args:
        workers: how many take portions, at least 1.
        slots: for gradients; see `slots_for`.
        backups: whether late portions are handed out a second time.

    Attributes:
        copies: how many portions were handed out again, in all passes.
        unused: how many results came too late to be used.
    """

    def __init__(self, workers: int, slots: int, backups: bool = True) -> None:
        if workers < 1 or slots < 2 * workers + 1:
            raise ValueError(f"{slots} slots for {workers} workers: 2 * workers + 1 are needed")
        self.workers = workers
        self.copies = self.unused = 0
        self._backups = backups and workers > 1
        self._free = list(reversed(range(slots)))
        self._numbers = 0
        self._turn = 0
        self._sums = PortionSums()
        self._in_flight: dict[int, Assignment] = {}
        self._began: dict[int, float] = {}
        self._waiting: collections.deque[int] = collections.deque()
        self._durations: collections.deque[float] = collections.deque(maxlen=_REMEMBERED)
        self._merges: list[Merge] = []
        self._next = 0
        self._open: dict[int, list[int]] = {}  # portions to the numbers of their copies

    # ------------------------------------------------------------ passes

    def begin(self) -> None:
        """Begins a pass over the data; what is in flight of others counts no more."""
        self._turn += 1
        self._next = 0
        self._open.clear()

    @property
    def in_flight(self) -> int:
        """How many assignments have not come back, those of earlier passes among them."""
        return len(self._in_flight)

    @property
    def open(self) -> list[int]:
        """The portions of this pass that were handed out and are not there yet."""
        return list(self._open)

    def finish(self) -> tuple[list[Merge], int]:
        """Ends a pass; returns what is to be added, and the slot of the sum, until `let_go`.

        Raises:
            ValueError: something is missing.
        """
        merges, slot = self._sums.finish(self._next)
        self._merges.extend(merges)
        return self.take_merges(), slot

    @property
    def wants_merges(self) -> bool:
        """Whether partial sums should be added now, before anything else is handed out."""
        few = len(self._free) <= self.workers
        return len(self._merges) >= _MERGES or (few and bool(self._merges))

    def take_merges(self) -> list[Merge]:
        """Returns what is to be added now, in this order; it is told once."""
        merges, self._merges = self._merges, []
        self._free.extend(right for _, right in merges)
        return merges

    def let_go(self, slot: int) -> None:
        """Notes that the sum has been taken out of its slot."""
        self._free.append(slot)

    # ------------------------------------------------------------ handing out

    @property
    def has_room(self) -> bool:
        """Whether a new portion may be handed out."""
        there = len(self._free) > self.workers  # the rest is for copies
        return there and self.in_flight < _AHEAD * self.workers

    def begin_portion(self, now: float) -> Assignment:
        """Hands out the next portion of the pass; `has_room`.

        Args:
            now: in seconds.
        """
        self._next += 1
        return self._hand_out(self._next - 1, now)

    def seconds_to_copy(self, now: float, waits: bool) -> float | None:
        """When somebody free should begin a copy, where no new portion is handed out.

        Args:
            now: in seconds.
            waits: whether there are new portions, which wait for a slot.

        Returns:
            Seconds from now, 0 for at once; None where there is none to make now.
        """
        late = self._latest()
        if late is None:
            return None
        if waits:
            return 0.0  # slots are free once this one is there
        usual = statistics.median(self._durations)
        began = max(self._began.get(number, now) for number in self._open[late])
        return max(0.0, began + _PATIENCE * usual - now)

    def copy(self, now: float) -> Assignment:
        """Hands out a late portion again; see `seconds_to_copy`."""
        late = self._latest()
        assert late is not None
        self.copies += 1
        return self._hand_out(late, now)

    def _latest(self) -> int | None:
        """The portion to be copied next: of those with the fewest copies, the first."""
        is_free = self._backups and self.in_flight < self.workers
        if not (is_free and self._free and self._durations):
            return None
        few = [p for p, numbers in self._open.items() if len(numbers) < self.workers]
        return min(few, key=lambda portion: (len(self._open[portion]), portion), default=None)

    def _hand_out(self, portion: int, now: float) -> Assignment:
        self._numbers += 1
        number = self._numbers
        given = Assignment(portion, self._free.pop(), number, self._turn)
        if len(self._in_flight) < self.workers:
            self._began[number] = now
        else:
            self._waiting.append(number)
        self._in_flight[number] = given
        self._open.setdefault(portion, []).append(number)
        return given

    # ------------------------------------------------------------ coming back

    def came(self, number: int, now: float) -> tuple[Assignment, bool]:
        """Notes that an assignment has come back.

        Args:
            number: of it.
            now: in seconds.

        Returns:
            The assignment, and whether its result counts: another copy may have been there before.
        """
        given = self._in_flight.pop(number)
        if number in self._began:
            self._durations.append(now - self._began.pop(number))
            if self._waiting:
                self._began[self._waiting.popleft()] = now
        else:  # workers do not take them quite in their order
            self._waiting.remove(number)
        if given.turn != self._turn or given.portion not in self._open:
            self._free.append(given.slot)
            self.unused += 1
            return given, False
        del self._open[given.portion]
        self._merges.extend(self._sums.add(given.portion, given.slot))
        return given, True
