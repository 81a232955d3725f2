"""A task that is stopped before anybody has met it: only its launcher knows."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.launch.support import run_script
from tfdist.launch import stopped_tasks

pytestmark = pytest.mark.timeout(60)
STOPS = """
if name == sys.argv[1] and not os.path.exists("been"):
    open("been", "w").close()
    os.kill(os.getpid(), signal.SIGSTOP)
elif not os.path.exists("been") or len(sys.argv) > 2:
    time.sleep(float(sys.argv[-1]))
"""


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(stopped_tasks, "_QUIET_SECONDS", 1.0)
    monkeypatch.setattr(stopped_tasks, "_NAMED_SECONDS", 0.5)
    monkeypatch.setattr(stopped_tasks, "_LOOK_SECONDS", 0.1)
    monkeypatch.setenv("TFDIST_STALL_TIMEOUT", "2")
    monkeypatch.chdir(tmp_path)


def test_it_is_named_and_the_job_ends_as_after_a_lost_task(tmp_path: Path) -> None:
    ran = run_script(tmp_path, STOPS, "worker:0", "50")
    assert ran.result.returncode == 75, ran.err
    assert ran.seconds < 20
    assert re.search(r"worker:0 is stopped \(SIGSTOP\) for \d s: the others wait for it", ran.err)
    ended = r"the first failure: worker:0 was stopped \(SIGSTOP\) for \d s, and ended by"
    assert re.search(ended, ran.err)


def test_the_job_is_started_again_where_restarts_are_left(tmp_path: Path) -> None:
    ran = run_script(tmp_path, STOPS, "worker:1", "1", max_restarts=1)
    assert ran.result.returncode == 0, ran.err
    assert "starting all tasks again (1 of 1)" in ran.err


def test_a_worker_of_parameter_servers_is_replaced(tmp_path: Path) -> None:
    counts = {"workers": 1, "ps": 1}
    ran = run_script(tmp_path, STOPS, "worker:0", "x", "5", counts=counts, max_restarts=1)
    assert ran.result.returncode == 0, ran.err
    ended = r"was stopped \(SIGSTOP\) for \d s, and ended by tfdist \(exit code 75\); starting it"
    assert re.search(ended, ran.err)


def test_a_task_alone_may_be_stopped_for_as_long_as_one_likes(tmp_path: Path) -> None:
    body = """
        if os.fork() == 0:
            parent = os.getppid()
            time.sleep(3)
            os.kill(parent, signal.SIGCONT)
            os._exit(0)
        os.kill(os.getpid(), signal.SIGSTOP)
    """
    ran = run_script(tmp_path, body, counts={"workers": 1}, environ=dict(os.environ))
    assert ran.result.returncode == 0, ran.err
    assert "SIGSTOP" not in ran.err
