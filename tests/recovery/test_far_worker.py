"""A worker of parameter servers on another host is dropped, and comes back; nobody waits for it."""

from __future__ import annotations

import functools
import json
import os
import signal
from pathlib import Path

import pytest

from tests.elastic.launchers import Launchers
from tfdist.diagnose.namespace_hosts import Hosts, reason_against
from tfdist.launch.crew.front_door import SILENCE

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(240)]
SCRIPT = Path(__file__).with_name("counted.py")
PLACES = ["chief:0", "worker:0", "worker:1", "ps:0"]
LIMIT = 10  # seconds until a silent worker is dropped


@functools.cache
def reason() -> str:
    return reason_against()


@pytest.mark.parametrize("how", ["its cable is pulled", "its power goes", "it is stopped"])
def test_a_lost_worker_of_another_host(how: str, tmp_path: Path) -> None:
    if reason():
        pytest.skip(reason())
    options = ["--max_restarts", 3, "--stall_timeout", LIMIT, "--threads", 1, "--grace", 2]
    with (
        Hosts(4) as hosts,
        Launchers(tmp_path, PLACES, options, [SCRIPT, tmp_path], hosts=hosts) as job,
    ):

        def epochs() -> int:
            return job.said("chief:0").count(" examples\n")

        for place in PLACES:
            job.start(place)
        job.wait_until(lambda: epochs() > 3, "epochs", 90)
        if how == "it is stopped":
            os.kill(starts(tmp_path, "worker:1")[0], signal.SIGSTOP)
        else:
            hosts.cut(2)
            if how == "its power goes":
                job.send("worker:1", signal.SIGKILL)
        job.wait_for("chief:0", "worker:1 is dropped, as it says nothing any more", LIMIT + 10)
        if how != "it is stopped":
            job.wait_for("chief:0", "is gone: the others go on without it", SILENCE + 10)
            before = epochs()
            job.wait_until(lambda: epochs() > before + 3, "epochs without it", 60)
            hosts.mend(2)
            if how == "its power goes":
                job.start("worker:1")
        job.wait_for("chief:0", "worker:1 is back (process ", 60)
        before = epochs()
        job.wait_until(lambda: epochs() > before + 1, "epochs with it", 60)
        (tmp_path / "end").touch()
        ended = {place: job.end(place, 60) for place in PLACES}
        assert ended == dict.fromkeys(PLACES, 0), job.all_said
        assert "again (" not in job.said("chief:0")  # nobody else has begun anew
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["examples"] == [found["expected"]]  # once, in each epoch
    assert {place: len(starts(tmp_path, place)) for place in PLACES} == {
        **dict.fromkeys(PLACES, 1),
        "worker:1": 2,
    }


def starts(folder: Path, place: str) -> list[int]:
    return [int(pid) for pid in (folder / f"{place}.starts").read_text().split()]
