"""What is slow is named, with the seconds that it measures itself; one job for all of it.

The job is looked at while it runs, too: its lines, its files, its timeline, its metrics.
"""

from __future__ import annotations

import io
import itertools
import json
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.conftest import ROOT
from tfdist.cluster.address import Address
from tfdist.launch import local_cluster, run_job
from tfdist.launch.live import LiveView, Watcher
from tfdist.launch.live.metrics_port import MetricsPort
from tfdist.launch.live.plain_lines import PlainLines
from tfdist.launch.live.tensorboard_files import TensorBoardFiles
from tfdist.launch.live.trace_file import TraceFile
from tfdist.progress import PHASES, JobView

NAMES = ("input in a graph", "input that Python reads", "callback", "save", "peer")


@dataclass
class Scraper(Watcher):
    """Asks for the metrics while it trains, as Prometheus would."""

    err: io.StringIO
    pages: list[str] = field(default_factory=list)
    views: list[JobView] = field(default_factory=list)
    _next: float = 0.0

    def look(self, view: JobView, now: float) -> None:
        self.views.append(view)
        if view.is_training and now >= self._next:
            self._next = now + 1.0
            url = next(w for w in self.err.getvalue().split() if w.startswith("http://127.0.0.1:"))
            with urllib.request.urlopen(url, timeout=10) as page:
                self.pages.append(page.read().decode())


@dataclass(frozen=True)
class Ran:
    workers: list[dict[str, Any]]
    err: str
    out: str
    scraper: Scraper
    folder: Path
    began: float
    ended: float


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("slow")
    out, err = io.StringIO(), io.StringIO()
    scraper = Scraper(err)
    board = folder / "board"
    watchers = [
        PlainLines(seconds=0.5),
        MetricsPort(Address("127.0.0.1", 0)),
        TensorBoardFiles(board),
        TraceFile(board),
        scraper,
    ]
    began = time.monotonic()
    with local_cluster(workers=2) as cluster:
        result = run_job(
            [str(ROOT / "tests" / "live" / "slow_things.py"), str(folder)],
            cluster,
            log_dir=folder / "logs",
            out=out,
            err=err,
            live=LiveView(watchers),
        )
    ended = time.monotonic()
    assert result.returncode == 0, out.getvalue() + err.getvalue()
    workers = [json.loads((folder / f"worker-{n}.json").read_text()) for n in (0, 1)]
    return Ran(workers, err.getvalue(), out.getvalue(), scraper, folder, began, ended)


@pytest.mark.parametrize("name", NAMES)
def test_the_shares_of_an_epoch_add_up_to_one(ran: Ran, name: str) -> None:
    for worker in ran.workers:
        history = worker[name]["history"]
        assert set(history) == {f"phase_{phase}" for phase in PHASES}
        for epoch in range(2):
            assert sum(shares[epoch] for shares in history.values()) == pytest.approx(1)


@pytest.mark.parametrize("name", NAMES)
def test_all_the_time_of_a_fit_is_of_some_phase(ran: Ran, name: str) -> None:
    for worker in ran.workers:
        found = worker[name]
        assert sum(found["seconds"].values()) <= found["all"]
        assert min(found["seconds"].values()) >= 0


@pytest.mark.parametrize(
    ("name", "phase"),
    [
        ("input in a graph", "input"),
        ("input that Python reads", "input"),
        ("callback", "callbacks"),
        ("save", "save"),
    ],
)
def test_what_sleeps_has_the_seconds_that_it_slept(ran: Ran, name: str, phase: str) -> None:
    unlike = {
        "input": ("callback", "save"),
        "callbacks": ("input in a graph", "save"),
        "save": ("callback", "peer"),
    }
    for worker in ran.workers:
        found = worker[name]
        assert found["asleep"] >= 1.9
        # Steps are computed, and validation is run, while the next batch is being read.
        overlaps = 0.5 * found["asleep"] if phase == "input" else 0.01
        assert found["seconds"][phase] >= found["asleep"] - overlaps
        others = [one[other]["seconds"][phase] for one in ran.workers for other in unlike[phase]]
        assert found["seconds"][phase] > 1.5 * max(others)


def test_a_slow_peer_computes_and_the_other_waits_for_it(ran: Ran) -> None:
    quick, slow = (worker["peer"] for worker in ran.workers)
    assert slow["asleep"] >= 1.9
    assert slow["seconds"]["compute"] >= slow["asleep"] - 0.01
    assert quick["seconds"]["exchange"] >= 0.8 * slow["asleep"]
    last = {name: shares[1] for name, shares in quick["history"].items()}
    assert max(last, key=lambda name: last[name]) == "phase_exchange"
    assert slow["history"]["phase_exchange"][1] < last["phase_exchange"] / 2


