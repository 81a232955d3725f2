"""Launchers of several hosts decide together; the scripts know nothing of TensorFlow."""

from __future__ import annotations

import json
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from tests.elastic.launchers import Launchers
from tests.launch.support import is_alive, wait_until, write_script
from tfdist.launch.crew.front_door import SILENCE
from tfdist.rendezvous.messages import MAGIC

pytestmark = pytest.mark.timeout(90)
WORKERS = ["worker:0", "worker:1", "worker:2"]
# Every start of a task adds a line to its own file.
STARTS = """
from pathlib import Path
with open(f"{name}.starts", "a") as file:
    print(os.getpid(), file=file)
starts = len(Path(f"{name}.starts").read_text().split())
print(f"start {starts} of {len(json.loads(os.environ['TF_CONFIG'])['cluster']['worker'])} workers")
sys.stdout.flush()
def until(*files, seconds=40):
    end = time.monotonic() + seconds
    while not all(map(os.path.exists, files)):
        assert time.monotonic() < end, files
        time.sleep(0.02)
"""


def launchers(
    folder: Path, body: str, *options: object, places: list[str] | None = None
) -> Launchers:
    script = write_script(folder, STARTS + body)
    return Launchers(folder, places or WORKERS, ["--grace", 1, *options], [script])


def starts(folder: Path, task: str) -> list[int]:
    path = folder / f"{task}.starts"
    return [int(pid) for pid in path.read_text().split()] if path.exists() else []


def ends(job: Launchers, seconds: float = 20) -> dict[str, int]:
    deadline = time.monotonic() + seconds
    places = sorted(job.all_places)
    return {place: job.end(place, max(0.1, deadline - time.monotonic())) for place in places}


def test_a_killed_task_starts_all_hosts_again_as_one_restart(tmp_path: Path) -> None:
    body = """
if starts == 1:
    if name == "worker:1":
        until("worker:0.starts", "worker:2.starts")
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)
"""
    with launchers(tmp_path, body, "--max_restarts", 1) as job:
        for place in WORKERS:
            job.start(place)
        assert ends(job) == dict.fromkeys(WORKERS, 0), job.all_said
        said = {place: job.said(place) for place in WORKERS}
    assert {place: len(starts(tmp_path, place)) for place in WORKERS} == dict.fromkeys(WORKERS, 2)
    assert "starting all tasks again (1 of 1)" in said["worker:0"]
    for place in ("worker:0", "worker:2"):
        assert "worker:1 was ended by SIGKILL (exit code 137" in said[place]
    assert "the first failure" not in said["worker:2"]


def test_restarts_that_are_used_up_end_all_with_the_reason(tmp_path: Path) -> None:
    body = """
if name == "worker:2":
    until("worker:0.starts", "worker:1.starts")
    raise ValueError("again and again")
time.sleep(60)
"""
    with launchers(tmp_path, body, "--max_restarts", 1) as job:
        for place in WORKERS:
            job.start(place)
        assert ends(job) == dict.fromkeys(WORKERS, 1), job.all_said
        said = {place: job.said(place) for place in WORKERS}
    assert len(starts(tmp_path, "worker:0")) == 2
    for place in WORKERS:
        assert "the job has ended: worker:2 ended with exit code 1" in said[place]
    assert "ValueError: again and again" in said["worker:2"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("time.sleep(60)", 130),
        ('until("go") or sys.exit(64) if name == "worker:1" else time.sleep(60)', 64),
        ('until("go") or sys.exit(69) if name == "worker:1" else time.sleep(60)', 69),
    ],
)
def test_who_gives_up_has_all_others_end_at_once(body: str, code: int, tmp_path: Path) -> None:
    with launchers(tmp_path, body, "--max_restarts", 5) as job:
        for place in WORKERS:
            job.start(place)
        job.wait_until(
            lambda: all(starts(tmp_path, place) for place in WORKERS), "all have started", 20
        )
        began = time.monotonic()
        (tmp_path / "go").touch()
        if code == 130:
            job.send("worker:1", signal.SIGINT)
        assert ends(job) == dict.fromkeys(WORKERS, code), job.all_said
        assert time.monotonic() - began < 8
        reason = "Ctrl-C at worker:1" if code == 130 else f"worker:1 ended with exit code {code}"
        for place in ("worker:0", "worker:2"):
            assert f"the job has ended: {reason}" in job.said(place)
    assert all(len(starts(tmp_path, place)) == 1 for place in WORKERS)


