"""Parameter servers on paper, event by event."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdist.scaling.hierarchy import Hierarchy
from tfdist.scaling.link import Link
from tfdist.scaling.parameter_servers import ParameterServers
from tfdist.scaling.server_job import ServerJob
from tfdist.scaling.step_work import StepWork

few = settings(max_examples=60, deadline=None)
jobs = st.builds(
    ServerJob,
    servers=st.integers(1, 6),
    size=st.floats(0, 1e8),
    link=st.builds(Link, st.floats(0, 1e-3), st.floats(1e8, 1e10)),
    update=st.floats(0, 0.1),
    every=st.integers(1, 4),
    staleness=st.one_of(st.none(), st.integers(0, 5)),
    hidden=st.floats(0, 1),
)
paces = st.lists(st.floats(1e-3, 1.0), min_size=1, max_size=12)


def job(**given: Any) -> ServerJob:
    return ServerJob(**{"servers": 1, "size": 1e8, "link": Link(0, 1e9), **given})


def test_one_worker_fetches_computes_and_sends() -> None:
    run = job(link=Link(1e-3, 1e9), update=0.01).run([0.5], rounds=10)
    assert run.steps == (10,)
    assert run.seconds == pytest.approx(10 * (4e-3 + 0.1 + 0.5 + 0.1 + 0.01))


def test_more_servers_do_not_widen_a_workers_own_link() -> None:
    assert job(servers=4).run([0.5], 10).seconds == pytest.approx(10 * 0.7)
    assert job(servers=4, update=0.4).run([0.5], 10).seconds == pytest.approx(10 * 0.8)


def test_two_in_step_share_the_server() -> None:
    # The second has its weights 0.1 s after the first, computes, and sends while nobody else does.
    run = job(staleness=0).run([0.5, 0.5], 10)
    assert run.steps == (10, 10)
    assert run.seconds == pytest.approx(10 * (0.1 + 0.1 + 0.5 + 0.1))


def test_a_full_server_takes_what_its_link_takes() -> None:
    for staleness in (None, 0):
        run = job(staleness=staleness).run([0.0] * 20, 20)
        assert run.steps_a_second <= job().bound() == pytest.approx(10)
    assert job().run([0.0] * 20, 20).steps_a_second == pytest.approx(10, rel=0.02)
    assert job(fullest=1.0, servers=4).bound() == pytest.approx(10)
    assert job(servers=4, update=4.0).bound() == pytest.approx(1)
    assert job(size=0.0).bound() == float("inf")


def test_messages_every_few_steps_relieve_the_server() -> None:
    assert job(every=4).run([0.0] * 20, 20).steps_a_second == pytest.approx(40, rel=0.02)
    run = job(every=4).run([0.5], 10)
    assert run.steps == (40,)
    assert run.seconds == pytest.approx(10 * (0.2 + 4 * 0.5))


def test_gradients_that_travel_early_are_there_when_the_step_is_over() -> None:
    assert job(hidden=0.5).run([0.5], 10).seconds == pytest.approx(10 * (0.1 + 0.5))
    assert job(hidden=0.5).run([0.1], 10).seconds == pytest.approx(10 * (0.1 + 0.05 + 0.1))
    late = job(hidden=0.5, every=2, link=Link(1e-3, 1e9)).run([0.5], 10)
    assert late.seconds == pytest.approx(10 * (4e-3 + 0.1 + 2 * 0.5))


@few
@given(jobs, paces)
def test_no_job_is_faster_than_its_servers_and_its_workers(it: ServerJob, own: list[float]) -> None:
    run = it.run(own)
    assert run.steps_a_second <= it.bound() * (1 + 1e-9)
    assert run.steps_a_second <= sum(1 / pace for pace in own) * (1 + 1e-9)
    assert sum(run.steps) == 32 * it.every * len(own)


@few
@given(jobs, paces)
def test_nobody_is_further_ahead_than_it_may(it: ServerJob, own: list[float]) -> None:
    run = it.run(own)
    if it.staleness is not None:
        assert max(run.steps) - min(run.steps) <= it.every * (it.staleness + 1)
    if it.staleness == 0:
        assert len(set(run.steps)) == 1


@few
@given(st.integers(2, 12), st.floats(1.5, 8), st.floats(0, 1e8), st.integers(1, 4))
def test_a_straggler_hurts_those_in_step_more(
    n: int, slow: float, size: float, servers: int
) -> None:
    kept = {}
    for staleness in (None, 0):
        it = ServerJob(servers, size, Link(1e-4, 1e9), staleness=staleness)
        even, uneven = it.run([0.2] * n), it.run([0.2 * slow] + [0.2] * (n - 1))
        kept[staleness] = uneven.steps_a_second / even.steps_a_second
    assert kept[None] >= kept[0] - 0.02


def test_a_straggler_takes_what_it_does_less_from_those_that_do_not_wait() -> None:
    own = [0.8] + [0.2] * 7
    free, waiting = (job(size=0.0, staleness=s).run(own, 64).steps_a_second for s in (None, 0))
    assert free == pytest.approx(7.25 / 0.2, rel=0.02)
    assert waiting == pytest.approx(8 / 0.8)
    some = job(size=0.0, staleness=8).run(own, 64).steps_a_second
    assert waiting < some < free


@few
@given(st.integers(1, 12), st.integers(1, 6), st.floats(0, 1e8))
def test_faster_links_are_never_slower_in_step(n: int, servers: int, size: float) -> None:
    found = [
        ServerJob(servers, size, Link(1e-4, beta), staleness=0).run([0.1] * n).seconds
        for beta in (1e10, 1e9, 1e8)
    ]
    assert found == sorted(found)


def alone(link: Link) -> Hierarchy:
    """Hosts of one task each."""
    return Hierarchy(link, Link(0, 1e12), 1)


def test_a_way_has_a_server_for_some_workers() -> None:
    way = ParameterServers(alone(Link(0, 1e9)), workers_each=2)
    work = StepWork(compute=0.4, size=1e8, update=0.1, other=0.1)
    assert [way.servers(n) for n in (1, 2, 5, 8)] == [1, 1, 2, 4]
    assert way.job(work, 4) == ServerJob(2, 1e8, Link(0, 1e9), 0.1)
    assert way.seconds(work, 1) == pytest.approx(0.1 + 0.5 + 0.1 + 0.1)
    slow = ParameterServers(alone(Link(0, 1e9)), staleness=0, slow_by=3.0)
    assert slow.seconds(work, 1) == pytest.approx(way.seconds(work, 1))
    assert slow.seconds(work, 4) > 3 * 0.5


def test_the_tasks_of_a_host_share_its_link() -> None:
    between, within = Link(1e-4, 1e9), Link(1e-5, 4e8)
    way = ParameterServers(Hierarchy(between, within, 4), workers_each=2)
    assert way.link(2) == within  # two workers and their server are on one host
    assert way.link(4) == Link(1e-4, 2.5e8)  # with their two servers on two
    assert way.job(StepWork(0.1, 1e8), 64).link == Link(1e-4, 2.5e8)
    slow_within = ParameterServers(Hierarchy(between, Link(1e-5, 1e8), 4))
    assert slow_within.link(64) == Link(1e-4, 1e8)
    assert ParameterServers(Hierarchy(between, within, 1)).link(64) == between


@few
@given(st.integers(1, 40), st.integers(1, 8), st.floats(0, 0.1), st.integers(1, 4))
def test_workers_and_servers_together_do_no_more_than_as_many_workers_alone(
    n: int, tasks: int, update: float, each: int
) -> None:
    free = Link(0, 1e15)
    way = ParameterServers(Hierarchy(free, free, tasks), each)
    work = StepWork(compute=0.01, size=1e6, update=update)
    assert n * work.alone <= (n + way.servers(n)) * way.seconds(work, n) * (1 + 1e-6)


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ({"servers": 0}, r"servers=0: give a number of at least 1"),
        ({"every": 0}, r"every=0: give a number of at least 1"),
        ({"size": -1.0}, r"size=-1.0: give a number of at least 0"),
        ({"update": float("nan")}, r"update=nan"),
        ({"staleness": -1}, r"staleness=-1: give messages, at least 0, or None"),
        ({"hidden": 2.0}, r"hidden=2.0: give a share of the computing, 0 to 1"),
        ({"servers": 4, "fullest": 0.2}, r"fullest=0.2: give a share of the bytes, 0.25 to 1"),
    ],
)
def test_jobs_that_cannot_be_are_refused(given_: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        job(**given_)


def test_runs_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="give seconds of a step for each worker"):
        job().run([])
    with pytest.raises(ValueError, match="paces"):
        job().run([-1.0])
    with pytest.raises(ValueError, match="rounds=0"):
        job().run([1.0], 0)
    with pytest.raises(ValueError, match="workers_each=0"):
        ParameterServers(alone(Link(0, 1)), workers_each=0)
    with pytest.raises(ValueError, match="staleness=-1"):
        ParameterServers(alone(Link(0, 1)), staleness=-1)


def test_backup_workers_take_what_was_measured() -> None:
    """The committed benchmark: 8 workers that sleep 0.1 s for each of 56 rows of an update."""
    file = Path(__file__).parents[1] / "benchmarks" / "results" / "backup_workers.json"
    turns = json.loads(file.read_text())["turns"]
    rest = statistics.median(turns["nobody, None"]) - 0.7
    work = StepWork(compute=0.7, size=0.0, other=rest)
    free = Hierarchy(Link(0, 1e9), Link(0, 1e9), 8)
    for backups in (1, 2):
        way = ParameterServers(free, backups=backups, slow_by=4.0)
        measured = [*turns[f"nobody, {backups}"], *turns[f"worker, {backups}"]]
        assert way.seconds(work, 8) == pytest.approx(statistics.median(measured), rel=0.06)


def test_an_update_in_step_is_made_once() -> None:
    one = Hierarchy(Link(0, 1e9), Link(0, 1e9), 8)
    way = ParameterServers(one, workers_each=8, backups=1)
    found = way.seconds(StepWork(compute=0.7, size=0.0, update=0.3), 8)
    assert found == pytest.approx(0.8 + 0.3, rel=0.01)
    assert way.seconds(StepWork(compute=0.7, size=0.0), 1) == pytest.approx(0.7)
    with pytest.raises(ValueError, match="backups=-1: give workers"):
        ParameterServers(one, backups=-1)
