"""How a launcher obeys the foreman: its link brings what a test has written."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.launch.support import write_script
from tfdist.cluster import Cluster, Task
from tfdist.launch import local_cluster, make_plan
from tfdist.launch.crew.crew_job import CrewJob
from tfdist.launch.plan import JobPlan
from tfdist.rendezvous.messages import Message

pytestmark = pytest.mark.timeout(60)


class Written:
    """A link that brings batches of orders, each once the report before it has been made."""

    def __init__(self, *batches: list[Message]) -> None:
        self.batches = deque(batches)
        self.said: list[Message] = []
        self.closed = False

    def say(self, message: Message) -> None:
        self.said.append(message)

    def tick(self, now: float) -> list[Message]:
        rest = sum(one["say"] == "at rest" for one in self.said)
        due = bool(self.batches) and rest >= self.batches[0][0].get("after", 0)
        return self.batches.popleft() if due else []

    def close(self) -> None:
        self.closed = True


def run(folder: Path, body: str, *batches: list[Message]) -> tuple[int, Written, str]:
    script = write_script(folder, body)
    link, err = Written(*batches), io.StringIO()
    with local_cluster(workers=2) as cluster:
        for batch in batches:
            for message in batch:
                if message["say"] == "start":
                    message["jobs"] = {"worker": list(cluster.jobs["worker"])}

        def make(at: Cluster, own: Sequence[Task]) -> JobPlan:
            return make_plan([str(script)], at, tasks=own)

        job = CrewJob(
            make(cluster, cluster.tasks),
            link,
            make,
            log_dir=folder / "logs",
            grace=1,
            out=io.StringIO(),
            err=err,
        )
        return job.run().returncode, link, err.getvalue()


def start(generation: int, after: int = 0) -> Message:
    tasks = {"worker:0": "worker:0", "worker:1": "worker:1"}
    return {
        "say": "start",
        "generation": generation,
        "tasks": tasks,
        "used": 0,
        "again": [],
        "after": after,
    }


def test_an_order_that_comes_together_with_the_start_is_not_lost(tmp_path: Path) -> None:
    end = {"say": "end", "code": 3, "text": "somebody has given up"}
    code, link, said = run(tmp_path, "time.sleep(50)", [start(1), end])
    assert code == 3
    assert link.closed
    assert "the job has ended: somebody has given up" in said


def test_what_has_ended_is_reported_with_its_cause(tmp_path: Path) -> None:
    body = 'sys.exit(3 if name == "worker:1" else 0)'
    end = {"say": "end", "code": 3, "text": "", "after": 1}
    _, link, _ = run(tmp_path, body, [start(1)], [end])
    rest = next(one for one in link.said if one["say"] == "at rest")
    assert not rest["well"]
    assert [(one["kind"], one["place"]) for one in rest["causes"]] == [("failed", "worker:1")]
    failed = next(one for one in link.said if one["say"] == "failed")
    assert failed["causes"] == rest["causes"]


def test_one_that_is_told_to_hurry_kills_who_takes_long(tmp_path: Path) -> None:
    body = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(50)"
    orders = [start(1), {"say": "halt", "text": "another one is lost"}, {"say": "hurry"}]
    end = {"say": "end", "code": 0, "text": "", "after": 1}
    code, link, said = run(tmp_path, body, orders, [end])
    assert code == 0
    assert "another one is lost; ending worker:0, worker:1" in said
    assert next(one for one in link.said if one["say"] == "at rest")["causes"] == []
