"""A task on another host, as its launcher sees it: by what the agent there tells of it."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping

from tfdist.errors import TaskLost
from tfdist.launch.hosts.host_link import HostLink
from tfdist.launch.output import TaskLog
from tfdist.launch.plan import TaskPlan
from tfdist.launch.running_task import RunningTask
from tfdist.process import SECRET_VARIABLE
from tfdist.rendezvous.message_forms import Message

__all__ = ["HostTask"]


class HostTask(RunningTask):
    """A task's process group on another host."""

    def __init__(
        self,
        plan: TaskPlan,
        log: TaskLog,
        link: HostLink,
        jobs: Mapping[str, list[str]],
        environ: Mapping[str, str],
    ) -> None:
        """Has the process started.

        Args:
            plan: What to run.
            log: Takes its output; closed with the task.
            link: The way to its host.
            jobs: Of the cluster.
            environ: The variables that come on top of those of its host, and beneath the plan's.
        """
        super().__init__(plan, log, link.host.name)
        self.pid = 0
        self._link = link
        self._output, self._progress = bytearray(), bytearray()
        self._shows: Message = {}
        self._leaves = False  # whether nothing more will be heard of it
        link.tasks[self.name] = self
        if link.lost:
            self.lose(link.lost)
        link.say(
            {
                "say": "start",
                "task": self.name,
                "jobs": dict(jobs),
                "command": list(plan.command),
                "environment": {**environ, **plan.environment},
                "removed": [*plan.removed, f"{SECRET_VARIABLE}_FILE"],
            }
        )

    @property
    def shows_saves(self) -> bool:
        """See `RunningTask`."""
        return bool(self._shows.get("saves"))

    @property
    def shows_writes(self) -> bool:
        """See `RunningTask`."""
        return bool(self._shows.get("writes"))

    @property
    def is_stopped(self) -> bool:
        """See `RunningTask`."""
        return bool(self._shows.get("stopped"))

    @property
    def holds_output(self) -> bool:
        """See `RunningTask`."""
        return bool(self._output)

    @property
    def pipe(self) -> int | None:
        """That of its host, for all tasks there."""
        return None if self.gone else self._link.pipe

    def read(self) -> bytes:
        """The output that has come since; it is logged already."""
        self._link.tick()
        data, self._output = self._output, bytearray()  # a signal handler may add to it meanwhile
        return bytes(data)

    def read_progress(self) -> bytes:
        """See `RunningTask`."""
        data, self._progress = self._progress, bytearray()
        return bytes(data)

    def send(self, signum: int) -> None:
        """Sends a signal to the task and to all of its group."""
        if self.gone:
            return
        self._link.tick()
        if self.running:
            self.signals.append(signum)
        if signum == signal.SIGKILL:
            self._link.give_up()
        self._link.say({"say": "signal", "task": self.name, "number": signum})

    def ask_to_end(self) -> None:
        """See `RunningTask`."""
        if self.running:
            self._link.say({"say": "ask", "task": self.name})

    def poll(self) -> bool:
        """Looks whether the task has ended; returns whether nothing of it is left."""
        self._link.tick()
        self.gone = self._leaves  # here alone, so that nobody misses it
        return self.gone

    def close(self) -> bytes:
        """Gives back what is held once the task is gone; returns the last of its output."""
        last = self.drain()
        self._link.tasks.pop(self.name, None)
        self.log.close()
        return last

    def hear(self, message: Message, data: bytes) -> None:
        """Takes in what the agent tells of it.

        Args:
            message: What it says.
            data: The output that goes along.
        """
        say = message["say"]
        if say == "output":
            self._take(data)
        elif say == "progress":
            self._progress += data
        elif say == "started":
            self.pid = int(message["pid"])
        elif say == "shows":
            self._shows = message
        elif say == "exited":
            # What was sent to it after its end has not ended it.
            self.signals = [int(number) for number in message["signals"]]
            self.lost = str(message["lost"])
            self._end(int(message["code"]))
        elif say == "gone":
            self.remains = {int(pid): str(command) for pid, command in message["remains"]}
            self._leaves = True
        elif say == "not started":
            self._take(f"{message['text']}\n".encode())
            self._end(1)
            self._leaves = True

    def lose(self, why: str) -> None:
        """Takes note that nothing more will be heard of it."""
        if self.running:
            self.lost = why
            self._end(TaskLost.exit_code)
        self._leaves = True

    def _take(self, data: bytes) -> None:
        self.log.write(data)
        self._output += data

    def _end(self, code: int) -> None:
        self.returncode, self.ended = code, time.time()
