"""Portions: each counts once, in one order, whoever is slow; late ones are handed out again."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdist.optimize.portion_ledger import PortionLedger, slots_for
from tfdist.optimize.portion_sums import PortionSums

Sum = Any
"""The number of a portion, or a pair of sums."""


def _of(portions: int) -> Sum:
    """The sum of portions that come in their order."""
    return _summed(list(range(portions)))


def _summed(order: list[int]) -> Sum:
    sums, slots = PortionSums(), dict[int, Sum]()
    for slot, portion in enumerate(order):
        slots[slot] = portion
        for to, other in sums.add(portion, slot):
            slots[to] = (slots[to], slots.pop(other))
    merges, last = sums.finish(len(order))
    for to, other in merges:
        slots[to] = (slots[to], slots.pop(other))
    assert list(slots) == [last]
    return slots[last]


def _leaves(one: Sum) -> list[int]:
    return [one] if isinstance(one, int) else [leaf for part in one for leaf in _leaves(part)]


@given(st.integers(1, 200), st.randoms(use_true_random=False))
def test_the_sum_is_one_whatever_the_order(portions: int, chance: random.Random) -> None:
    order = list(range(portions))
    chance.shuffle(order)
    assert _summed(order) == _of(portions)
    assert _leaves(_of(portions)) == list(range(portions))


def test_few_partial_sums_are_kept_where_one_is_late() -> None:
    sums = PortionSums()
    kept = []
    for slot, portion in enumerate(n for n in range(1000) if n != 300):
        sums.add(portion, slot)
        kept.append(len(sums))
    assert max(kept) <= 2 * 10


def test_a_sum_of_some_is_none() -> None:
    for there, portions in [([0, 2], 2), ([0, 2], 3), ([], 0), ([0, 1], 3)]:
        sums = PortionSums()
        for portion in there:
            sums.add(portion, portion)
        with pytest.raises(ValueError, match="a sum of"):
            sums.finish(portions)


class _Workers:
    """Workers, each with a speed of its own, that take what is handed out in its order.

    Args:
        ledger: that is tried.
        seconds: of each worker for a portion; infinite for one that hangs.
    """

    def __init__(self, ledger: PortionLedger, seconds: list[float]) -> None:
        self.ledger = ledger
        self.seconds = seconds
        self.now = 0.0
        self.idle = [worker for worker, _ in enumerate(seconds)]
        self.waiting: list[int] = []
        self.busy: list[tuple[float, int, int]] = []
        self.slots: dict[int, Sum] = {}
        self.counted: Counter[int] = Counter()

    def give(self, given: Any) -> None:
        self.counted[given.portion] += 1
        self.waiting.append(given.number)
        self._take()

    def _take(self) -> None:
        while self.idle and self.waiting:
            worker = self.idle.pop(0)
            entry = (self.now + self.seconds[worker], worker, self.waiting.pop(0))
            heapq.heappush(self.busy, entry)

    def wait(self, seconds: float | None) -> None:
        ends, worker, number = self.busy[0]
        if seconds is not None and ends > self.now + seconds:
            self.now += seconds
            return
        assert ends < float("inf"), "all that is left hangs"
        heapq.heappop(self.busy)
        self.now = ends
        self.idle.append(worker)
        self._take()
        given, counts = self.ledger.came(number, self.now)
        if counts:
            self.slots[given.slot] = given.portion

    def merge(self, merges: Any) -> None:
        for to, other in merges:
            self.slots[to] = (self.slots[to], self.slots.pop(other))

    def make_a_pass(self, portions: int) -> Sum:
        """Makes a pass as `WholeBatch` does."""
        ledger, given = self.ledger, 0
        ledger.begin()
        while given < portions or ledger.open:
            if ledger.wants_merges:
                self.merge(ledger.take_merges())
            while given < portions and ledger.has_room:
                self.give(ledger.begin_portion(self.now))
                given += 1
            seconds = ledger.seconds_to_copy(self.now, waits=given < portions)
            if seconds is not None and seconds <= 0:
                self.give(ledger.copy(self.now))
            else:
                self.wait(seconds)
        merges, slot = ledger.finish()
        self.merge(merges)
        found = self.slots.pop(slot)
        ledger.let_go(slot)
        assert not self.slots
        return found


def _workers(seconds: list[float], portions: int, **options: Any) -> _Workers:
    ledger = PortionLedger(len(seconds), slots_for(len(seconds), portions), **options)
    return _Workers(ledger, seconds)


@settings(deadline=None)
@given(
    st.lists(st.floats(0.5, 20.0), min_size=1, max_size=9),
    st.integers(1, 120),
    st.booleans(),
)
def test_each_portion_counts_once_in_one_order(
    seconds: list[float], portions: int, backups: bool
) -> None:
    workers = _workers(seconds, portions, backups=backups)
    for _ in range(3):
        assert workers.make_a_pass(portions) == _of(portions)
    ledger = workers.ledger
    assert sum(workers.counted.values()) == 3 * portions + ledger.copies
    assert ledger.unused + ledger.in_flight == ledger.copies
    assert backups or not ledger.copies


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(1, 60), st.integers(1, 5))
def test_workers_that_hang_hold_nothing_up(well: int, portions: int, hung: int) -> None:
    workers = _workers([1.0] * well + [float("inf")] * hung, portions)
    workers.ledger._durations.append(1.0)  # else nobody knows yet what is late
    for _ in range(3):
        assert workers.make_a_pass(portions) == _of(portions)


def test_equal_workers_are_handed_nothing_twice() -> None:
    workers = _workers([1.0] * 8, 64)
    for _ in range(5):
        workers.make_a_pass(64)
    assert workers.ledger.copies == 0
    assert workers.now == 5 * 8


@pytest.mark.parametrize("backups", [True, False])
def test_one_slow_worker_of_eight_costs_little_with_backups(backups: bool) -> None:
    portions, passes = 256, 20
    times = {}
    for slow in (1.0, 4.0):
        workers = _workers([1.0] * 7 + [slow], portions, backups=backups)
        for _ in range(passes):
            workers.make_a_pass(portions)
        times[slow] = workers.now / passes
    # Seven and a quarter workers have to do what eight have done: 10.3 % longer at least.
    assert 1.10 < times[4.0] / times[1.0] < (1.15 if backups else 1.20)


def test_a_late_portion_is_handed_out_once_more_and_the_first_result_counts() -> None:
    workers = _workers([1.0, 1.0, 1.0, 9.0], 4)
    workers.make_a_pass(4)
    assert workers.now == pytest.approx(1.25 + 1.0)
    assert (workers.ledger.copies, workers.ledger.in_flight) == (1, 1)
    workers.make_a_pass(4)
    assert workers.counted.total() == 8 + workers.ledger.copies


def test_too_few_slots_are_refused() -> None:
    for workers, slots in [(0, 9), (4, 8)]:
        with pytest.raises(ValueError, match="are needed"):
            PortionLedger(workers, slots)
