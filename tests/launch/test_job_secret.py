"""The launcher hands each job a secret, by the tasks' environment and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.launch.support import run_script
from tfdist.cluster import Cluster, Task
from tfdist.errors import ClusterError
from tfdist.launch import Job, make_plan
from tfdist.launch.job_secret import secret_variables

LOCAL = Cluster.local(2, ports=(4001, 4002))
WORD = "a word of 16 characters or more"
TELL = """
words = [open(f"/proc/{pid}/cmdline").read() for pid in os.listdir("/proc") if pid.isdigit()]
secret = os.environ["TFDIST_SECRET"]
assert not any(secret in line for line in words)
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
