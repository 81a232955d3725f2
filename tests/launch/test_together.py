"""What the launcher says of tasks that do not work together, and of what they leave behind."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.launch.support import is_alive, run_script
from tfdist.cluster import Cluster, Task
from tfdist.launch.presence import Presence
from tfdist.launch.task_process import REMAINS_SECONDS

pytestmark = pytest.mark.timeout(60)
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
EVALUATOR = {"chief": True, "evaluator": True}
LISTEN = """
    import socket
    def listen():
        address = json.loads(os.environ["TF_CONFIG"])["cluster"][task["type"]][task["index"]]
        server = socket.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind(("", int(address.split(":")[1])))
        server.listen()
        time.sleep(3)
"""


@linux
def test_tasks_that_never_came_together_are_named(tmp_path: Path) -> None:
    ran = run_script(tmp_path, 'print("trained")')
    assert ran.result.returncode == 0  # whether it has trained, nobody but the script knows
    assert [str(task) for task in ran.result.alone] == ["worker:0", "worker:1"]
    assert "[tfdist] NO STRATEGY was made by worker:0, worker:1: each has run the whole" in ran.err
    assert "make tfdist.strategy() at its top, or run it with --plug" in ran.err


@linux
def test_one_task_that_stayed_away_is_named(tmp_path: Path) -> None:
    ran = run_script(tmp_path, LISTEN + '    if name == "worker:0": listen()')
    assert [str(task) for task in ran.result.alone] == ["worker:1"]
    assert "NO STRATEGY was made by worker:1: it has run the whole script by itself" in ran.err


@pytest.mark.parametrize(
    ("body", "counts"),
    [
        (LISTEN + "    listen()", {"workers": 2}),
        ("", {"workers": 1}),
        (LISTEN + '    if task["type"] != "evaluator": listen()', EVALUATOR),
    ],
)
def test_tasks_that_came_together_and_those_that_are_alone_are_not(
    body: str, counts: dict[str, Any], tmp_path: Path
) -> None:
    ran = run_script(tmp_path, body, counts=counts)
    assert ran.result.returncode == 0
    assert ran.result.alone == ()
    assert "NO STRATEGY" not in ran.err


def test_a_job_that_failed_is_told_why_and_nothing_else(tmp_path: Path) -> None:
    ran = run_script(tmp_path, "sys.exit(3)")
    assert "NO STRATEGY" not in ran.err
    assert ran.result.alone == ()


def test_where_the_system_does_not_tell_nobody_is_accused(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(process: str) -> set[int]:
        raise FileNotFoundError

    monkeypatch.setattr("tfdist.launch.presence._listening", unknown)
    cluster = Cluster({"worker": ("127.0.0.1:41001", "127.0.0.1:41002")})
    presence = Presence(cluster, cluster.tasks)
    assert presence.absent() == cluster.tasks
    presence.look()
    assert presence.absent() == ()


@linux
def test_what_a_script_leaves_running_is_named_before_it_is_ended(tmp_path: Path) -> None:
    body = """
        if name == "worker:0":
            away = "import time, os; os.setsid(); open('away', 'w'); time.sleep(60)"
            for code in ("import time; time.sleep(61)", away):
                child = subprocess.Popen([sys.executable, "-c", code])
                print(child.pid)
            while not os.path.exists("away"):
                time.sleep(0.02)
    """
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        ran = run_script(tmp_path, body)
    finally:
        os.chdir(before)
    here, away = [int(line.split()[-1]) for line in ran.out.splitlines()]
    assert f"worker:0 has ended and left a process running, ended now: {here} (" in ran.err
    assert "time.sleep(61)" in ran.err
    assert f"the job has ended and left a process running, ended now: {away} (" in ran.err
    assert not is_alive(here)
    assert not is_alive(away)
    assert REMAINS_SECONDS <= ran.seconds < 20


# A chief that fails, and servers that end by its word before it has ended itself.
FAILING = """
    if name != "chief:0":
        time.sleep(0.2)
        sys.exit(75)
    import traceback
    try:
        raise ValueError("shapes differ")
    except ValueError:
        traceback.print_exc()
    sys.stderr.flush()
    {slowly}
    sys.exit(1)
"""


def test_a_chief_that_fails_is_waited_for_however_long_it_takes_to_end(tmp_path: Path) -> None:
    body = FAILING.format(slowly="time.sleep(4)")
    ran = run_script(tmp_path, body, counts={"workers": 2, "ps": 1})
    assert ran.result.returncode == 1
    assert ran.returncodes["chief:0"] == 1
    assert "the first failure: chief:0 ended with exit code 1 after" in ran.err
    assert "[tfdist]   ValueError: shapes differ\n" in ran.err
    lost = "then worker:0, worker:1, ps:0 ended, having lost another task (exit code 75)"
    assert ran.err.count("exit code 75") == 1
    assert lost in ran.err
    assert "start the job again" not in ran.err


def test_a_task_that_had_to_be_ended_while_it_failed_counts_as_failed(tmp_path: Path) -> None:
    body = FAILING.format(slowly="signal.pause()").replace("chief:0", "worker:1")
    ran = run_script(tmp_path, body)
    assert ran.returncodes["worker:1"] == -signal.SIGTERM
    assert ran.result.returncode == 1
    assert "the first failure: worker:1 failed by ValueError (exit code 1; it took" in ran.err


def test_a_task_lost_by_one_that_had_ended_well_is_no_reason_to_start_again(tmp_path: Path) -> None:
    body = """
        if name == "worker:1":
            time.sleep(0.5)
            print("tfdist.errors.TaskLost: worker:1 lost another task")
            sys.exit(75)
    """
    ran = run_script(tmp_path, body, max_restarts=3)
    assert ran.result.returncode == 75
    assert ran.result.restarts == 0
    assert "worker:0 had ended well before, so no task was lost: they did not do the" in ran.err
    assert "start the job again" not in ran.err


def test_a_task_that_was_lost_and_still_ran_is_said_to_hang(tmp_path: Path) -> None:
    body = 'sys.exit(75) if name == "worker:0" else time.sleep(60)'
    began = time.monotonic()
    ran = run_script(tmp_path, body)
    assert "no task had ended before: worker:1 still ran, and hung or could not be" in ran.err
    assert ran.result.failure is not None
    assert ran.result.failure.task == Task("worker", 0)
    assert time.monotonic() - began < 20
