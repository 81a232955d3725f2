"""The connection to an agent: what is said comes once and whole, whoever says it and when."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.launch.support import wait_until
from tfdist.cluster import Task
from tfdist.errors import TaskLost
from tfdist.launch.guardian import Guardian
from tfdist.launch.hosts.frames import FrameReader, frame
from tfdist.launch.hosts.host_link import HostLink
from tfdist.launch.hosts.host_list import Host
from tfdist.launch.hosts.host_task import HostTask
from tfdist.launch.hosts.outbox import Outbox
from tfdist.launch.output import TaskLog
from tfdist.launch.plan import TaskPlan
from tfdist.machine.ports import Reservation

pytestmark = pytest.mark.timeout(60)

AGENT = [sys.executable, "-m", "tfdist.launch.hosts.agent"]
SURVEY = {"say": "survey"}


def script(body: str) -> list[str]:
    """An agent that has answered and does what a test needs."""
    head = f"""
        import os, sys, time
        from tfdist.launch.hosts.frames import MARK, FrameReader, frame
        def tell(message, data=b""):
            os.write(1, frame(message, data))
        os.write(1, MARK)
        tell({SURVEY!r})
    """
    return [sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(body)]


def hello(*ports: int) -> dict[str, object]:
    asked = {"command": ["no.py"], "paths": [], "count": 0, "ports": list(ports)}
    return {"say": "hello", "grace": 1.0, "secure": False, "environ": {}, **asked}


@contextlib.contextmanager
def linked(command: list[str], *ports: int, keeps_trying: float = 0.0) -> Iterator[HostLink]:
    with Guardian("0" * 16) as guardian:
        link = HostLink(Host("h"), command, guardian, hello(*ports), keeps_trying)
        try:
            yield link
        finally:
            link.close()


@pytest.fixture(autouse=True)
def _logs_are_closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Of links that end before their tasks do: Python would complain of them in a later test."""
    opened: list[TaskLog] = []
    make = TaskLog.__init__

    def init(log: TaskLog, *args: Any, **settings: Any) -> None:
        make(log, *args, **settings)
        opened.append(log)

    monkeypatch.setattr(TaskLog, "__init__", init)
    yield
    for log in opened:
        log.close()


def started(link: HostLink, log: TaskLog, *command: str) -> HostTask:
    plan = TaskPlan(Task("worker", 0), command, {"TF_CONFIG": "{}"}, ())
    return HostTask(plan, log, link, {"worker": ["127.0.0.1:1"]}, {})


def heard(link: HostLink, enough: Callable[[], object]) -> None:
    def hears() -> bool:
        link.tick()
        return bool(enough())

    wait_until(hears, 20)


def test_no_task_is_started_where_its_port_is_somebody_else_s(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    with socket.create_server(("", 0)) as taken, linked(AGENT, taken.getsockname()[1]) as link:
        task = started(link, TaskLog(tmp_path / "log"), "touch", str(mark))
        heard(link, lambda: task.returncode is not None)
        assert (task.returncode, task.poll()) == (TaskLost.exit_code, True)
        assert f"port {taken.getsockname()[1]} that is in use by" in task.lost
        task.close()
    assert not mark.exists()


def test_a_port_that_is_let_go_in_time_is_taken_again() -> None:
    with Reservation(1) as free:
        (port,) = free.ports
    taken = socket.create_server(("", port))
    with linked(AGENT, port, keeps_trying=30.0) as link:
        heard(link, lambda: link._again_at)
        taken.close()
        heard(link, lambda: link.is_there)
        assert link.answers["survey"]["ports"] == [port]


def test_the_agent_hears_of_a_launcher_that_waits_for_its_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tfdist.launch.hosts.host_link.BEAT", 0.05)
    agent = script("""
        reader, alive = FrameReader(after_mark=False), 0
        while data := os.read(0, 65536):
            alive += [message["say"] for message, _ in reader.feed(data)].count("alive")
            if alive == 5:
                tell({"say": "enough"})
    """)
    with linked(agent) as link:
        heard(link, lambda: link.is_there)
        assert link.pipe is not None
        time.sleep(1.0)  # nothing is called meanwhile
        link.tick()
        assert "enough" in link.answers


def test_a_signal_while_the_agent_is_heard_changes_no_order(tmp_path: Path) -> None:
    agent = script("""
        said = b""
        while b'"start"' not in said:
            said += os.read(0, 65536)
        for word in (b"one ", b"two ", b"three "):
            tell({"say": "output", "task": "worker:0"}, word)
            time.sleep(0.1)
        while os.read(0, 65536):
            pass
    """)

    class InterruptedLog(TaskLog):
        """A handler runs, and asks for the task's end, while output is written."""

        def write(self, data: bytes) -> None:
            time.sleep(0.2)  # the next word has come
            if task:
                task[0].send(2)
            super().write(data)

    with linked(agent) as link:
        heard(link, lambda: link.is_there)
        task: list[HostTask] = []
        task.append(started(link, InterruptedLog(tmp_path / "log"), "true"))
        shown: list[bytes] = []

        def all_shown() -> bool:
            shown.append(task[0].read())
            return b"three" in shown[-1]

        wait_until(all_shown, 20)
        assert b"".join(shown) == (tmp_path / "log").read_bytes() == b"one two three "
        assert task[0].signals == [2, 2, 2]


def test_what_a_signal_handler_says_meanwhile_follows_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, sink = os.pipe()
    with os.fdopen(source, "rb", buffering=0) as reads:
        box = Outbox(os.fdopen(sink, "wb", buffering=0), frame({"say": "0"}, b"x" * 1000))
        write = os.write
        written: list[int] = []

        def interrupted(descriptor: int, data: bytes) -> int:
            count = write(descriptor, data[:300])
            if len(written) < 3:
                written.append(count)
                box.add(frame({"say": str(len(written))}, b"y" * 500))
            return count

        monkeypatch.setattr(os, "write", interrupted)
        box.flush()
        monkeypatch.undo()
        assert box.is_empty
        box.close()
        messages = FrameReader(after_mark=False).feed(reads.read())
    assert [message["say"] for message, _ in messages] == ["0", "1", "2", "3"]


def test_what_a_full_pipe_does_not_take_waits_and_a_closed_one_takes_nothing() -> None:
    source, sink = os.pipe()
    data = os.urandom(1 << 20)
    with os.fdopen(source, "rb", buffering=0) as reads:
        box = Outbox(os.fdopen(sink, "wb", buffering=0), data)
        box.flush()
        assert not box.is_empty
        came = b""
        while len(came) < len(data):
            came += reads.read(1 << 16)
            box.flush()
        assert came == data
        box.close()
        box.add(b"too late")
        assert reads.read() == b""
