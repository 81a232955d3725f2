"""What each task runs, decided before anything starts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.launch.support import compare_with_golden
from tfdist.cluster import Cluster, Task
from tfdist.errors import ClusterError
from tfdist.launch import JobPlan, make_plan

WORKERS = Cluster({"worker": ("127.0.0.1:2000", "127.0.0.1:2001")})
SERVERS = Cluster({"chief": ("a:1",), "worker": ("b:1", "b:2"), "ps": ("c:1",)})


def plan(
    cluster: Cluster = WORKERS, command: Sequence[str] = ("train.py",), **options: Any
) -> JobPlan:
    return make_plan(command, cluster, **{"cores": 4, "environ": {}, "python": "py", **options})


def variables(job: JobPlan, task: str) -> Mapping[str, str]:
    return next(one.environment for one in job.tasks if str(one.task) == task)


def test_a_plan_of_two_workers() -> None:
    command = ["train.py", "--name", "it's a test", "--cluster", "x"]
    compare_with_golden(plan(command=command).shell(), "two_workers.sh")


def test_a_plan_of_a_parameter_server_job_with_all_options() -> None:
    job = plan(
        SERVERS,
        ["-m", "package.module", "--flag"],
        tasks=(*SERVERS.tasks, Task("evaluator", 0)),
        plug=True,
        threads=3,
        rendezvous_timeout=30.0,
        environ={"TFDIST_TASK": "worker:1", "TFDIST_CLUSTER": "other.json"},
    )
    compare_with_golden(job.shell(), "parameter_server.sh")


def test_a_planned_command_can_be_pasted_into_a_shell(tmp_path: Path) -> None:
    script = tmp_path / "it's.py"
    script.write_text("import os, sys; print(os.environ['TF_CONFIG'], sys.argv[1:], sep='\\n')")
    job = plan(command=[str(script), "a b", "$HOME", '"'], python=sys.executable)
    pasted = job.shell().split("\n\n")[1]
    ran = subprocess.run(["sh", "-c", pasted], capture_output=True, text=True, check=True)
    config, arguments = ran.stdout.splitlines()
    assert json.loads(config)["task"] == {"type": "worker", "index": 1}
    assert arguments == str(["a b", "$HOME", '"'])


def test_each_task_is_told_which_one_it_is() -> None:
    for task in plan(SERVERS).tasks:
        config = Cluster.from_json(task.environment["TF_CONFIG"])
        assert config.task == task.task
        assert config.jobs == SERVERS.jobs


@pytest.mark.parametrize(("cores", "share"), [(8, "4"), (5, "2"), (2, "1"), (1, "1")])
def test_the_cores_are_shared_out_among_the_workers(cores: int, share: str) -> None:
    job = plan(cores=cores)
    for task in ("worker:0", "worker:1"):
        assert variables(job, task)["TF_NUM_INTRAOP_THREADS"] == share
        assert variables(job, task)["OMP_NUM_THREADS"] == share
    assert job.threads == int(share)


def test_servers_and_evaluators_get_no_share_of_the_cores() -> None:
    cluster = Cluster.local(workers=1, ps=1, ports=(1, 2, 3))
    job = plan(cluster, tasks=(*cluster.tasks, Task("evaluator")))
    assert variables(job, "chief:0")["OMP_NUM_THREADS"] == "2"
    assert "OMP_NUM_THREADS" not in variables(job, "ps:0")
    assert "OMP_NUM_THREADS" not in variables(job, "evaluator:0")


def test_only_the_tasks_of_this_machine_share_its_cores() -> None:
    assert plan(SERVERS, tasks=[Task("chief", 0)]).threads == 4
    assert plan(SERVERS, tasks=[Task("worker", 1)]).threads == 2


def test_what_the_users_environment_says_of_threads_is_left_alone() -> None:
    job = plan(environ={"OMP_NUM_THREADS": "7"})
    assert "OMP_NUM_THREADS" not in variables(job, "worker:0")
    assert variables(job, "worker:0")["TF_NUM_INTRAOP_THREADS"] == "2"


def test_a_number_of_threads_on_the_command_line_overrides_the_environment() -> None:
    job = plan(threads=3, environ={"OMP_NUM_THREADS": "7"})
    assert variables(job, "worker:0")["OMP_NUM_THREADS"] == "3"


def test_defaults_give_way_to_the_users_environment() -> None:
    environ = {"TF_CPP_MIN_LOG_LEVEL": "0", "GRPC_FAIL_FAST": "true"}
    task = plan(SERVERS, environ=environ).tasks[0]
    assert not {"TF_CPP_MIN_LOG_LEVEL", "GRPC_FAIL_FAST"} & set(task.environment)
    assert task.environ(environ)["TF_CPP_MIN_LOG_LEVEL"] == "0"


def test_only_parameter_server_jobs_ask_grpc_to_fail_fast() -> None:
    assert variables(plan(SERVERS), "ps:0")["GRPC_FAIL_FAST"] == "use_caller"
    assert "GRPC_FAIL_FAST" not in variables(plan(), "worker:0")


def test_a_task_does_not_inherit_another_answer_to_who_it_is() -> None:
    environ = {"TFDIST_TASK": "worker:1", "TF_CONFIG": "{}", "HOME": "/home"}
    task = plan(environ=environ).tasks[0]
    assert task.removed == ("TFDIST_TASK",)
    assert "TFDIST_TASK" not in task.environ(environ)
    assert task.environ(environ)["HOME"] == "/home"
    assert "worker" in task.environ(environ)["TF_CONFIG"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"command": []}, "no script"),
        ({"command": ["-m"]}, "no script"),
        ({"threads": 0}, "0 threads"),
        ({"rendezvous_timeout": 0.0}, "rendezvous_timeout of 0 s"),
        ({"tasks": []}, "a job without tasks"),
        ({"tasks": [Task("worker", 2)]}, "task index out of range"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ClusterError, match=message):
        plan(**options)
