"""Many tasks meet: what each costs the chief does not depend on how many there are."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmarks.many_tasks import measure
from tests.rendezvous.meeting import a_cluster, a_handshake, come
from tfdist.cluster import Cluster, Task
from tfdist.errors import RendezvousMismatch, RendezvousTimeout
from tfdist.machine.ports import Reservation
from tfdist.rendezvous.absent import Absent
from tfdist.rendezvous.handshake import Handshake

pytestmark = pytest.mark.timeout(120)

MANY = Cluster({"worker": tuple(f"10.0.{n >> 8}.{n & 255}:1" for n in range(4000))})


def test_four_hundred_meet() -> None:
    """It took 19 s, and 4,400 messages to the chief, when the work grew with their square."""
    found = measure(400, 60.0)
    assert found["outcomes"] == [["met", 400]]
    assert found["to_chief"] <= 5 * 400


@pytest.mark.thorough
def test_four_thousand_meet() -> None:
    found = measure(4000, 100.0)
    assert dict(found["outcomes"])["met"] == 4000
    assert found["seconds"] < 60


def test_one_that_is_missing_of_many_is_named_in_one_line_by_the_chief_alone() -> None:
    found = measure(300, 3.5, missing=True)
    missing = "worker:299 (10.0.1.43:2222)"
    ((said, count),) = found["outcomes"]
    assert count == 299  # all say why they end
    assert said.startswith(f"RendezvousTimeout: {missing} did not come within 3.5 s (299 of 300")
    assert found["lines"] == [f"waiting for {missing}, 2 s of 3.5 s"]
    assert found["others_lines"] == 0


def test_of_many_who_are_missing_the_number_is_told_by_all_who_came() -> None:
    with Reservation(2) as free:
        at = [f"127.0.0.1:{port}" for port in free.ports]
        cluster = Cluster({"worker": (*at, *MANY.jobs["worker"][2:40])})
        two = [come(cluster, f"worker:{n}", timeout=2.6) for n in range(2)]
        texts = [one.join().failed(RendezvousTimeout) for one in two]
    first = "38 tasks: worker:2 (10.0.0.2:1), worker:3 (10.0.0.3:1), worker:4 (10.0.0.4:1), "
    for one, text in zip(two, texts, strict=True):
        assert text.startswith(first)
        assert "worker:5 (10.0.0.5:1) and 34 more did not come within 2.6 s" in text
        assert [line for line in one.log if f"waiting for {first}" in line] != []


def test_a_hello_is_as_long_for_any_number_of_tasks() -> None:
    few = Handshake("worker:1", {"worker": ("a:1", "b:1")}, "", {}, 9.0, 9.0)
    many = a_handshake(MANY, "worker:1")
    lengths = [len(json.dumps(one.to_message(whole=False))) for one in (few, many)]
    assert lengths[1] - lengths[0] < 20
    read = Handshake.from_message(many.to_message(whole=False))
    assert read is not None
    assert read.jobs == {}
    assert read.difference(many) is None
    assert not read.lacks_jobs(many)
    assert read.lacks_jobs(few)


def test_who_has_another_spec_is_asked_which_and_told_how_they_differ() -> None:
    with a_cluster(3) as cluster:
        first, second, third = cluster.jobs["worker"]
        swapped = Cluster({"worker": (first, third, second)})
        chief = come(cluster, "worker:0")
        other = come(swapped, "worker:1").join()
        said = chief.join().failed(RendezvousMismatch)
        assert "another cluster spec" in said
        assert json.dumps([first, third, second]) in said
        assert other.failed(RendezvousMismatch) == said


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 39)), max_size=120), st.integers(1, 8))
def test_the_first_who_are_absent_are_told_in_order(
    changes: list[tuple[bool, int]], most: int
) -> None:
    tasks = [Task("worker", number) for number in range(40)]
    absent = Absent(tasks)
    there = dict.fromkeys(tasks, False)
    for comes, number in changes:
        task = tasks[number]
        if comes != there[task]:
            there[task] = comes
            (absent.remove if comes else absent.add)(task)
        left = [one for one in tasks if not there[one]]
        told = absent.first(most)
        assert len(absent) == len(left)
        assert told == left[:most]
        assert all(one < other for one, other in pairwise(told))
    assert absent.named("worker:39") == tasks[39]
    assert absent.named("worker:40") is None


LIMITS = """
import resource, sys
from tfdist.machine.open_files import allow_open_files
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 500))
print(allow_open_files(400), resource.getrlimit(resource.RLIMIT_NOFILE))
print(allow_open_files(200), resource.getrlimit(resource.RLIMIT_NOFILE))
print(allow_open_files(900), resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such limits")
def test_files_for_many_connections_are_allowed_or_the_limit_is_named() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", LIMITS], capture_output=True, text=True, timeout=30, check=True
    )
    assert ran.stdout.splitlines() == [
        " (400, 500)",
        " (400, 500)",
        (
            "this process may have 500 files and connections open, and needs 900: raise the limit "
            "(ulimit -Hn 900) where it is started (500, 500)"
        ),
    ]
