"""A job is spread over hosts by the options of `tfdist run` that give its shape."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tfdist.diagnose.disturbed_job import DisturbedJob, spread
from tfdist.diagnose.namespace_hosts import Hosts
from tfdist.errors import ClusterError
from tfdist.run_parser import run_parser


@pytest.mark.parametrize(
    ("words", "tasks", "kept"),
    [
        (["--workers", "2", "--plug"], ["worker:0", "worker:1"], ["--plug"]),
        (["--workers=1", "--ps=1"], ["chief:0", "worker:0", "ps:0"], []),
        (["--chief", "--grace", "1"], ["chief:0", "worker:0"], ["--grace", "1"]),
        (["--workers", "1:2"], ["worker:0", "worker:1"], ["--workers", "1:2"]),
    ],
)
def test_the_shape_is_taken_from_the_options(
    words: list[str], tasks: list[str], kept: list[str]
) -> None:
    assert spread(run_parser(), words, 2) == (tasks, kept)


def test_what_cannot_be_spread_is_refused() -> None:
    with pytest.raises(ClusterError, match=r"--hosts 1 for a job of 2 tasks \(worker:0, worker:1"):
        spread(run_parser(), ["--workers", "2"], 1)
    with pytest.raises(ClusterError, match="leave out --cluster and --evaluator"):
        spread(run_parser(), ["--workers", "2", "--evaluator"], 2)


def test_each_task_has_a_launcher_on_its_host(tmp_path: Path) -> None:
    tasks = ("chief:0", "worker:0", "ps:0")
    job = DisturbedJob(("--plug",), ("train.py", "1"), Hosts(2), tasks)
    launchers = job.launchers(tmp_path)
    spec = json.loads((tmp_path / "cluster.json").read_text())["cluster"]
    assert spec == {
        "chief": ["10.78.0.1:5001"],
        "worker": ["10.78.0.2:5001"],
        "ps": ["10.78.0.1:5002"],
    }
    assert list(launchers) == list(tasks)
    assert [job.host_of(task) for task in tasks] == [0, 1, 0]
    end = ["--plug", "--cluster", tmp_path / "cluster.json", "--task", "ps:0", "train.py", "1"]
    assert launchers["ps:0"][-len(end) :] == end


def test_on_this_machine_one_launcher_runs_all(tmp_path: Path) -> None:
    (command,) = DisturbedJob(("--workers", "2"), ("train.py",)).launchers(tmp_path).values()
    assert command[-4:] == ["run", "--workers", "2", "train.py"]
