"""Late parts are handed out twice, slow workers are left out, and come back once they are fast."""

from __future__ import annotations

import heapq
import random

import pytest

from tfdist.training.parameter_server.backup_tasks import NO_PART, BackupTasks


def _warm(tasks: BackupTasks, seconds: dict[int, float], updates: int = 4) -> float:
    """Makes some updates whose parts each worker takes so long for; returns the time after."""
    now = 0.0
    for _ in range(updates):
        tasks.begin(range(len(seconds)), now)
        for worker, took in sorted(seconds.items(), key=lambda entry: entry[1]):
            assert tasks.came(worker, worker, took, now + took)
        now += max(seconds.values())
    return now


def test_the_first_of_two_counts() -> None:
    tasks = BackupTasks(3, 0)
    tasks.begin(range(2), 0.0)
    came = [tasks.came(1, 0, 0.5, 0.5), tasks.came(1, 2, 0.6, 0.6), tasks.left]
    came += [tasks.came(0, 1, 0.7, 0.7), tasks.left]
    assert came == [True, False, True, True, False]
    tasks.begin(range(2), 1.0)
    assert not tasks.came(NO_PART, 1, 9.0, 9.0)
    assert tasks.left


def test_a_part_is_late_after_one_and_a_half_times_the_usual() -> None:
    tasks = BackupTasks(3, 0)
    assert tasks.late(1e9) == []  # nobody knows what is usual
    now = _warm(tasks, {0: 1.0, 1: 1.0, 2: 1.0})
    tasks.begin(range(3), now)
    assert tasks.came(0, 0, 1.0, now + 1.0)
    assert tasks.late(now + 1.5) == []
    assert tasks.late(now + 1.51) == [1]  # one worker is free, not two
    assert tasks.late(now + 1.51) == []
    assert tasks.twice == 1
    assert tasks.came(1, 0, 1.0, now + 2.5)
    assert tasks.late(now + 2.51) == [2]
    assert tasks.came(2, 2, 3.0, now + 3.0)
    assert not tasks.came(NO_PART, 1, 3.1, now + 3.1)


def test_a_part_is_waited_for_a_tenth_of_a_second_at_least() -> None:
    tasks = BackupTasks(2, 0)
    now = _warm(tasks, {0: 0.001, 1: 0.001})
    tasks.begin(range(2), now)
    assert tasks.came(0, 0, 0.001, now + 0.001)
    assert tasks.late(now + 0.1) == []
    assert tasks.late(now + 0.101) == [1]
    assert tasks.late(now + 0.15) == []  # it has just been handed out again
    assert not tasks.came(NO_PART, 0, 0.1, now + 0.15)
    assert tasks.late(now + 0.202) == [1]


def test_a_part_is_not_late_while_whoever_gets_it_is_busy_with_another_update() -> None:
    tasks = BackupTasks(2, 0)
    now = _warm(tasks, {0: 1.0, 1: 1.0})
    tasks.begin(range(2), now)
    assert tasks.came(0, 0, 1.0, now + 1)
    assert tasks.late(now + 2) == [1]
    assert tasks.came(1, 1, 2.1, now + 2.1)  # worker 0 goes on with its copy
    tasks.begin(range(2), now + 2.1)
    assert tasks.late(now + 2.9) == []
    assert not tasks.came(NO_PART, 0, 1.0, now + 3)
    assert tasks.came(0, 1, 1.0, now + 3.1)
    assert tasks.late(now + 4.4) == []
    assert tasks.late(now + 4.6) == [1]


@pytest.mark.parametrize("spare", [0, 1, 2])
def test_as_many_slow_workers_are_left_out_as_may_be(spare: int) -> None:
    tasks = BackupTasks(5, spare)
    _warm(tasks, {0: 1.0, 1: 4.0, 2: 1.1, 3: 3.0, 4: 0.9})
    assert tasks.left_out == [False, spare > 0, False, spare > 1, False]
    assert ("worker:1 is slow (3.8 times as long" in tasks.describe()) == (spare > 0)


def test_who_is_hardly_slower_is_not_left_out() -> None:
    tasks = BackupTasks(3, 1)
    _warm(tasks, {0: 0.01, 1: 0.029, 2: 0.01})  # three times, but by a few milliseconds
    assert tasks.left_out == [False] * 3
    tasks = BackupTasks(3, 1)
    _warm(tasks, {0: 1.0, 1: 1.5, 2: 1.0})
    assert tasks.left_out == [False] * 3
    assert tasks.describe() == ""


def test_who_takes_a_little_more_than_one_and_a_half_times_as_long_is_slow() -> None:
    tasks = BackupTasks(3, 1)
    _warm(tasks, {0: 1.0, 1: 1.6, 2: 1.0})
    assert tasks.left_out == [False, True, False]


