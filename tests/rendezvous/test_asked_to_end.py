"""A server that is sent a signal to end tells the chief, which saves first where it trains."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest

from tests.rendezvous.meeting import a_cluster, come
from tests.rendezvous.test_membership import door, met, until
from tfdist.environments import LAUNCHED_VARIABLE
from tfdist.rendezvous import session as session_of_a_server
from tfdist.rendezvous.agreement import Agreement
from tfdist.rendezvous.session import Session

pytestmark = pytest.mark.timeout(40)

PS = """
import sys
from tfdist.cluster import Cluster
from tfdist.rendezvous.agreement import meet
agreement = meet(Cluster.from_environment(), timeout=20, stay=True)
print("here", flush=True)
agreement.wait_for_the_end()
print("the end", flush=True)
"""


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for each time that this process would have ended by SIGTERM."""
    times: list[str] = []
    monkeypatch.setattr(session_of_a_server, "_end_by_signal", lambda: times.append("ended"))
    return times


def session_of(agreement: Agreement) -> Session:
    assert agreement.session is not None
    return agreement.session


def test_a_server_whose_job_saves_nothing_ends_by_sigterm_at_once() -> None:
    with a_cluster(1, ps=1) as cluster:
        ps = subprocess.Popen(
            [sys.executable, "-c", PS],
            env={**os.environ, "TF_CONFIG": cluster.to_tf_config("ps:0")},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            coming = [come(cluster, task, stay=True) for task in ("chief:0", "worker:0")]
            chief, worker = (one.join().agreement for one in coming)
            assert ps.stdout is not None
            assert ps.stdout.readline() == "here\n"
            until(lambda: cluster.tasks[2] in door({"chief:0": chief})._serving)
            ps.send_signal(signal.SIGUSR1)
            assert ps.communicate(timeout=20)[0] == ""
            assert ps.returncode == -signal.SIGTERM
            until(lambda: [str(one) for one in door({"chief:0": chief}).absent()] == ["ps:0"])
            assert door({"chief:0": chief}).asked_by == ""
        finally:
            ps.kill()
            ps.communicate(timeout=10)
            session_of(worker).close()
            door({"chief:0": chief}).close(well=False)


def test_a_job_that_saves_is_told_which_signal_came_to_which_server(ended: list[str]) -> None:
    with met() as (_, _, agreements):
        door(agreements).saves = True
        with session_of(agreements["ps:0"]).asking_to_end():
            signal.raise_signal(signal.SIGUSR2)
        until(lambda: door(agreements).asked_by)
        assert door(agreements).asked_by == "SIGUSR2 to ps:0"
        door(agreements).close(well=True)
        agreements["ps:0"].wait_for_the_end()  # it has stayed until the job has ended
    assert ended == []


@pytest.mark.parametrize("launched", [False, True])
def test_ctrl_c_is_told_by_tasks_of_a_launcher_alone(
    launched: bool, ended: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand it ends this task; a launcher hands it on to all of them, of which none may die."""
    if launched:
        monkeypatch.setenv(LAUNCHED_VARIABLE, "1")
    with met() as (_, _, agreements):
        door(agreements).saves = True
        with session_of(agreements["ps:0"]).asking_to_end():
            if not launched:
                with pytest.raises(KeyboardInterrupt):
                    signal.raise_signal(signal.SIGINT)
                return
            signal.raise_signal(signal.SIGINT)
        until(lambda: door(agreements).asked_by == "SIGINT to ps:0")


def test_who_is_to_end_and_has_no_chief_any_more_ends(ended: list[str]) -> None:
    with met() as (_, _, agreements):
        session = session_of(agreements["ps:0"])
        session.connection.close()
        with session.asking_to_end():
            signal.raise_signal(signal.SIGTERM)
        assert ended == ["ended"]


def test_who_was_to_end_and_loses_its_chief_blames_nobody(
    ended: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ended(BaseException):
        pass

    def end() -> None:
        raise Ended

    with met() as (_, _, agreements):
        door(agreements).saves = True
        session = session_of(agreements["ps:0"])
        with session.asking_to_end():
            signal.raise_signal(signal.SIGTERM)
        until(lambda: door(agreements).asked_by)
        monkeypatch.setattr(session_of_a_server, "_end_by_signal", end)
        ps = next(task for task in door(agreements).members if str(task) == "ps:0")
        door(agreements).members[ps][0].socket.shutdown(socket.SHUT_RDWR)
        with pytest.raises(Ended):
            session.wait()