@pytest.mark.parametrize("place", ["worker:1", "worker:0"])
def test_a_host_that_comes_back_is_all_that_it_takes(place: str, tmp_path: Path) -> None:
    """The same command is given again there; the other hosts have waited."""
    body = """
if starts == 1:
    time.sleep(60)
"""
    with launchers(tmp_path, body, "--max_restarts", 3) as job:
        for one in WORKERS:
            job.start(one)
        job.wait_until(
            lambda: all(starts(tmp_path, one) for one in WORKERS), "all have started", 20
        )
        job.send(place, signal.SIGKILL)
        lost = {
            "worker:1": ("worker:0", "[tfdist] waiting for worker:1 (127.0.0.1:"),
            "worker:0": ("worker:2", "is gone: the job cannot go on without it; looking for it"),
        }
        job.wait_for(*lost[place], 20)
        wait_until(lambda: not any(is_alive(starts(tmp_path, one)[0]) for one in WORKERS))
        job.start(place)
        assert ends(job) == dict.fromkeys(WORKERS, 0), job.all_said
    assert {len(starts(tmp_path, one)) for one in WORKERS} == {2}


def test_who_ends_after_the_chief_ends_by_itself(tmp_path: Path) -> None:
    body = 'time.sleep(0 if name == "worker:0" else 3)'
    with launchers(tmp_path, body, "--max_restarts", 3) as job:
        for one in WORKERS:
            job.start(one)
        assert ends(job) == dict.fromkeys(WORKERS, 0), job.all_said
        assert "ending" not in job.said("worker:1") + job.said("worker:2")


def test_who_does_not_come_is_named(tmp_path: Path) -> None:
    options = ["--max_restarts", 1, "--rendezvous_timeout", 3]
    with launchers(tmp_path, "", *options) as job:
        job.start("worker:0")
        job.start("worker:2")
        assert ends(job) == {"worker:0": 69, "worker:2": 69}
        for place in ("worker:0", "worker:2"):
            assert "no launcher of worker:1 (127.0.0.1:" in job.said(place)
    with launchers(tmp_path, "", *options) as job:
        job.start("worker:1")
        assert job.end("worker:1", 20) == 69
        assert "no launcher of the chief at 127.0.0.1:" in job.said("worker:1")


def test_launchers_of_other_options_are_refused(tmp_path: Path) -> None:
    with launchers(tmp_path, "time.sleep(60)", "--max_restarts", 1) as job:
        job.start("worker:0")
        job.start("worker:1", "--max_restarts", 2)
        assert job.end("worker:1", 20) == 64
        assert "another max_restarts (2) than the chief's launcher (1): start" in (
            job.said("worker:1")
        )
        job.send("worker:0", signal.SIGTERM)
        assert job.end("worker:0", 20) == 143


SERVERS = ["chief:0", "worker:0", "worker:1", "ps:0"]


@pytest.mark.parametrize(("lost", "again"), [("worker:1", 1), ("ps:0", 4)])
def test_a_parameter_server_jobs_worker_is_replaced_alone_and_all_else_together(
    lost: str, again: int, tmp_path: Path
) -> None:
    body = f"""
if name == {lost!r} and starts == 1:
    until(*(f"{{one}}.starts" for one in {SERVERS}))
    os.kill(os.getpid(), signal.SIGKILL)
if name == {lost!r}:
    open("back", "w")
if name == "chief:0":
    until("back")
    open("done", "w")
until("done", seconds=80)
"""
    with launchers(tmp_path, body, "--max_restarts", 2, places=SERVERS) as job:
        for place in SERVERS:
            job.start(place)
        assert ends(job, 40) == dict.fromkeys(SERVERS, 0), job.all_said
        assert "again (1 of 2)" in job.said(lost if again == 1 else "chief:0")
    counts: dict[str, Any] = {place: len(starts(tmp_path, place)) for place in SERVERS}
    assert sum(counts.values()) == len(SERVERS) + again


def test_an_elastic_job_grows_and_shrinks_with_its_hosts(tmp_path: Path) -> None:
    """Its script saves nothing: whom it loses it goes on without, and begins from its beginning."""
    body = """
count = len(json.loads(os.environ["TF_CONFIG"])["cluster"]["worker"])
if count == 3:
    time.sleep(60)
"""
    with launchers(tmp_path, body, "--workers", "1:3", "--settle", 2) as job:
        for place in WORKERS:
            job.start(place)
        job.wait_until(
            lambda: all("start 1 of 3 workers" in job.said(one) for one in WORKERS), "all", 20
        )
        job.send("worker:1", signal.SIGKILL)
        assert job.end("worker:0", 20) == 0, job.all_said
        assert job.end("worker:2", 20) == 0, job.all_said
        assert "start 2 of 2 workers" in job.said("worker:0")
        assert "going on with 2 of 3 workers" in job.said("worker:0")
        assert "starting worker:1 (place worker:2)" in job.said("worker:2")