def test_a_worker_that_is_gone_is_a_spare_one() -> None:
    """So a slow one is needed then; of one that comes back nobody knows how fast it is."""
    tasks = BackupTasks(3, 1)
    now = _warm(tasks, {0: 1.0, 1: 4.0, 2: 1.0})
    tasks.gone([2])
    tasks.begin(range(3), now)
    assert tasks.left_out == [False] * 3
    assert tasks.came(0, 0, 1.0, now + 1)
    assert tasks.came(1, 0, 1.0, now + 2)
    assert tasks.late(now + 2.1) == []  # the last part was begun at 1, when one of two was free
    assert tasks.late(now + 9) == [2]
    tasks = BackupTasks(3, 1)
    _warm(tasks, {0: 1.0, 1: 4.0, 2: 1.0})
    tasks.gone([1])
    tasks.gone([])
    tasks.begin(range(2), 0.0)
    assert tasks.left_out == [False] * 3


def test_a_slow_worker_is_asked_in_every_eighth_update() -> None:
    tasks = BackupTasks(3, 1)
    now = _warm(tasks, {0: 1.0, 1: 4.0, 2: 1.0}, 4)
    asked = []
    for update in range(5, 25):
        tasks.begin(range(2), now)
        if tasks.to_probe() is not None:
            asked.append(update)
            assert not tasks.came(NO_PART, 1, 4.0, now)
        for part, worker in enumerate((0, 2)):
            assert tasks.came(part, worker, 1.0, now + 1)
        now += 1
    assert asked == [8, 16, 24]


def test_the_first_part_of_a_worker_does_not_count_as_it_makes_all_ready() -> None:
    tasks = BackupTasks(3, 1)
    _warm(tasks, {0: 1.0, 1: 9.0, 2: 1.0}, 1)
    assert tasks.left_out == [False] * 3


def test_what_was_declined_goes_to_the_next_who_is_free() -> None:
    tasks = BackupTasks(3, 1)
    now = _warm(tasks, {0: 1.0, 1: 4.0, 2: 1.0})
    tasks.begin(range(2), now)
    tasks.declined(0, now)
    assert tasks.again() == [0]
    assert tasks.again() == []
    tasks.declined(0, now)
    tasks.begin(range(2), now)  # under way: part 1 of before, and two
    tasks.declined(1, now)
    assert tasks.again() == []  # the others are busy
    assert tasks.came(0, 0, 1.0, now + 1)
    assert tasks.again() == [1]


def test_a_part_that_nobody_takes_goes_to_the_slow_one_when_it_is_late() -> None:
    tasks = BackupTasks(2, 1)
    now = _warm(tasks, {0: 1.0, 1: 4.0})
    tasks.begin([0], now)
    tasks.declined(0, now)
    assert tasks.again() == [0]
    tasks.declined(0, now)
    assert tasks.late(now + 1) == []
    assert tasks.late(now + 10) == [0]
    assert tasks.twice == 0  # nobody else has it
    assert tasks.again() == []


def test_who_is_left_out_is_asked_now_and_then() -> None:
    tasks = BackupTasks(3, 1)
    now = _warm(tasks, {0: 1.0, 1: 4.0, 2: 1.0})
    probes = 0
    for _ in range(24):
        tasks.begin(range(2), now)
        if (part := tasks.to_probe()) is not None:
            assert part == 0
            assert tasks.to_probe() is None  # all three are busy
            probes += 1
            tasks.came(NO_PART, 1, 1.0, now + 1)
        for part, worker in ((0, 0), (1, 2)):
            assert tasks.came(part, worker, 1.0, now + 1)
        now += 1
    assert tasks.left_out == [False] * 3
    assert probes == 2  # of three that count two are fast


def test_what_will_never_come_is_forgotten() -> None:
    tasks = BackupTasks(1, 0)
    tasks.begin([0], 0.0)
    tasks.forget()
    assert not tasks.left
    tasks.begin([0], 1.0)
    assert tasks.came(0, 0, 1.0, 2.0)
    tasks.begin([0], 2.0)
    tasks.declined(0, 2.0)
    assert tasks.again() == [0]


@pytest.mark.parametrize("spare", [0, 1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_every_update_ends_whoever_is_slow_and_whoever_takes_a_part_first(
    spare: int, seed: int
) -> None:
    chance, workers = random.Random(seed), 6
    tasks, now = BackupTasks(workers, spare), 0.0
    busy: list[tuple[float, int, int, int, float]] = []
    waiting: list[tuple[int, int, list[bool]]] = []
    free = set(range(workers))
    for update in range(30):
        parts = workers - spare
        tasks.begin(range(parts), now)
        waiting += [(update, part, tasks.left_out) for part in range(parts)]
        while tasks.left:
            while waiting and free:
                number, part, out = waiting.pop(0)
                worker = chance.choice(sorted(free))
                if out[worker]:
                    tasks.declined(part if number == update else NO_PART, now)
                else:
                    free.remove(worker)
                    took = 1.0 if worker else chance.choice([1.0, 40.0])
                    heapq.heappush(busy, (now + took, worker, number, part, took))
                waiting += [(update, one, tasks.left_out) for one in tasks.again()]
            now += 0.25
            while busy and busy[0][0] <= now:
                _, worker, number, part, took = heapq.heappop(busy)
                free.add(worker)
                tasks.came(part if number == update else NO_PART, worker, took, now)
            waiting += [(update, one, tasks.left_out) for one in tasks.again()]
            waiting += [(update, one, [False] * workers) for one in tasks.late(now)]
            assert now < 30 * 8
