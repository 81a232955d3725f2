"""The timeline and TensorBoard's files, of what tasks are made to tell."""

from __future__ import annotations

import itertools
import json
import struct
from pathlib import Path
from typing import Any

import pytest

from tfdist.cluster import Task
from tfdist.launch.failure import TaskResult
from tfdist.launch.live.tensorboard_files import TensorBoardFiles
from tfdist.launch.live.trace_file import TraceFile
from tfdist.progress import JobProgress, JobView, PhaseSeconds, Record, Span

NOTHING = JobView(None, 0, None, None, None, ())


def record(at: float, *spans: Span, **about: Any) -> Record:
    known = {"fit": 1, "phase": "compute", "epochs": 1, "steps": 10, "seconds": PhaseSeconds(0, at)}
    return Record(at, spans=spans, **{**known, **about})


def events(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "timeline.trace.json").read_text())
    return found


@pytest.fixture
def trace(tmp_path: Path) -> TraceFile:
    trace = TraceFile(tmp_path)
    trace.open(lambda line: None)
    trace.began("worker:0", False)
    return trace


def test_times_of_another_machine_are_brought_here(trace: TraceFile, tmp_path: Path) -> None:
    trace.heard("worker:0", [record(1000.0, Span("input", 999.0, 0.5, 3))], -990.0)
    trace.close(NOTHING, 20.0)
    (span,) = [e for e in events(tmp_path) if e["ph"] == "X"]
    assert (span["ts"], span["dur"], span["name"]) == (9_000_000, 500_000, "input")
    assert span["args"] == {"epoch": 1, "step": 3}


def test_a_checkpoint_beside_the_training_has_a_row_of_its_own(
    trace: TraceFile, tmp_path: Path
) -> None:
    for at, saving in ((1.0, False), (2.0, True), (3.0, True), (4.0, False), (5.0, True)):
        trace.heard("worker:0", [record(at, saving=saving)], 0.0)
    trace.close(NOTHING, 6.0)
    saves = [e for e in events(tmp_path) if e["name"] == "writes a checkpoint"]
    assert [(e["ts"], e["dur"]) for e in saves] == [(2_000_000, 2_000_000), (5_000_000, 1_000_000)]
    assert {e["tid"] for e in saves} == {2002}


def test_spans_of_a_row_never_overlap(trace: TraceFile, tmp_path: Path) -> None:
    """By a microsecond as both ends are rounded, or as a clock was compared anew; then Perfetto
    would leave one out."""
    began, seconds = 723.6167446, 0.0050529
    trace.heard("worker:0", [record(724.0, Span("compute", began, seconds))], 0.0)
    spans = [Span("callbacks", began + seconds, 0.005), Span("input", began + 0.0101, 0.04)]
    trace.heard("worker:0", [record(725.0, *spans)], -0.0003)
    trace.close(NOTHING, 726.0)
    found = [e for e in events(tmp_path) if e["ph"] == "X"]
    assert [e["name"] for e in found] == ["compute", "callbacks", "input"]
    for one, following in itertools.pairwise(found):
        assert one["ts"] + one["dur"] <= following["ts"]
    assert all(e["dur"] > 0 for e in found)


def test_the_end_of_a_task_is_in_it_and_a_second_beginning_has_the_same_row(
    trace: TraceFile, tmp_path: Path
) -> None:
    trace.heard("worker:0", [record(1.0)], 0.0)
    trace.look(NOTHING, 2.0)
    result = TaskResult(Task("worker", 0), -9, tmp_path / "log", 0.0, 1.0, False)
    trace.ended("worker:0", result)
    trace.began("worker:0", True)
    trace.heard("worker:0", [record(3.0, Span("compute", 2.5, 0.5))], 0.0)
    trace.close(NOTHING, 4.0)
    found = events(tmp_path)
    (end,) = [e for e in found if "SIGKILL" in e["name"]]
    (span,) = [e for e in found if e["ph"] == "X"]
    assert (end["ts"], end["pid"]) == (2_000_000, span["pid"])


