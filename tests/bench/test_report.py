"""What `tfdist bench` keeps, prints and draws."""

from __future__ import annotations

import builtins
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from tests.pictures import all_of_it_is_seen
from tfdist.bench.measured import JobTimes, Measured, WorkerTimes
from tfdist.bench.model import Network
from tfdist.bench.plot import draw
from tfdist.bench.report import report
from tfdist.errors import LaunchError

NETWORK = Network(alpha=1e-4, beta=1e9)
SIZES = (4.0, 2.0**16, 2.0**21)


def times(worker: int, workers: int, graph: float) -> WorkerTimes:
    several = workers > 1
    return WorkerTimes(
        worker=worker,
        steps=100,
        graph_seconds=100 * graph,
        python_seconds=0.1,
        input_step=1e-3,
        all_reduce_step=2 * NETWORK.all_reduce(workers, 1e6) if several else 0.0,
        rows=64.0 * workers,
        gradient_bytes=1_000_000,
        all_reduces=[[size, NETWORK.all_reduce(workers, size)] for size in SIZES]
        if several
        else [],
    )


MEASURED = Measured(
    "train.py",
    [JobTimes(1, [times(0, 1, 9e-3)]), JobTimes(2, [times(0, 2, 14e-3), times(1, 2, 15e-3)])],
)


def test_json_brings_back_what_was_measured() -> None:
    assert Measured.from_json(MEASURED.to_json()) == MEASURED


def test_the_parts_of_a_step_add_up_to_it() -> None:
    split = MEASURED.jobs[1].slowest.split
    assert split.all_reduce == pytest.approx(2 * (2e-4 + 1e-3))
    assert split.total == pytest.approx(16e-3)


def test_an_all_reduce_that_overlaps_leaves_no_negative_compute() -> None:
    split = times(0, 2, 1e-3).split
    assert (split.compute, split.input) == (0, 0)
    assert split.total == pytest.approx(2e-3)


def test_a_job_is_as_fast_as_its_slowest_worker() -> None:
    one, two = MEASURED.jobs
    assert one.examples_a_second == pytest.approx(64 / 10e-3)
    assert two.examples_a_second == pytest.approx(128 / 16e-3)
    assert MEASURED.efficiency(two) == pytest.approx(10 / 16)


def test_the_prediction_goes_on_from_what_was_measured() -> None:
    seconds, share = MEASURED.predicted(2)
    assert seconds == pytest.approx(16e-3)
    assert share == pytest.approx(MEASURED.efficiency(MEASURED.jobs[1]))
    shares = [MEASURED.predicted(workers)[1] for workers in (2, 4, 8, 64, 512)]
    assert shares == sorted(shares, reverse=True)


def test_the_network_knows_what_the_models_own_all_reduce_takes() -> None:
    network = MEASURED.network
    assert network is not None
    assert network.alpha == pytest.approx(1e-4)
    assert network.overhead == pytest.approx(2.0)


def test_a_worker_that_measured_nothing_is_told() -> None:
    with pytest.raises(LaunchError, match=r"1 of 2 workers have measured something"):
        JobTimes(2, [times(0, 2, 1e-3)])


def test_without_counted_examples_each_batch_counts_as_one() -> None:
    jobs = [
        JobTimes(job.workers, [dataclasses.replace(one, rows=0.0) for one in job.each])
        for job in MEASURED.jobs
    ]
    uncounted = Measured("train.py", jobs)
    assert uncounted.efficiency(jobs[1]) == pytest.approx(MEASURED.efficiency(MEASURED.jobs[1]))
    assert uncounted.predicted(8) == pytest.approx(MEASURED.predicted(8))
    assert "efficiency" in report(uncounted)


def test_the_report_tells_speed_split_network_prediction_and_advice() -> None:
    text = report(MEASURED)
    for part in ("efficiency", "all-reduce of MB", "512", "Patarasuk and Yuan (2009)", "would pay"):
        assert part in text
    assert "latency 0.100 ms, bandwidth 1,000 MB/s" in text


def test_one_worker_alone_predicts_nothing() -> None:
    assert "No prediction" in report(Measured("train.py", MEASURED.jobs[:1]))


def test_the_plot_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    all_of_it_is_seen(monkeypatch)
    long = dataclasses.replace(MEASURED, what="train.py " + "--an-option=of-a-script " * 12)
    assert draw(long, tmp_path / "long.png")
    assert draw(MEASURED, tmp_path / "bench.png")
    assert (tmp_path / "bench.png").stat().st_size > 1000


def test_without_matplotlib_nothing_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **settings: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest, **settings)

    monkeypatch.setattr(builtins, "__import__", without)
    assert not draw(MEASURED, tmp_path / "bench.png")