def test_a_place_that_is_not_needed_ends_with_the_job(tmp_path: Path) -> None:
    """Two of three may take part; the third comes while they train, and waits."""
    body = 'until("end")\n'
    with launchers(tmp_path, body, "--workers", "1:2", "--settle", 1) as job:
        job.start("worker:0")
        job.start("worker:1")
        job.wait_for("worker:1", "of 2 workers", 20)
        job.start("worker:2")
        job.wait_for("worker:0", "worker:2 (process", 20)
        (tmp_path / "end").touch()
        assert ends(job) == dict.fromkeys(WORKERS, 0), job.all_said
        assert "the job has ended well, without any task here" in job.said("worker:2")


def test_ctrl_c_while_others_are_waited_for_is_told_to_those_who_are_here(tmp_path: Path) -> None:
    with launchers(tmp_path, "", "--max_restarts", 1) as job:
        job.start("worker:0")
        job.start("worker:1")
        job.wait_for("worker:0", "worker:1 (process", 20)
        job.send("worker:0", signal.SIGINT)
        assert ends(job) == {"worker:0": 130, "worker:1": 130}, job.all_said
        assert "the job has ended: Ctrl-C at worker:0" in job.said("worker:1")


@pytest.mark.thorough
def test_a_host_that_falls_silent_is_taken_in_again_as_it_wakes(tmp_path: Path) -> None:
    """Nobody has to do anything there: as after a cut cable that is put back."""
    body = """
if starts == 1:
    time.sleep(60)
"""
    with launchers(tmp_path, body, "--max_restarts", 2) as job:
        for one in WORKERS:
            job.start(one)
        job.wait_until(
            lambda: all(starts(tmp_path, one) for one in WORKERS), "all have started", 20
        )
        job.send("worker:1", signal.SIGSTOP)
        job.wait_for("worker:2", "is gone; ending worker:2 within", SILENCE + 5)
        job.wait_for("worker:0", "[tfdist] waiting for worker:1 (127.0.0.1:", 10)
        job.send("worker:1", signal.SIGCONT)
        assert ends(job) == dict.fromkeys(WORKERS, 0), job.all_said
        assert "is gone: the job cannot go on without it; looking for it" in job.said("worker:1")
        assert "starting all tasks again (1 of 2)" in job.said("worker:0")
    assert {len(starts(tmp_path, one)) for one in WORKERS} == {2}


def test_who_does_not_know_the_secret_is_refused_and_disturbs_nobody(tmp_path: Path) -> None:
    word = {"TFDIST_SECRET": "a word of the users own"}
    with launchers(tmp_path, 'until("end")', "--max_restarts", 1) as job:
        for other in ({}, {"TFDIST_SECRET": "another word than theirs"}):
            job.start("worker:0", env=word)
            job.start("worker:2", env=other)
            assert job.end("worker:2", 20) == 69
            assert "give every task the same TFDIST_SECRET" in job.said("worker:2")
            job.wait_for("worker:0", "refused a connection from", 10)
            job.send("worker:0", signal.SIGKILL)
            job.end("worker:0", 10)
        for place in WORKERS:
            job.start(place, env=word)
        job.wait_until(
            lambda: all(starts(tmp_path, place) for place in WORKERS), "all have started", 20
        )
        (tmp_path / "end").touch()
        assert ends(job) == dict.fromkeys(WORKERS, 0), job.all_said
    assert "a word of the users own" not in job.all_said


def test_strangers_at_the_door_disturb_nobody(tmp_path: Path) -> None:
    """Whatever they say, and however many they are."""
    odd = [b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100, MAGIC + b"\0\0\0\4nope", MAGIC + b"\xff" * 4]
    for message in ({"say": "join"}, {"say": "leave", "text": "", "code": 3}, {"say": "end"}):
        body = json.dumps(message).encode()
        odd.append(MAGIC + len(body).to_bytes(4, "big") + body)
    with launchers(tmp_path, 'until("end")', "--max_restarts", 1) as job:
        for place in WORKERS:
            job.start(place)
        job.wait_until(
            lambda: all(starts(tmp_path, place) for place in WORKERS), "all have started", 20
        )
        guests = []
        for word in odd * 5:
            guest = socket.create_connection(("127.0.0.1", job.meeting), 5)
            guest.sendall(word)
            guests.append(guest)
        time.sleep(1)
        (tmp_path / "end").touch()
        assert ends(job) == dict.fromkeys(WORKERS, 0), job.all_said
        for guest in guests:
            guest.close()
    assert {len(starts(tmp_path, one)) for one in WORKERS} == {1}
