"""What `tfdist bench` tells of other ways to train."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from tests.bench.test_report import MEASURED, SIZES, times
from tests.figures.measured_points import BENCH
from tfdist.bench.bench_command import bench_parser
from tfdist.bench.measured import JobTimes, Measured
from tfdist.bench.model import Network
from tfdist.bench.other_ways import Hosts, efficiency, ways
from tfdist.bench.report import PREDICTED, report
from tfdist.errors import ClusterError
from tfdist.scaling.link import Link


def with_last(**changed: Any) -> Measured:
    """MEASURED, whose workers of the larger job have measured something else."""
    one, two = MEASURED.jobs
    each = [dataclasses.replace(worker, **changed) for worker in two.each]
    return Measured("train.py", [one, JobTimes(2, each)])


def test_the_ring_is_what_was_measured_and_goes_on_from_there() -> None:
    ring = ways(MEASURED, Hosts())["ring"]
    for workers in (2, *PREDICTED):
        seconds, share = MEASURED.predicted(workers)
        assert ring.seconds(MEASURED.work, workers) == pytest.approx(seconds)
        assert MEASURED.share(seconds) == pytest.approx(share)


def test_an_exchange_that_was_slower_by_itself_hides_no_computing() -> None:
    # One worker alone computes 8 ms a step, of which a step of 10 leaves 2 for a sum of 2.4.
    measured = with_last(graph_seconds=1.0)
    split = measured.split(measured.jobs[1])
    assert split.compute == pytest.approx(8e-3)
    assert split.all_reduce == pytest.approx(2e-3)
    assert split.input == pytest.approx(0)
    assert split.total == pytest.approx(measured.jobs[1].slowest.split.total)
    seconds, _ = measured.predicted(2)
    assert seconds == pytest.approx(11e-3)  # what was measured, with 1 ms of Python
    for name in ("ring", "hosts"):
        assert ways(measured, Hosts())[name].seconds(measured.work, 2) == pytest.approx(seconds)


def test_a_step_that_leaves_no_room_does_not_show_that_sums_are_free() -> None:
    measured = with_last(graph_seconds=0.7)  # less than one worker alone computes
    split = measured.split(measured.jobs[1])
    assert split.compute == pytest.approx(7e-3)
    assert split.all_reduce == 0
    assert measured.network is not None
    assert measured.network.overhead == pytest.approx(1.0)  # as alpha and beta say


def test_on_a_busy_machine_no_way_hides_its_computing() -> None:
    content = json.loads(BENCH.read_text())
    del content["load"]
    every = Measured.from_json(json.dumps(content))
    for count in (2, 3):
        measured = Measured("mlp", every.jobs[:count])
        lone = measured.split(measured.jobs[0]).compute
        assert measured.split(measured.jobs[-1]).compute >= lone > 8e-3
        found = ways(measured, Hosts())
        network = measured.network
        assert network is not None
        for workers in (2, *PREDICTED):
            least = lone + network.all_reduce(workers, measured.work.size)
            assert found["ring"].seconds(measured.work, workers) >= least


def test_without_a_lone_worker_the_split_is_what_was_timed() -> None:
    two = Measured("train.py", MEASURED.jobs[1:])
    assert two.split(two.jobs[0]) == two.jobs[0].slowest.split
    with pytest.raises(ValueError, match="no job of two workers was measured"):
        ways(Measured("train.py", MEASURED.jobs[:1]), Hosts())


def test_servers_count_as_tasks_and_are_never_worth_more_than_workers() -> None:
    fast = Network(alpha=1e-9, beta=1e15)
    each = [
        dataclasses.replace(
            worker,
            graph_seconds=1.8,
            python_seconds=0.0,
            input_step=0.0,
            all_reduce_step=fast.all_reduce(2, 1e6),
            all_reduces=[[size, fast.all_reduce(2, size)] for size in SIZES],
            update_step=8e-3,
        )
        for worker in MEASURED.jobs[1].each
    ]
    alone = dataclasses.replace(
        MEASURED.jobs[0].slowest, graph_seconds=1.8, python_seconds=0.0, input_step=0.0
    )
    measured = Measured("train.py", [JobTimes(1, [alone]), JobTimes(2, each)])
    way = ways(measured, Hosts())["servers"]
    for workers in (8, 64, 512):
        # Servers take the update over: workers alone would look faster than one that does all.
        assert measured.share(way.seconds(measured.work, workers)) > 1
        assert 0.7 < efficiency(measured, way, workers) < 0.8
        assert efficiency(measured, ways(measured, Hosts())["ring"], workers) <= 1.001
    said = " ".join(report(measured).split())
    assert "the efficiency is over workers and servers" in said
    assert "All tasks of a host share its link" in said


def test_the_update_is_taken_from_the_computing() -> None:
    measured = with_last(update_step=2e-3)
    assert measured.work.update == 2e-3
    assert measured.work.alone == pytest.approx(MEASURED.work.alone)
    found = ways(measured, Hosts())
    saved = found["ring"].seconds(measured.work, 8) - found["shares"].seconds(measured.work, 8)
    assert saved == pytest.approx(2e-3 * 7 / 8)
    all_of_it = with_last(update_step=1.0).work
    assert all_of_it.compute == 0
    assert all_of_it.alone == pytest.approx(MEASURED.work.alone)


def test_a_slow_link_between_hosts_is_felt_by_all_and_least_by_sums_of_two_steps() -> None:
    here, far = ways(MEASURED, Hosts()), ways(MEASURED, Hosts(4, Link(2e-2, 1e8)))
    work = MEASURED.work
    more = {name: far[name].seconds(work, 64) - here[name].seconds(work, 64) for name in here}
    assert min(more.values()) > 0
    assert more["hosts"] < more["ring"] / 3


def test_a_wire_makes_nothing_faster_than_the_software_that_was_measured() -> None:
    here, near = ways(MEASURED, Hosts()), ways(MEASURED, Hosts(4, Link(0, 1e12)))
    for name, way in here.items():
        assert way.seconds(MEASURED.work, 64) == near[name].seconds(MEASURED.work, 64)


def test_a_slow_worker_costs_those_that_wait_more() -> None:
    found, work = ways(MEASURED, Hosts()), MEASURED.work
    lost = {
        name: found[f"{name} *"].seconds(work, 16) / found[name].seconds(work, 16)
        for name in ("ring", "servers")
    }
    assert lost["ring"] > 1.1 > lost["servers"] >= 1


def test_the_report_says_what_it_assumes() -> None:
    said = report(with_last(update_step=2e-3), Hosts(8, Link(5e-5, 1.25e9)))
    assert "8 tasks on each host; between hosts: 1,250 MB/s, 0.05 ms, no faster than here." in said
    assert "2.00 ms, timed by itself" in said
    assert "not timed" not in said
    untimed = report(with_last(update_untimed="Mine: KeyError: 'rate'"))
    assert "The update was not timed: Mine: KeyError: 'rate'\n" in untimed
    assert "ms, timed by itself" not in untimed
    assert "the network measured here" in report(MEASURED)
    table = said.split("efficiency, %, predicted\n")[1].splitlines()
    head = table[0]
    assert head.endswith("ring  hosts  shares  pipelines  servers  ring *  servers *  backups *")
    assert max(map(len, table[:20])) <= 88


def test_one_job_alone_predicts_no_way() -> None:
    assert "efficiency, %, predicted" not in report(
        Measured("x", [JobTimes(1, [times(0, 1, 9e-3)])])
    )


def test_a_link_is_given_in_megabytes_and_milliseconds() -> None:
    options = bench_parser().parse_args(["--link", "1250,0.05", "--tasks_per_host", "8"])
    assert options.link == pytest.approx((5e-5, 1.25e9))
    assert options.tasks_per_host == 8


@pytest.mark.parametrize("text", ["1250", "fast,0", "0,1", "1250,-1", "inf,0", "1,2,3"])
def test_what_is_no_link_is_refused(text: str) -> None:
    with pytest.raises(ClusterError, match=r"is no link; give megabytes a second and milliseconds"):
        bench_parser().parse_args(["--link", text])


def test_hosts_have_tasks() -> None:
    with pytest.raises(ValueError, match="tasks=0: give a number of at least 1 for each host"):
        Hosts(0)