def test_the_chief_shows_the_shares_on_its_line(ran: Ran) -> None:
    lines = [line for line in ran.out.splitlines() if "loss:" in line]
    assert len(lines) == 10
    assert all(line.startswith("[worker:0]") and "phase_input: " in line for line in lines)


def test_lines_say_how_far_it_is(ran: Ran) -> None:
    lines = [line for line in ran.err.splitlines() if "[tfdist] epoch " in line]
    assert len(lines) >= 5
    assert any("epoch 2/2, step " in line and " examples/s, loss " in line for line in lines)


def test_nobody_but_the_slow_peer_is_said_to_lag(ran: Ran) -> None:
    last = [view for view in ran.scraper.views if view.record and view.record.fit == len(NAMES)]
    assert last
    lagging = {(t.name, t.why) for view in last for t in view.tasks if t.state == "lags"}
    assert lagging <= {("worker:1", "by its compute")}


def test_prometheus_can_ask(ran: Ran) -> None:
    assert ran.scraper.pages
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for page in ran.scraper.pages:
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                key = tuple(value for _, value in sorted(sample.labels.items(), reverse=True))
                found.setdefault(sample.name, {})[key] = sample.value
    assert set(found["tfdist_phase_seconds_total"]) == {
        (f"worker:{n}", phase) for n in (0, 1) for phase in PHASES
    }
    assert found["tfdist_epochs"][()] == 2
    assert found["tfdist_steps_total"][()] > 0
    assert found["tfdist_metric"][("loss",)] > 0
    assert found["tfdist_task_state"][("worker:0", "failed")] == 0
    assert found["tfdist_restarts_total"][()] == 0


def test_tensorboard_reads_the_scalars(ran: Ran) -> None:
    runs: dict[str, EventAccumulator] = {}
    for run in ("job", "worker-0", "worker-1"):
        runs[run] = EventAccumulator(str(ran.folder / "board" / run))
        runs[run].Reload()
    told = set(runs["job"].Tags()["scalars"])
    assert {"loss", "examples_per_second", "steps_per_second", "val_loss"} <= told
    assert all(0 < point.step <= 40 for point in runs["job"].Scalars("steps_per_second"))
    for run in ("worker-0", "worker-1"):
        tags = runs[run].Tags()["scalars"]
        assert set(tags) == {f"phase/{phase}" for phase in PHASES}
        points = [[point.value for point in runs[run].Scalars(tag)] for tag in tags]
        assert all(
            sum(shares) == pytest.approx(1, abs=1e-3) for shares in zip(*points, strict=True)
        )


def test_the_timeline_has_all_tasks_by_one_clock(ran: Ran) -> None:
    events = json.loads((ran.folder / "board" / "timeline.trace.json").read_text())
    names = {e["args"]["name"]: e["pid"] for e in events if e["name"] == "process_name"}
    assert set(names) == {"the job", "worker:0", "worker:1"}
    times = [e["ts"] for e in events if "ts" in e]
    assert all(ran.began * 1e6 <= at <= ran.ended * 1e6 + 1 for at in times)
    spans = [e for e in events if e["ph"] == "X" and e.get("cat") == "phase"]
    for pid in (names["worker:0"], names["worker:1"]):
        own = sorted((e["ts"], e["ts"] + e["dur"]) for e in spans if e["pid"] == pid)
        assert own
        # One phase ends where the next begins: Perfetto leaves out spans that overlap.
        assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(own))
    assert {e["name"] for e in spans} == set(PHASES)
    counters = [e["args"] for e in events if e["ph"] == "C"]
    sums = [sum(shares.values()) for shares in counters]
    assert all(one == pytest.approx(1, abs=1e-3) for one in sums if one)
    assert sums[-1] == 0  # nothing goes on after the fit
    assert [e["name"] for e in events if e["ph"] == "i"][-1] == "the job has ended"


def test_the_workers_meet_at_the_same_time(ran: Ran) -> None:
    """Both end their last exchange together: by two clocks they would not."""
    events = json.loads((ran.folder / "board" / "timeline.trace.json").read_text())

    def last(name: str) -> float:
        pid = next(
            e["pid"] for e in events if e["ph"] == "M" and e["args"].get("name") == f"worker:{name}"
        )
        ends = [e["ts"] + e["dur"] for e in events if e["pid"] == pid and e["name"] == "exchange"]
        return max(ends)

    assert abs(last("0") - last("1")) < 2e6
