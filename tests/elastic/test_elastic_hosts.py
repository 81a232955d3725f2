"""Elastic jobs over hosts that are lost, cut off and found again: the bits of one process."""

from __future__ import annotations

import functools
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import RunJob
from tests.elastic.changing_sizes import SCRIPT
from tests.elastic.launchers import Launchers
from tests.elastic.seen import check_trained_alike
from tfdist.diagnose.namespace_hosts import Hosts, reason_against
from tfdist.launch.crew.front_door import SILENCE

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(600)]
PLACES = ["worker:0", "worker:1", "worker:2"]
THREADS, VIRTUAL = ["--threads", 1], {"VIRTUAL": "4"}


@functools.cache
def reason() -> str:
    return reason_against()


@pytest.fixture(scope="module")
def undisturbed(run_job: RunJob, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a job of one process."""
    if reason():
        pytest.skip(reason())
    folder = tmp_path_factory.mktemp("one")
    ran = run_job([*THREADS, SCRIPT, folder], env=VIRTUAL)
    assert ran.returncode == 0, ran.stderr
    return folder


@pytest.fixture
def hosts(undisturbed: Path) -> Iterator[Hosts]:
    with Hosts(3) as made:
        yield made


@pytest.fixture
def job(hosts: Hosts, tmp_path: Path) -> Iterator[Launchers]:
    """Three hosts that train, and have saved something."""
    options = ["--workers", "1:3", "--settle", 2, "--grace", 2, "--rendezvous_timeout", 60]
    command = [SCRIPT, tmp_path]
    env = {**VIRTUAL, "PAUSE": "1"}
    with Launchers(tmp_path, PLACES, [*options, *THREADS], command, env, hosts) as launchers:
        for place in PLACES:
            launchers.start(place)
        launchers.wait_for("worker:0", "3 workers: starting", 180)
        saved = tmp_path / "run"
        launchers.wait_until(lambda: bool(list(saved.glob("*.keras"))), "saved", 180)
        yield launchers


def test_a_lost_host_and_one_that_comes_for_it(
    job: Launchers, hosts: Hosts, undisturbed: Path
) -> None:
    """Its power goes; the same command is given on it when it is back."""
    hosts.cut(1)
    job.send("worker:1", signal.SIGKILL)
    job.wait_for("worker:0", "going on with 2 of 3 workers", SILENCE + 20)
    job.wait_for("worker:0", "resuming after epoch", 180)
    hosts.mend(1)
    job.start("worker:1")
    job.wait_for("worker:0", "worker:1 can take part: all save, and go on with 3", 90)
    job.wait_for("worker:0", "resuming after epoch", 180, times=2)
    for place in PLACES:
        assert job.end(place, 240) == 0, job.all_said
    check_trained_alike(job.folder, undisturbed)


def test_a_host_that_is_cut_off_and_found_again(
    job: Launchers, hosts: Hosts, undisturbed: Path
) -> None:
    """Nobody has to do anything on it."""
    hosts.cut(2)
    job.wait_for("worker:0", "going on with 2 of 3 workers", SILENCE + 20)
    job.wait_for("worker:2", "is gone", SILENCE + 20)
    job.wait_for("worker:0", "resuming after epoch", 180)
    hosts.mend(2)
    job.wait_for("worker:0", "worker:2 can take part: all save, and go on with 3", 90)
    job.wait_for("worker:0", "resuming after epoch", 180, times=2)
    for place in PLACES:
        assert job.end(place, 240) == 0, job.all_said
    check_trained_alike(job.folder, undisturbed)


def test_a_host_that_is_cut_off_for_good(job: Launchers, hosts: Hosts, undisturbed: Path) -> None:
    """The others end well without it; it ends, too, and says whom it has not found again."""
    hosts.cut(1)
    job.wait_for("worker:0", "going on with 2 of 3 workers", SILENCE + 20)
    for place in ("worker:0", "worker:2"):
        assert job.end(place, 240) == 0, job.all_said
    assert job.end("worker:1", 240) == 75, job.all_said
    assert "the job has ended: no launcher of the chief at 10.78.0.1:" in job.said("worker:1")
    check_trained_alike(job.folder, undisturbed)