def test_nothing_seems_to_go_on_where_a_task_was_killed(trace: TraceFile, tmp_path: Path) -> None:
    """Its last span may have ended long before, and what it was saving is never whole."""
    trace.heard("worker:0", [record(10.0, Span("compute", 9.0, 1.0))], 0.0)
    for at in (10.5, 11.0, 11.5):
        trace.heard("worker:0", [record(at, saving=True)], 0.0)
    trace.look(NOTHING, 12.0)
    result = TaskResult(Task("worker", 0), -9, tmp_path / "log", 0.0, 1.0, False)
    trace.ended("worker:0", result)
    trace.began("worker:0", True)
    trace.heard("worker:0", [record(31.0)], 0.0)
    trace.close(NOTHING, 40.0)
    found = events(tmp_path)
    *_, last = [e for e in found if e["ph"] == "C"]
    assert last["ts"] == 11_500_000
    assert set(last["args"].values()) == {0.0}
    (saving,) = [e for e in found if e["name"] == "writes a checkpoint"]
    assert saving["ts"] + saving["dur"] == 12_000_000


def test_a_launcher_that_is_killed_leaves_what_can_be_read(
    trace: TraceFile, tmp_path: Path
) -> None:
    trace.heard("worker:0", [record(1.0, Span("input", 0.5, 0.5))], 0.0)
    trace.look(NOTHING, 2.0)
    text = (tmp_path / "timeline.trace.json").read_text()
    whole = json.loads(text.rstrip().rstrip(",") + "]")  # as Perfetto reads it
    assert any(e["name"] == "input" for e in whole)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux")
def test_a_disk_that_is_full_ends_the_timeline_alone(tmp_path: Path) -> None:
    (tmp_path / "timeline.trace.json").symlink_to("/dev/full")
    trace = TraceFile(tmp_path)
    trace.open(lambda line: None)
    trace.began("worker:0", False)
    for at in range(2000):
        trace.heard("worker:0", [record(float(at), Span("input", 0.5, 0.5))], 0.0)
    trace.look(NOTHING, 1.0)
    trace.close(NOTHING, 2.0)


def read(path: Path) -> list[bytes]:
    """The records of a file, by TensorFlow's format: length, its sum, data, their sum."""
    data, found = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        found.append(data[12 : 12 + length])
        data = data[16 + length :]
    return found


def view(step: int, **about: Any) -> JobView:
    progress = JobProgress(("worker:0", "worker:1"), "worker:0")
    for task in ("worker:0", "worker:1"):
        told = [record(1.0), record(9.0, step=step, **{"logs": {"loss": 0.5}, **about})]
        for one in told:
            progress.hear(task, [one], one.at)
    return progress.view(9.0)


def test_a_point_is_written_once_for_each_step_that_is_seen(tmp_path: Path) -> None:
    files = TensorBoardFiles(tmp_path / "board")
    files.open(lambda line: None)
    for now, step in ((0.0, 2), (1.0, 3), (2.5, 4), (9.0, 4)):
        files.look(view(step), now)
    files.close(view(4), 10.0)
    for run in ("job", "worker-0", "worker-1"):
        (path,) = (tmp_path / "board" / run).iterdir()
        assert len(read(path)) == 1 + 2  # the version first; step 3 came too soon


def test_the_end_of_a_fit_is_its_last_point(tmp_path: Path) -> None:
    """However short the fit was, and although the job goes on."""
    files = TensorBoardFiles(tmp_path)
    files.open(lambda line: None)
    files.look(view(2), 0.0)
    files.look(view(10), 0.5)  # too soon
    for now in (1.0, 1.2, 9.0):
        files.look(view(10, phase="", validation={"val_loss": float("nan")}), now)
    files.look(view(12, fit=2, validation={}), 12.0)
    (path,) = (tmp_path / "job").iterdir()
    assert [b"val_loss" in point for point in read(path)] == [False, False, True, False]
    (path,) = (tmp_path / "worker-1").iterdir()
    assert [b"phase/compute" in point for point in read(path)] == [False, True, True, True]


def test_a_launcher_without_the_chief_writes_its_own_tasks_alone(tmp_path: Path) -> None:
    files = TensorBoardFiles(tmp_path, has_chief=False)
    files.open(lambda line: None)
    files.look(view(2), 0.0)
    files.close(view(2), 1.0)
    assert {path.name for path in tmp_path.iterdir()} == {"worker-0", "worker-1"}


def test_a_disk_that_is_full_ends_the_files_alone(tmp_path: Path) -> None:
    files = TensorBoardFiles(tmp_path)
    files.open(lambda line: None)
    (tmp_path / "job").touch()  # where a folder is to be
    files.look(view(2), 0.0)
    files.close(view(3), 1.0)
    assert {path.name for path in tmp_path.iterdir()} == {"job"}
