"""Failed workers, or all tasks, started again; their scripts know nothing of TensorFlow."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.launch.support import Ran, is_alive, run_script, wait_until, write_script
from tfdist.cluster import Task
from tfdist.errors import ClusterError
from tfdist.launch import TaskResult, local_cluster, run_job
from tfdist.launch.restarts import Restarts

pytestmark = pytest.mark.timeout(60)
SERVERS = {"workers": 2, "ps": 1}
# Every start of a task adds a line to its own file; a server ends when the chief has ended.
SERVE = """
    from pathlib import Path
    with open(f"{name}.starts", "a") as file:
        print(os.getpid(), file=file)
    starts = len(Path(f"{name}.starts").read_text().split())
    def until(*files, seconds=20):
        end = time.monotonic() + seconds
        while not all(map(os.path.exists, files)):
            assert time.monotonic() < end, files
            time.sleep(0.02)
"""


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str, **options: Any) -> Ran:
    monkeypatch.chdir(folder)
    return run_script(folder, SERVE + body, **{"counts": SERVERS, **options})


def starts(folder: Path, task: str) -> list[int]:
    path = folder / f"{task}.starts"  # a task that is ended at once has not written it
    return [int(pid) for pid in path.read_text().split()] if path.exists() else []


def test_a_killed_worker_of_a_parameter_server_job_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = """
    if name == "worker:1" and starts == 1:
        print("the first")
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "worker:1":
        print("the second")
        open("back", "w")
    until("back" if name == "chief:0" else "done")
    if name == "chief:0":
        open("done", "w")
    """
    ran = run(tmp_path, monkeypatch, body)
    assert ran.result.returncode == 0
    assert ran.result.restarts == 1
    assert set(ran.returncodes.values()) == {0}
    assert "worker:1 was ended by SIGKILL (exit code 137" in ran.err
    assert "; starting it again (1 of 3)\n" in ran.err
    log = (tmp_path / "logs/worker-1.log").read_text()
    assert log == "the first\n\n[tfdist] started again\nthe second\n"
    assert [len(starts(tmp_path, task)) for task in ("chief:0", "worker:0", "ps:0")] == [1, 1, 1]


def test_the_restarts_of_all_workers_together_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = """
    if task["type"] == "worker" and starts == 1:
        sys.exit(3)
    if name == "worker:1":
        open("back", "w")
    if name == "worker:0":
        until("back")
        sys.exit(4)
    time.sleep(60)
    """
    ran = run(tmp_path, monkeypatch, body, max_restarts=2)
    assert ran.result.returncode == 4
    assert ran.result.restarts == 2
    assert [len(starts(tmp_path, f"worker:{n}")) for n in range(2)] == [2, 2]
    assert "(2 of 2)" in ran.err


def test_without_restarts_a_failed_worker_ends_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = 'sys.exit(3) if name == "worker:0" else time.sleep(60)'
    ran = run(tmp_path, monkeypatch, "\n    " + body, max_restarts=0)
    assert ran.result.returncode == 3
    assert "again" not in ran.err


@pytest.mark.parametrize("task", ["chief:0", "ps:0"])
def test_a_failed_chief_or_ps_ends_the_job_and_is_named(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = f"""
    if name == "{task}":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)
    """
    ran = run(tmp_path, monkeypatch, body)
    assert ran.result.returncode == 137
    assert ran.result.failure is not None
    assert str(ran.result.failure.task) == task
    assert f"the first failure: {task} was ended by SIGKILL" in ran.err
    assert ran.result.restarts == 0


@pytest.mark.parametrize("code", [64, 69])
def test_a_worker_that_cannot_do_better_is_not_started_again(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = f'\n    sys.exit({code}) if name == "worker:1" else time.sleep(60)'
    ran = run(tmp_path, monkeypatch, body)
    assert ran.result.returncode == code
    assert len(starts(tmp_path, "worker:1")) == 1


def test_the_chief_is_the_first_failure_where_its_servers_ended_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = """
    class UnavailableError(Exception): pass
    if name == "chief:0":
        time.sleep(0.5)
        raise UnavailableError("lost a server of another machine")
    sys.exit(75)
    """
    ran = run(tmp_path, monkeypatch, body)
    assert ran.result.failure is not None
    assert ran.result.failure.task == Task("chief", 0)
    assert ran.result.restarts == 0


def test_the_restarted_worker_is_ended_with_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = """
    if name == "worker:1" and starts == 1:
        sys.exit(1)
    if name == "worker:1":
        open("back", "w")
    if name == "chief:0":
        until("back")
        sys.exit(9)
    time.sleep(60)
    """
    ran = run(tmp_path, monkeypatch, body)
    assert ran.result.returncode == 9
    assert ran.returncodes["worker:1"] == -signal.SIGTERM
    assert not any(map(is_alive, starts(tmp_path, "worker:1")))


def test_a_restarted_workers_failure_is_told_from_its_predecessors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = """
    if name == "worker:1" and starts == 1:
        raise ValueError("the first time")
    if name == "worker:1":
        print("the second time")
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)
    """
    ran = run(tmp_path, monkeypatch, body, max_restarts=1)
    assert ran.result.failure is not None
    assert ran.result.failure.excerpt == ("the second time",)


def test_another_job_is_started_again_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = """
    print(os.environ["TF_CONFIG"])
    if starts == 1:
        sys.stdout.flush()
        if name == "worker:0":
            Path("said").touch()
        until("said")  # else worker:0 may be ended before
        raise ValueError("the first time") if name == "worker:1" else time.sleep(60)
    """
    ran = run(tmp_path, monkeypatch, body, counts={"workers": 2}, max_restarts=1)
    assert ran.result.returncode == 0
    assert ran.result.restarts == 1
    assert "ValueError: the first time" in ran.err
    assert "worker:1 ended with exit code 1" in ran.err
    assert "; starting all tasks again (1 of 1)" in ran.err
    for worker in range(2):
        said = [line for line in ran.out.splitlines() if line.startswith(f"[worker:{worker}] {{")]
        assert len(said) == 2
        assert len(set(said)) == 1  # the same ports


def test_a_job_that_is_not_to_be_started_again_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = run(tmp_path, monkeypatch, "\n    sys.exit(64)", counts={"workers": 2}, max_restarts=5)
    assert ran.result.returncode == 64
    assert ran.result.restarts == 0


def test_ctrl_c_is_no_reason_to_start_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = f"\n    os.kill({os.getpid()}, signal.SIGINT)\n    time.sleep(60)"
    ran = run(tmp_path, monkeypatch, body, counts={"workers": 1}, max_restarts=5)
    assert ran.result.returncode == 130
    assert len(starts(tmp_path, "worker:0")) == 1


def test_a_negative_number_of_restarts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="max_restarts of -1; give 0 or more"):
        run_script(tmp_path, "", max_restarts=-1)


def test_a_restarted_worker_outlives_its_launcher_no_more_than_others(tmp_path: Path) -> None:
    body = """
        if name == "worker:0" and not os.path.exists("first"):
            open("first", "w")
            sys.exit(1)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        with open(f"{name}.pids", "w") as file:
            print(os.getpid(), child.pid, file=file)
        time.sleep(60)
    """
    script = write_script(tmp_path, body)
    launcher = subprocess.Popen(
        [sys.executable, "-m", "tfdist", "run", "--workers", "1", "--ps", "1", str(script)],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        told = tmp_path / "worker:0.pids"
        pids = wait_until(lambda: told.exists() and told.read_text().split(), 20)
        assert all(is_alive(int(pid)) for pid in pids)
    finally:
        launcher.kill()
        launcher.wait(timeout=10)
    wait_until(lambda: not any(is_alive(int(pid)) for pid in pids), 5)


def test_an_evaluator_is_waited_for_after_the_servers(tmp_path: Path) -> None:
    script = write_script(tmp_path, 'time.sleep(1.5 if task["type"] == "evaluator" else 0)')
    out, err = io.StringIO(), io.StringIO()
    with local_cluster(workers=1, ps=1) as cluster:
        tasks = (*cluster.tasks, Task("evaluator", 0))
        result = run_job(
            [str(script)],
            cluster,
            tasks=tasks,
            log_dir=tmp_path / "logs",
            grace=0.2,
            out=out,
            err=err,
        )
    assert result.returncode == 0
    assert err.getvalue().count("waiting for evaluator:0, which ends by itself") == 1


def ended(name: str, returncode: int, *, stopped: bool = False) -> TaskResult:
    return TaskResult(Task.parse(name), returncode, Path("log"), 0.0, 1.0, stopped)


@pytest.mark.parametrize(
    ("result", "mended"),
    [
        (ended("worker:0", -signal.SIGKILL), True),
        (ended("worker:0", 1), True),
        (ended("worker:0", 0), False),
        (ended("worker:0", 64), False),
        (ended("worker:0", 69), False),
        (ended("worker:0", 75), False),
        (ended("worker:0", -signal.SIGTERM, stopped=True), False),
        (ended("chief:0", 1), False),
        (ended("ps:0", -signal.SIGKILL), False),
    ],
)
def test_what_a_restart_of_one_task_mends(result: TaskResult, mended: bool) -> None:
    assert Restarts.of(None, has_servers=True).mends_alone(result) == mended
    assert not Restarts.of(0, has_servers=True).mends_alone(result)
    assert not Restarts.of(9, has_servers=False).mends_alone(result)


def test_what_a_restart_of_all_tasks_mends() -> None:
    restarts = Restarts.of(1, has_servers=False)
    assert restarts.mends_all(ended("worker:0", 1))
    assert restarts.mends_all(ended("worker:0", 75))
    assert not restarts.mends_all(ended("worker:0", 64))
    restarts.used = 1
    assert not restarts.mends_all(ended("worker:0", 1))
    assert not Restarts.of(None, has_servers=False).mends_all(ended("worker:0", 1))
    assert not Restarts.of(None, has_servers=True).mends_all(ended("ps:0", 1))


def test_a_job_whose_chief_has_ended_well_is_not_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that has just come back is ended with it, which is no failure."""
    body = """
    if name == "worker:0" and starts == 1:
        sys.exit(3)
    if name == "worker:0":
        open("back", "w")
    if name == "chief:0":
        until("back")
        sys.exit(0)
    time.sleep(60)
    """
    ran = run(tmp_path, monkeypatch, body, max_restarts=4, grace=0.5)
    assert ran.result.returncode == 0
    assert ran.result.restarts == 1
    assert "starting all tasks again" not in ran.err


