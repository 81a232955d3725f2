"""Who gets which GPU, decided before anything starts."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.launch.support import run_script
from tests.machine.nvidia_smi import FIRST, SECOND, TWO, put_on_path
from tfdist.cluster import Cluster, Task
from tfdist.errors import ClusterError
from tfdist.launch import GpuSupply, JobPlan, make_plan
from tfdist.machine.gpus import Gpu

WORKERS = Cluster({"worker": ("127.0.0.1:2000", "127.0.0.1:2001")})
SERVERS = Cluster.local(workers=2, ps=1, ports=(1, 2, 3, 4))
HOSTS = Cluster({"worker": ("a:1", "a:2", "b:1")})
SHARED = "; tasks that share one take its memory as they need it"
CARDS = tuple(Gpu(f"GPU-{n}", "H100") for n in range(8))
SLICES = tuple(Gpu(f"MIG-{n}", "A100 MIG 1g.5gb") for n in range(4))


def plan(cluster: Cluster, gpus: tuple[Gpu, ...], tasks: Any = None, **supply: Any) -> JobPlan:
    given = GpuSupply(gpus, **supply)
    return make_plan(["t.py"], cluster, tasks=tasks, cores=4, environ={}, python="py", gpus=given)


def given(job: JobPlan) -> dict[str, str | None]:
    """What each task sees of CUDA; None where it is told nothing."""
    name = "CUDA_VISIBLE_DEVICES"
    return {str(one.task): one.environment.get(name) for one in job.tasks}


def test_gpus_are_spread_evenly_over_the_tasks_that_compute() -> None:
    assert given(plan(WORKERS, CARDS[:2])) == {"worker:0": "GPU-0", "worker:1": "GPU-1"}
    assert given(plan(WORKERS, CARDS[:5])) == {"worker:0": "GPU-0,GPU-1", "worker:1": "GPU-2,GPU-3"}


def test_one_task_gets_them_all() -> None:
    assert given(plan(Cluster.local(ports=(1,)), CARDS[:3])) == {"worker:0": "GPU-0,GPU-1,GPU-2"}


def test_a_number_for_each_is_that_number() -> None:
    job = plan(WORKERS, CARDS, per_task=3)
    assert given(job) == {"worker:0": "GPU-0,GPU-1,GPU-2", "worker:1": "GPU-3,GPU-4,GPU-5"}
    assert job.tasks[0].environment["TFDIST_GPUS_PER_TASK"] == "3"
    assert "TFDIST_GPUS_PER_TASK" not in plan(WORKERS, CARDS).tasks[0].environment


def test_servers_and_their_chief_get_none() -> None:
    assert given(plan(SERVERS, CARDS[:2])) == {
        "chief:0": "-1",
        "worker:0": "GPU-0",
        "worker:1": "GPU-1",
        "ps:0": "-1",
    }


def test_a_worker_of_servers_computes_on_one() -> None:
    job = plan(SERVERS, CARDS)
    assert given(job)["worker:0"] == "GPU-0"
    assert given(job)["worker:1"] == "GPU-1"
    with pytest.raises(ClusterError, match="a worker of parameter servers computes on one; give"):
        plan(SERVERS, CARDS, per_task=2)


def test_a_chief_without_servers_trains_as_the_others() -> None:
    cluster = Cluster.local(workers=1, chief=True, ports=(1, 2))
    assert given(plan(cluster, CARDS[:2])) == {"chief:0": "GPU-0", "worker:0": "GPU-1"}


def test_an_evaluator_gets_what_is_left_over() -> None:
    tasks = (*SERVERS.tasks, Task("evaluator"))
    assert given(plan(SERVERS, CARDS[:2], tasks))["evaluator:0"] == "-1"
    assert given(plan(SERVERS, CARDS[:3], tasks))["evaluator:0"] == "GPU-2"
    cluster = Cluster.local(workers=2, evaluator=True, ports=(1, 2, 3))
    job = plan(cluster, CARDS, per_task=3)
    asked = [one.environment.get("TFDIST_GPUS_PER_TASK") for one in job.tasks]
    assert asked == ["3", "3", "1"]
    assert given(job)["evaluator:0"] == "GPU-6"


def test_tasks_that_share_a_gpu_take_its_memory_as_they_need_it() -> None:
    cluster = Cluster.local(workers=5, ports=range(1, 6))
    job = plan(cluster, CARDS[:2])
    assert list(given(job).values()) == ["GPU-0", "GPU-0", "GPU-0", "GPU-1", "GPU-1"]
    assert {one.environment["TF_FORCE_GPU_ALLOW_GROWTH"] for one in job.tasks} == {"true"}
    assert "TF_FORCE_GPU_ALLOW_GROWTH" not in plan(WORKERS, CARDS).tasks[0].environment


def test_what_the_users_environment_says_of_memory_is_left_alone() -> None:
    environ = {"TF_FORCE_GPU_ALLOW_GROWTH": "false"}
    job = make_plan(["t.py"], WORKERS, cores=4, environ=environ, gpus=GpuSupply(CARDS[:1]))
    assert "TF_FORCE_GPU_ALLOW_GROWTH" not in job.tasks[0].environment


def test_a_limit_of_memory_takes_the_place_of_growth() -> None:
    environment = plan(WORKERS, CARDS[:1], memory=9000).tasks[1].environment
    assert environment["TFDIST_GPU_MEMORY"] == "9000"
    assert "TF_FORCE_GPU_ALLOW_GROWTH" not in environment


def test_no_gpus_for_any_task_hides_those_that_there_are() -> None:
    assert given(plan(WORKERS, (), per_task=0)) == {"worker:0": "-1", "worker:1": "-1"}


@pytest.mark.parametrize("gpus", [(), CARDS[:1], SLICES])
def test_a_machine_of_servers_alone_need_not_have_what_workers_are_to_get(
    gpus: tuple[Gpu, ...],
) -> None:
    cluster = Cluster({"chief": ("a:1",), "worker": ("b:1",), "ps": ("a:2",)})
    job = plan(cluster, gpus, [Task("chief"), Task("ps")], per_task=2)
    assert set(given(job).values()) == ({"-1"} if gpus else {None})


def test_without_gpus_tasks_are_told_nothing() -> None:
    assert given(plan(WORKERS, ())) == {"worker:0": None, "worker:1": None}
    assert given(make_everything_default()) == {"worker:0": None, "worker:1": None}


def make_everything_default() -> JobPlan:
    return make_plan(["t.py"], WORKERS, cores=4, environ={})


def test_a_slice_is_one_for_each_task() -> None:
    assert given(plan(WORKERS, SLICES)) == {"worker:0": "MIG-0", "worker:1": "MIG-1"}


def test_several_launchers_of_one_machine_share_out_the_same() -> None:
    tasks = HOSTS.tasks
    assert given(plan(HOSTS, CARDS[:2], tasks[:1])) == {"worker:0": "GPU-0"}
    assert given(plan(HOSTS, CARDS[:2], tasks[1:2])) == {"worker:1": "GPU-1"}
    assert given(plan(HOSTS, CARDS[:2], tasks[2:])) == {"worker:2": "GPU-0,GPU-1"}
    shared = plan(HOSTS, CARDS[:1], tasks[1:2]).tasks[0].environment
    assert shared["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"


def test_what_a_scheduler_has_chosen_for_a_launcher_is_its_tasks_own() -> None:
    job = plan(HOSTS, CARDS[4:6], HOSTS.tasks[1:2], are_own=True)
    assert given(job) == {"worker:1": "GPU-4,GPU-5"}


@pytest.mark.parametrize(
    ("gpus", "supply", "says"),
    [
        (CARDS[:3], {"per_task": 2}, "2 GPUs for each of 2 tasks, but this machine has 3; give "),
        (CARDS[:1], {"per_task": 2}, "give --gpus_per_task 1, or 0 for the CPU alone"),
        (SLICES, {"per_task": 2}, "MIG slices, of which CUDA shows a process one"),
        ((), {"per_task": 1}, "GPUs were asked for, but there is none"),
        ((), {"memory": 9}, "GPUs were asked for, but there is none"),
        (CARDS, {"per_task": -1}, "-1 GPUs per task"),
        (CARDS, {"memory": 0}, "a GPU memory of 0 MiB"),
    ],
)
def test_what_cannot_be_given_is_refused(
    gpus: tuple[Gpu, ...], supply: dict[str, Any], says: str
) -> None:
    with pytest.raises(ClusterError, match=says):
        plan(WORKERS, gpus, **supply)


@pytest.mark.parametrize(
    ("cluster", "gpus", "supply", "line"),
    [
        (WORKERS, (), {}, ""),
        (WORKERS, (), {"per_task": 0}, "GPUs: none for any task"),
        (WORKERS, CARDS[:2], {}, "GPUs: worker:0 GPU-0 (H100); worker:1 GPU-1 (H100)"),
        (
            SERVERS,
            CARDS[:1],
            {},
            "GPUs: worker:0 GPU-0 (H100); worker:1 GPU-0 (H100); none for chief:0, ps:0" + SHARED,
        ),
        (
            WORKERS,
            CARDS[:1],
            {"memory": 9000},
            "GPUs: worker:0 GPU-0 (H100); worker:1 GPU-0 (H100); 9000 MiB of a GPU for each task",
        ),
    ],
)
def test_one_line_says_who_gets_what(
    cluster: Cluster, gpus: tuple[Gpu, ...], supply: dict[str, Any], line: str
) -> None:
    assert plan(cluster, gpus, **supply).gpus.describe() == line


def test_tasks_of_a_job_see_the_gpus_that_the_launcher_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    put_on_path(tmp_path / "bin", monkeypatch, TWO)
    ran = run_script(tmp_path, 'print(json.dumps(os.environ["CUDA_VISIBLE_DEVICES"]))')
    told = dict(line.split() for line in ran.out.splitlines())
    assert {task: json.loads(one) for task, one in told.items()} == {
        "[worker:0]": FIRST,
        "[worker:1]": SECOND,
    }
    assert f"GPUs: worker:0 {FIRST[:12]} (NVIDIA H100 80GB HBM3); worker:1 " in ran.err


def test_a_launcher_that_nvidia_smi_fails_goes_on_without_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    put_on_path(tmp_path, monkeypatch, "no driver", code=9)
    assert GpuSupply.here(os.environ) == GpuSupply()
    assert "nvidia-smi ended with 9: no driver: no task is given a GPU" in capfd.readouterr().err
