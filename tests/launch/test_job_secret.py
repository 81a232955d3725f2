"""The launcher hands each job a secret, by the tasks' environment and nowhere else."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launch.support import run_script, write_script
from tfdist.cluster import Cluster, Task
from tfdist.errors import ClusterError
from tfdist.launch import Job, make_plan
from tfdist.launch.job_secret import secret_variables
from tfdist.machine.ports import Reservation

pytestmark = pytest.mark.timeout(60)

LOCAL = Cluster.local(2, ports=(4001, 4002))
WORD = "a word of 16 characters or more"
TELL = """
secret = os.environ["TFDIST_SECRET"]
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        line = open(f"/proc/{pid}/cmdline").read()
    except OSError:
        continue  # it has ended
    assert secret not in line
with open(sys.argv[1], "a") as file:
    file.write(secret + "\\n")
"""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux")
def test_the_tasks_of_a_job_share_a_secret_that_no_other_job_has(tmp_path: Path) -> None:
    told = tmp_path / "secrets"
    texts = ""
    for number in (1, 2):
        ran = run_script(tmp_path, TELL, str(told), isolate="off", log_dir=tmp_path / str(number))
        assert ran.result.returncode == 0, ran.out
        logs = (tmp_path / str(number)).iterdir()
        texts += ran.out + ran.err + "".join(log.read_text() for log in logs)
    words = told.read_text().split()
    assert len(words) == 4
    assert [words.count(word) for word in words] == [2] * 4
    assert not any(word in texts for word in words)


def test_only_who_starts_all_tasks_makes_one() -> None:
    whole = make_plan(["x.py"], LOCAL, environ={})
    part = make_plan(["x.py"], LOCAL, tasks=[Task("worker", 1)], environ={})
    assert len(secret_variables(whole, {})["TFDIST_SECRET"]) == 64
    assert secret_variables(whole, {}) != secret_variables(whole, {})
    assert secret_variables(part, {}) == {}
    evaluated = Cluster({**LOCAL.jobs, "evaluator": ("127.0.0.1:4003",)})
    trained = make_plan(["x.py"], evaluated, tasks=evaluated.tasks[:2], environ={})
    assert secret_variables(trained, {})


def test_the_users_own_is_handed_on(tmp_path: Path) -> None:
    plan = make_plan(["x.py"], LOCAL, environ={})
    file = tmp_path / "secret"
    file.write_text(WORD)
    file.chmod(0o600)
    assert secret_variables(plan, {"TFDIST_SECRET": WORD}) == {}
    assert secret_variables(plan, {"TFDIST_SECRET_FILE": str(file)}) == {}
    assert secret_variables(plan, {"TFDIST_SECRET": ""})


def test_a_secret_that_is_none_is_refused_before_anything_starts() -> None:
    with pytest.raises(ClusterError, match="secret of 5 characters"):
        Job(make_plan(["x.py"], LOCAL, environ={}), environ={"TFDIST_SECRET": "short"})


def test_a_dry_run_tells_none() -> None:
    assert "SECRET" not in make_plan(["x.py"], LOCAL, environ={"TFDIST_SECRET": WORD}).shell()


MEET = """
from tfdist.cluster import Cluster
from tfdist.rendezvous.agreement import meet
assert meet(Cluster.from_environment(), timeout=float(sys.argv[1])).seed >= 0
"""


@pytest.mark.parametrize("same", [True, False])
def test_tasks_that_are_started_one_by_one_take_it_from_a_file(tmp_path: Path, same: bool) -> None:
    script = write_script(tmp_path, MEET)
    for number, word in enumerate((WORD, WORD if same else f"{WORD}, another")):
        file = tmp_path / f"secret-{number}"
        file.write_text(word + "\n")
        file.chmod(0o600)
    with Reservation(2) as reservation:
        workers = [f"127.0.0.1:{port}" for port in reservation.ports]
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps({"cluster": {"worker": workers}}))
    with contextlib.ExitStack() as stack:
        launchers = []
        for number in (0, 1):
            task = ["--cluster", str(spec), "--task", f"worker:{number}", "--log_dir", f"l{number}"]
            timeout = "20" if same or number == 1 else "4"
            launcher = subprocess.Popen(
                [sys.executable, "-m", "tfdist", "run", *task, str(script), timeout],
                cwd=tmp_path,
                env={
                    **os.environ,
                    "TFDIST_SECRET_FILE": str(tmp_path / f"secret-{number}"),
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            stack.callback(launcher.kill)
            launchers.append(launcher)
        told = [launcher.communicate(timeout=40)[0] for launcher in launchers]
    codes = [launcher.returncode for launcher in launchers]
    assert [bool(code) for code in codes] == [not same, not same], told
    if not same:
        how = "came with another secret than worker:0's; give every task the same TFDIST_SECRET or"
        assert how in told[1]
        assert "worker:1 (127.0.0.1:" in told[0]
        assert "did not come within 4 s" in told[0]
    assert not any(WORD in text for text in told)