DEAF = """
    signs = os.environ["TFDIST_SAVES"]
    if starts == 1:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        Path(f"{name}.deaf").touch()
        if name == "worker:1":
            until("worker:0.deaf")
            os.kill(os.getpid(), signal.SIGKILL)
        WRITE
        time.sleep(60)
"""


def test_where_all_begin_again_nobody_waits_for_those_that_take_long_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = DEAF.replace("WRITE", "pass")
    ran = run(tmp_path, monkeypatch, body, counts={"workers": 2}, max_restarts=1, grace=30)
    assert ran.result.returncode == 0
    assert ran.seconds < 10


def test_a_checkpoint_that_is_being_written_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = """open(f"{signs}.writes", "w")
        time.sleep(3)
        Path("written").touch()
        os.remove(f"{signs}.writes")"""
    body = DEAF.replace("WRITE", write)
    ran = run(tmp_path, monkeypatch, body, counts={"workers": 2}, max_restarts=1, grace=30)
    assert ran.result.returncode == 0
    assert (tmp_path / "written").exists()
    assert 3 < ran.seconds < 15
    assert not list((tmp_path / "logs").glob(".*"))  # no sign is left


def test_without_another_start_the_grace_is_the_graces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = DEAF.replace("WRITE", "pass")
    ran = run(tmp_path, monkeypatch, body, counts={"workers": 2}, grace=3)
    assert ran.result.returncode == 137
    assert ran.seconds > 3
