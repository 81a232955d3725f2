"""Which hosts a job has, and which task runs where: pure text and numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfdist.cluster import Task
from tfdist.errors import ClusterError
from tfdist.launch.hosts.host_list import Host, hosts_in, hosts_of, parse_hosts_file
from tfdist.launch.hosts.spread import Spread

FILE = """\
# a host a line
node1 slots=4   # four workers

me@node[2-3] address=10.0.0.9
"""


def test_a_list_may_have_ranges() -> None:
    assert [host.name for host in hosts_in("a,me@b[08-10]")] == ["a", "me@b08", "me@b09", "me@b10"]


def test_a_hosts_file_has_a_host_a_line(tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_text(FILE)
    assert hosts_of(str(file)) == (
        Host("node1", 4),
        Host("me@node2", None, "10.0.0.9"),
        Host("me@node3", None, "10.0.0.9"),
    )


def test_what_is_no_file_is_a_list() -> None:
    assert hosts_of("nobody-has-such-a-file") == (Host("nobody-has-such-a-file"),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "without a host"),
        ("a,b,a", "names the host a twice; name it once, and for several workers there"),
        ("-oProxyCommand=true", "that is no name"),
        ("a,b;reboot", "'b;reboot' that is no name"),
        ("./hosts.txt", "no hosts file './hosts.txt' here"),
    ],
)
def test_what_is_no_list_is_refused(text: str, said: str) -> None:
    with pytest.raises(ClusterError) as caught:
        hosts_of(text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a slot=2", "h, line 2: 'slot=2'; write a host, and slots=N"),
        ("a slots=0", "h, line 2: host a with slots=0"),
        ("a slots=two", "h, line 2: slots='two'"),
        ("a slots=1 slots=2", "h, line 2: 'slots=2'"),
        ("a address=b:1", "h, line 2:"),
        ("-v", "h, line 2: host '-v' that is no name"),
        ("z", "h names the host z twice"),
    ],
)
def test_a_line_that_is_none_is_named(line: str, said: str) -> None:
    with pytest.raises(ClusterError) as caught:
        parse_hosts_file(f"z\n{line}\n", "h")
    assert said in str(caught.value)


def test_a_hosts_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_bytes(b"\xff\xfe")
    with pytest.raises(ClusterError, match=r"cannot be read \(no text\)"):
        hosts_of(str(tmp_path / "hosts"))


def places(spread: Spread) -> dict[str, int]:
    return {str(task): place for task, place in spread.places.items()}


def test_there_is_a_worker_on_each_host() -> None:
    assert places(Spread.of(hosts_in("a,b"))) == {"worker:0": 0, "worker:1": 1}


def test_workers_are_spread_evenly_and_neighbours_share_a_host() -> None:
    assert list(places(Spread.of(hosts_in("a,b"), workers=5)).values()) == [0, 0, 0, 1, 1]


def test_slots_are_filled_in_order() -> None:
    hosts = [Host("a", 2), Host("b"), Host("c", 3)]
    assert list(places(Spread.of(hosts)).values()) == [0, 0, 1, 2, 2, 2]
    assert list(places(Spread.of(hosts, workers=4)).values()) == [0, 0, 1, 2]
    with pytest.raises(ClusterError, match="7 workers for 6 slots of 3 hosts; give fewer"):
        Spread.of(hosts, workers=7)


def test_the_chief_is_on_the_first_host_and_an_evaluator_beside_on_the_last() -> None:
    spread = Spread.of(hosts_in("a,b"), workers=2, ps=2, evaluator=True)
    assert places(spread) == {
        "chief:0": 0,
        "worker:0": 0,
        "worker:1": 1,
        "ps:0": 0,
        "ps:1": 1,
        "evaluator:0": 1,
    }
    assert [spread.ports_of(place) for place in (0, 1)] == [3, 2]
    cluster = spread.cluster(["10.0.0.1", "fd00::2"], [[1, 2, 3], [4, 5]])
    assert cluster.jobs["worker"] == ("10.0.0.1:2", "[fd00::2]:4")
    assert cluster.jobs["ps"] == ("10.0.0.1:3", "[fd00::2]:5")
    assert "evaluator" not in cluster.jobs
    assert spread.text() == "a: chief:0, worker:0, ps:0; b: worker:1, ps:1, evaluator:0"


@given(hosts=st.integers(1, 9), workers=st.integers(1, 40))
def test_no_host_has_two_workers_more_than_another(hosts: int, workers: int) -> None:
    spread = Spread.of([Host(f"h{n}") for n in range(hosts)], workers=workers)
    counts = [len(spread.tasks_of(place)) for place in range(hosts)]
    assert max(counts) - min(counts) <= 1
    assert [spread.places[Task("worker", n)] for n in range(workers)] == sorted(
        spread.places.values()
    )
