"""Jobs on Slurm itself, of two nodes: disturbed or not, they end with the bits of one process."""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, RunJob
from tests.elastic.seen import check_trained_alike, steps_of_chiefs
from tests.launch.support import wait_until
from tests.recovery.watched_command import WatchedCommand
from tests.submit.slurm_cluster import SlurmCluster, reason_against, slurm_cluster

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(900)]
SCRIPT = ROOT / "tests" / "elastic" / "resized.py"
STEPS, HELD = 28, 9  # an epoch has 7
VIRTUAL = {"VIRTUAL": "4"}  # any number of workers has the same bits
TFDIST = [sys.executable, "-m", "tfdist"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    if reason := reason_against():
        pytest.skip(reason)
    with slurm_cluster(tmp_path_factory.mktemp("slurm"), 2) as made:
        yield made


@pytest.fixture(scope="module")
def undisturbed(
    cluster: SlurmCluster, run_job: RunJob, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a job of one process."""
    folder = tmp_path_factory.mktemp("one")
    ran = run_job(["--threads", 1, SCRIPT, folder], env=VIRTUAL)
    assert ran.returncode == 0, ran.stderr
    return folder


@pytest.fixture(autouse=True)
def _as_users_have_it(cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """What sbatch and srun hand on to the tasks."""
    monkeypatch.setenv("VIRTUAL", VIRTUAL["VIRTUAL"])


class Submitted:
    """A job that `tfdist submit slurm` has handed in, and follows."""

    def __init__(self, cluster: SlurmCluster, folder: Path, *options: str) -> None:
        words = ["submit", "slurm", "--nodes", 2, *options, "run", "--threads", 1, SCRIPT, folder]
        self._cluster, self._folder = cluster, folder
        self.command = WatchedCommand(cluster.on("control", [*TFDIST, *words]), folder)

    @property
    def number(self) -> str:
        """Of the job, as Slurm counts."""
        self.command.find("is in the queue", 90)
        return self.command.output.partition("[tfdist] job ")[2].split()[0]

    def wait_until_it_is_held(self) -> None:
        """Waits until it is in the middle of an epoch."""
        wait_until(lambda: HELD in steps_of_chiefs(self._folder), 180)

    def let_go(self, signal: str) -> None:
        """Has it go on once it knows that it is to end, as one whose steps or saving are slow."""
        self.command.find(f"{signal}: ending worker:0", 90)
        time.sleep(8)
        (self._folder / "hold").unlink()

    def has_gone_on(self) -> None:
        """Checks that it ends well, having saved all that it had learnt."""
        code, _ = self.command.end()
        said = self.command.output
        assert code == 0, said
        assert "has asked for the end: all is saved as of epoch 2, step " in said, said
        assert re.search("resuming after epoch 1 and [345] steps", said), said
        assert "COMPLETED, exit code 0, started again 1 times" in said, said
        steps = Counter(steps_of_chiefs(self._folder))  # each of the two virtual replicas' once
        assert steps == dict.fromkeys(range(STEPS), 2), said


Submit = Callable[..., Submitted]


@pytest.fixture
def submit(cluster: SlurmCluster, tmp_path: Path) -> Iterator[Submit]:
    jobs: list[Submitted] = []

    def begin(*options: str) -> Submitted:
        jobs.append(Submitted(cluster, tmp_path, *options))
        return jobs[-1]

    yield begin
    for job in jobs:
        job.command.kill()


@pytest.fixture
def held(submit: Submit, tmp_path: Path) -> Submit:
    """Hands a job in that waits in the middle of an epoch."""

    def begin(*options: str) -> Submitted:
        (tmp_path / "hold").touch()
        job = submit(*options)
        job.wait_until_it_is_held()
        return job

    return begin


def test_a_job_of_two_nodes_trains_as_one_process_does(
    submit: Submit, tmp_path: Path, undisturbed: Path
) -> None:
    job = submit("--time", "10:00")
    assert job.command.end()[0] == 0, job.command.output
    assert "has ended: COMPLETED, exit code 0" in job.command.output
    check_trained_alike(tmp_path, undisturbed)


def test_a_job_that_is_requeued_goes_on_in_the_middle_of_an_epoch(
    held: Submit,
    cluster: SlurmCluster,
    tmp_path: Path,
    undisturbed: Path,
) -> None:
    job = held("--time", "10:00")
    cluster.ask("scontrol", "requeue", job.number)
    job.let_go("SIGTERM")
    cluster.start_again(job.number)
    job.has_gone_on()
    check_trained_alike(tmp_path, undisturbed)


def test_a_job_whose_time_is_up_goes_on_in_the_middle_of_an_epoch(
    held: Submit,
    cluster: SlurmCluster,
    tmp_path: Path,
    undisturbed: Path,
) -> None:
    """Slurm looks at limits every half minute; this one is shortened, so as to come soon."""
    began = time.monotonic()
    job = held("--time", "10:00", "--signal_before", "60")
    limit = 2 + int(time.monotonic() - began) // 60
    cluster.ask("scontrol", "update", f"JobId={job.number}", f"TimeLimit={limit}")
    job.let_go("SIGUSR1")
    cluster.start_again(job.number, TimeLimit=10)
    job.has_gone_on()
    check_trained_alike(tmp_path, undisturbed)


@pytest.mark.parametrize("partition", ["patient", "warned"])
def test_a_job_that_is_preempted_goes_on_in_the_middle_of_an_epoch(
    partition: str,
    held: Submit,
    cluster: SlurmCluster,
    tmp_path: Path,
    undisturbed: Path,
) -> None:
    job = held(f"--sbatch=--partition={partition}")
    urgent = ["--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null"]
    other = cluster.ask("sbatch", "--parsable", *urgent, "--wrap", "sleep 5").strip()
    job.let_go("SIGTERM")
    wait_until(lambda: cluster.state(other) == "COMPLETED", 180)
    cluster.start_again(job.number)
    job.has_gone_on()
    check_trained_alike(tmp_path, undisturbed)


@pytest.mark.parametrize("by", [["python"], ["tfdist", "run"]])
def test_srun_alone_trains_as_one_process_does(
    by: list[str], cluster: SlurmCluster, tmp_path: Path, undisturbed: Path
) -> None:
    command = [*TFDIST, "run"] if by == ["tfdist", "run"] else [sys.executable]
    cluster.ask("srun", "--nodes=2", f"--chdir={tmp_path}", *command, SCRIPT, tmp_path, seconds=240)
    check_trained_alike(tmp_path, undisturbed)
    assert {path.name.split("-")[1] for path in (tmp_path / "seen").iterdir()} == {
        "worker:0",
        "worker:1",
    }
