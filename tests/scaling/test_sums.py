"""Sums of gradients on paper: rings, hosts, shares."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.scaling.numbers import bandwidths, latencies, links, patient, sizes, workers
from tfdist.scaling.hierarchy import Hierarchy, HostRing
from tfdist.scaling.link import Link
from tfdist.scaling.ring import Ring
from tfdist.scaling.sharded_update import ShardedUpdate
from tfdist.scaling.step_work import StepWork

BIG = 1e8
"""Bytes that are not gathered."""


@patient
@given(workers, sizes, latencies, bandwidths, bandwidths)
def test_more_bandwidth_is_never_slower(n: int, b: float, a: float, x: float, y: float) -> None:
    slow, fast = sorted((x, y))
    assert Ring(Link(a, fast)).seconds(n, b) <= Ring(Link(a, slow)).seconds(n, b)
    here = Link(a, fast)
    between = [Hierarchy(Link(a, beta), here, 4).seconds(n, b) for beta in (fast, slow)]
    assert between[0] <= between[1]


@patient
@given(workers, st.floats(1e-6, 1e-2))
def test_the_latency_of_a_ring_grows_with_its_messages(n: int, latency: float) -> None:
    swift = Link(latency, 1e30)
    assert Ring(swift).seconds(n, BIG) == pytest.approx(2 * (n - 1) * latency)
    assert Ring(swift).messages(n, BIG) == 2 * (n - 1)


@patient
@given(workers)
def test_the_bytes_of_a_ring_stay_below_twice_the_gradients(n: int) -> None:
    assert Ring(Link(0, 1)).sent(n, BIG) == pytest.approx(2 * BIG * (n - 1) / n)


def test_few_bytes_are_gathered_in_half_the_messages() -> None:
    ring = Ring(Link(1e-4, 1e9))
    assert (ring.messages(8, 8e3), ring.sent(8, 8e3)) == (7, 7 * 8e3)
    assert (ring.messages(8, 1e5), ring.sent(8, 1e5)) == (14, 14 / 8 * 1e5)
    assert (ring.messages(1, 8e3), ring.sent(1, 8e3)) == (0, 0)


@patient
@given(workers, sizes, links, links)
def test_one_task_a_host_is_the_ring(n: int, size: float, between: Link, within: Link) -> None:
    alone = Hierarchy(between, within, 1)
    assert alone.seconds(n, size) == Ring(between).seconds(n, size)
    if n > 1:
        assert HostRing(alone).hop(n) == between


@patient
@given(workers, sizes, links, links)
def test_one_host_is_the_ring_within_it(n: int, size: float, between: Link, within: Link) -> None:
    assert Hierarchy(between, within, n).seconds(n, size) == Ring(within).seconds(n, size)


def test_two_hosts_of_four_sum_within_and_between() -> None:
    found = Hierarchy(Link(1e-3, 1e9), Link(1e-5, 1e10), 4).seconds(8, BIG)
    within = 6 * 1e-5 + 6 / 4 * BIG / 1e10
    assert found == pytest.approx(within + 2 * 1e-3 + BIG / 1e9)


@patient
@given(st.integers(2, 128), st.integers(2, 8))
def test_hosts_save_latency_where_it_is_between_them(hosts: int, tasks: int) -> None:
    both = Hierarchy(Link(1e-3, 1e10), Link(1e-6, 1e10), tasks)
    n = hosts * tasks
    assert both.seconds(n, BIG) < HostRing(both).seconds(n, BIG) + 2 * BIG / 1e10
    saved = 2 * (n - hosts) * 1e-3 - 2 * (tasks - 1) * 1e-6
    more = BIG / 1e10 * ((2 - 2 / tasks) + (2 - 2 / hosts) - (2 - 2 / n))
    assert HostRing(both).seconds(n, BIG) - both.seconds(n, BIG) == pytest.approx(saved - more)


def test_the_last_host_may_have_fewer() -> None:
    both = Hierarchy(Link(1e-3, 1e9), Link(1e-5, 1e10), 4)
    assert [both.hosts(n) for n in (1, 4, 5, 8, 9)] == [1, 1, 2, 2, 3]
    assert both.seconds(5, BIG) == both.seconds(8, BIG)


def test_the_slowest_hop_sets_the_pace_of_one_ring() -> None:
    both = Hierarchy(Link(1e-3, 1e9), Link(1e-2, 1e8), 4)
    assert HostRing(both).hop(5) == Link(1e-2, 1e8)
    assert HostRing(both).hop(4) == Link(1e-2, 1e8)
    assert HostRing(Hierarchy(Link(1e-2, 1e8), Link(1e-3, 1e9), 4)).hop(4) == Link(1e-3, 1e9)


@patient
@given(workers, links)
def test_shares_send_the_bytes_of_the_ring(n: int, link: Link) -> None:
    assert ShardedUpdate(Ring(link)).sent(n, BIG) == pytest.approx(Ring(link).sent(n, BIG))
    work = StepWork(compute=0.0, size=BIG)
    seconds = ShardedUpdate(Ring(link)).seconds(work, n)
    assert seconds == pytest.approx(Ring(link).seconds(n, BIG))


@patient
@given(workers, links)
def test_shares_save_all_of_the_update_but_ones_own(n: int, link: Link) -> None:
    way = ShardedUpdate(Ring(link))
    idle, busy = (StepWork(compute=1.0, size=BIG, update=u) for u in (0.0, 2.0))
    assert way.seconds(busy, n) - way.seconds(idle, n) == pytest.approx(2.0 / n)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Link(-1e-3, 1e9), r"latency=-0.001: give seconds, at least 0"),
        (lambda: Link(0, 0), r"bandwidth=0: give bytes a second, above 0"),
        (lambda: Link(0, float("nan")), r"bandwidth=nan"),
        (lambda: Hierarchy(Link(0, 1), Link(0, 1), 0), r"tasks=0: give a number of at least 1"),
        (lambda: Ring(Link(0, 1)).seconds(0, 1), r"workers=0: give a number of at least 1"),
        (lambda: Ring(Link(0, 1)).seconds(2, -1), r"size=-1: give bytes, at least 0"),
        (lambda: ShardedUpdate(Ring(Link(0, 1))).sent(0, 1), r"workers=0"),
        (lambda: StepWork(1.0, -1.0), r"size=-1.0: give bytes, at least 0"),
        (lambda: StepWork(float("inf"), 1.0), r"compute=inf: give seconds, at least 0"),
    ],
)
def test_numbers_that_cannot_be_are_refused(make: object, said: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=said):
        make()
