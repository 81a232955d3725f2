"""The agent of a launcher on one host: starts tasks there, and ends them with its connection.

Run as a program, `python -m tfdist.launch.hosts.agent`, by the SSH server. It reads frames from
standard input and writes frames to standard output, and does what a launcher on that host would:
each task is a process group of its own, tied to this process, with a guardian beside.

    launcher says   hello     look around, hold ports     ──► survey
                    start     a task                      ──► started
                    signal    to a task and its group
                    ask       a task to save and end
                    alive     every second
                    bye       nothing more will come      ──► remains
    and is told     output, progress, shows, exited, gone, absent, failed

Where standard input ends without a bye (the launcher was killed, the connection broke), or nothing
comes for `SILENCE`, the tasks get SIGTERM, by which those with a checkpoint save, and SIGKILL after
the grace time. Nobody will ever ask for them again.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from tfdist.cluster import Cluster, Task
from tfdist.environments import gpus_are_own
from tfdist.errors import ClusterError, TfdistError
from tfdist.launch.ground import Ground, Starter, ThisMachine, Witness
from tfdist.launch.hosts.carried import told_of_host
from tfdist.launch.hosts.frames import MARK, FrameReader, frame
from tfdist.launch.hosts.survey import Survey
from tfdist.launch.plan import JobPlan, TaskPlan
from tfdist.launch.running_task import RunningTask
from tfdist.launch.secure import SecureMachine, reason_against
from tfdist.machine.capacities import available_cores
from tfdist.machine.gpus import gpus_here
from tfdist.machine.ports import Reservation
from tfdist.machine.signals import DEFAULT_GRACE
from tfdist.process import SECRET_VARIABLE
from tfdist.rendezvous.message_forms import Message

__all__ = ["BEAT", "SILENCE", "Agent", "main"]

BEAT = 1.0
"""Seconds between two signs of life, both ways."""

SILENCE = 60.0
"""Seconds without one after which the other side is lost."""

_IDLE_SILENCE = 600.0  # between two generations of tasks, and before the first
_TICK_SECONDS = 0.05
_CHUNK = 1 << 16
_MOST_UNSENT = 1 << 20  # then the tasks' output waits in their pipes


class Agent:
    """What an agent does, between two descriptors."""

    def __init__(self, source: int, sink: int) -> None:
        """Begins.

        Args:
            source: Frames come from here.
            sink: Frames go here.
        """
        self._source, self._sink = source, sink
        self._reader = FrameReader(after_mark=False)
        self._unsent = bytearray(MARK)
        self._starter: Starter | None = None
        self._ports: Reservation | None = None
        self._tasks: dict[str, RunningTask] = {}
        self._shown: dict[str, Message] = {}
        self._exited: set[str] = set()  # of these, nothing but what they have started may run
        self._witness: Witness | None = None
        self._absent: tuple[Task, ...] = ()
        self._ground: Ground = ThisMachine("off", keeps_logs=False)
        self._secret: dict[str, str] = {}
        self._sent: dict[Path, int] = {}  # of other logs than the tasks'
        self._grace = DEFAULT_GRACE
        self._kill_at: float | None = None
        self._heard = self._beat = time.monotonic()
        self._is_over = self._is_left = False
        for descriptor in (source, sink):
            os.set_blocking(descriptor, False)

    def run(self) -> None:
        """Serves until the launcher says goodbye, or is gone and no task is left."""
        folder = Path(tempfile.mkdtemp(prefix="tfdist-"))
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            self._stack, self._folder = stack, folder
            while not self._is_over:
                self._wait()
                now = time.monotonic()
                self._look_at_tasks()
                self._keep_in_touch(now)
                self._write()
            until = time.monotonic() + 2.0
            while self._unsent and not self._is_left and time.monotonic() < until:
                self._write()
                time.sleep(0.01)

    # ------------------------------------------------------------ to and from the launcher

    def _wait(self) -> None:
        poller = select.poll()
        if not self._is_left:
            poller.register(self._source, select.POLLIN)
            if self._unsent:
                poller.register(self._sink, select.POLLOUT)
        pipes = {task.pipe: name for name, task in self._tasks.items() if task.pipe is not None}
        for pipe in pipes if len(self._unsent) < _MOST_UNSENT else ():
            poller.register(pipe, select.POLLIN)
        for descriptor, _ in poller.poll(_TICK_SECONDS * 1000):
            if descriptor == self._source:
                self._hear()
            elif descriptor in pipes:
                name = pipes[descriptor]
                self._tell_output(name, self._tasks[name].read())

    def _hear(self) -> None:
        try:
            data = os.read(self._source, _CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.leave("the launcher is gone")
            return
        self._heard = time.monotonic()
        try:
            messages = self._reader.feed(data)
        except ValueError as error:
            self.leave(f"the launcher sent {error}")
            return
        for message, _ in messages:
            self._obey(message)

    def _tell(self, message: Message, data: bytes = b"") -> None:
        if not self._is_left:
            self._unsent += frame(message, data)

    def _tell_output(self, name: str, data: bytes) -> None:
        if data:
            self._tell({"say": "output", "task": name}, data)

    def _tell_progress(self, name: str, task: RunningTask) -> None:
        if len(self._unsent) < _MOST_UNSENT and (data := task.read_progress()):
            self._tell({"say": "progress", "task": name}, data)

    def _write(self) -> None:
        while self._unsent and not self._is_left:
            try:
                del self._unsent[: os.write(self._sink, self._unsent[:_CHUNK])]
            except BlockingIOError:
                return
            except OSError:
                self.leave("the launcher reads no more")

    def _keep_in_touch(self, now: float) -> None:
        if now >= self._beat + BEAT and not self._unsent:
            self._beat = now
            self._tell({"say": "alive"})
        if now > self._heard + (SILENCE if self._tasks else _IDLE_SILENCE):
            self.leave(f"nothing was heard of the launcher for {SILENCE:g} s")
        if self._kill_at is not None and now > self._kill_at:
            self._kill_at = None
            for task in self._tasks.values():
                task.send(signal.SIGKILL)
        if self._is_left and not self._tasks:
            self._is_over = True

    def leave(self, why: str) -> None:
        """Ends all tasks, and then itself.

        Args:
            why: For the launcher, where there is still one.
        """
        if self._is_left:
            return
        with contextlib.suppress(OSError):
            os.write(2, f"{why}\n".encode())
        self._is_left = True
        self._unsent.clear()
        for task in self._tasks.values():
            task.send(signal.SIGTERM)
        self._kill_at = time.monotonic() + self._grace

    # ------------------------------------------------------------ what the launcher asks for

    def _obey(self, message: Message) -> None:
        say = message["say"]
        if say == "hello":
            self._look_around(message)
        elif say == "secure":
            own, others = tuple(message["own"]), tuple(message["others"])
            self._ground = SecureMachine(own, others, message["chief"], keeps_logs=False)
            self._secret = {SECRET_VARIABLE: str(message["secret"])}
        elif say == "start":
            self._start(message)
        elif say == "bye":
            remains = self._starter.remains() if self._starter is not None else {}
            left = [[pid, name] for found in remains.values() for pid, name in found.items()]
            self._tell({"say": "remains", "processes": left})
            self._is_over = True
        elif say in ("signal", "ask") and (task := self._tasks.get(str(message["task"]))):
            if say == "ask":
                task.ask_to_end()
            else:
                task.send(int(message["number"]))

    def _look_around(self, message: Message) -> None:
        self._grace = float(message["grace"])
        if message["secure"] and (reason := reason_against()):
            self._tell({"say": "failed", "text": reason})
            return
        survey = Survey.here(message["command"], message["paths"])
        try:
            count, again = int(message["count"]), [int(port) for port in message["ports"]]
            self._ports = self._stack.enter_context(Reservation(count, ports=again))
        except TfdistError as error:
            self._tell({"say": "failed", "text": str(error)})
            return
        environ = {**os.environ, **message["environ"]}  # as the tasks will have it
        found = gpus_here(environ)
        connection = os.environ.get("SSH_CONNECTION", "").split()
        self._tell(
            {
                "say": "survey",
                **survey.to_tree(),
                "cores": available_cores(),
                "ports": list(self._ports.ports),
                "address": connection[2] if len(connection) == 4 else "",
                "environ": told_of_host(os.environ),
                "gpus": [[gpu.id, gpu.name] for gpu in found.gpus],
                "gpu_trouble": found.trouble,
                "gpus_are_own": gpus_are_own(environ),
            }
        )

    def _start(self, message: Message) -> None:
        plan = TaskPlan(
            Task.parse(str(message["task"])),
            tuple(message["command"]),
            message["environment"],
            tuple(message["removed"]),
        )
        name = str(plan.task)
        try:
            if self._ports is None:  # a task of somebody else may be at its port
                raise ClusterError("the ports of this host's tasks are not held")
            cluster = Cluster(message["jobs"])
            if self._starter is None:
                self._starter = self._open(JobPlan(cluster, (plan,)))
            task = self._starter.start(plan)
        except TfdistError as error:
            self._tell({"say": "not started", "task": name, "text": str(error)})
            return
        self._tasks[name] = task
        self._watch(cluster)
        self._tell({"say": "started", "task": name, "pid": task.pid})

    def _open(self, plan: JobPlan) -> Starter:
        own = {name: os.environ[name] for name in os.environ if not _is_secret(name)}
        return self._stack.enter_context(
            self._ground.open(plan, self._folder, {**own, **self._secret}, self._note)
        )

    def _note(self, text: str) -> None:
        self._tell({"say": "note", "text": text})

    def _watch(self, cluster: Cluster) -> None:
        """Sees who takes part, of the tasks that are here now."""
        assert self._starter is not None
        plans = tuple(one.plan for one in self._tasks.values())
        self._witness, self._absent = self._starter.witness(JobPlan(cluster, plans)), ()

    # ------------------------------------------------------------ what becomes of the tasks

    def _look_at_tasks(self) -> None:
        for name, task in list(self._tasks.items()):
            gone = task.poll()
            if not task.running and name not in self._exited:
                self._exited.add(name)
                self._tell_output(name, task.drain())
                self._tell_progress(name, task)
                ended = {"say": "exited", "task": name, "code": task.returncode}
                self._tell_logs()
                self._tell({**ended, "signals": task.signals, "lost": task.lost})
            if gone:
                if self._starter is not None:
                    self._starter.forget(task)
                self._tell_output(name, task.close())
                remains = [[pid, command] for pid, command in task.remains.items()]
                self._tell({"say": "gone", "task": name, "remains": remains})
                del self._tasks[name]
                self._shown.pop(name, None)
                self._exited.discard(name)
            elif task.running:
                self._tell_progress(name, task)
                self._tell_what_it_shows(name, task)
        if self._witness is not None and self._tasks:
            self._witness.look()
            if (absent := self._witness.absent()) != self._absent:
                self._absent = absent
                self._tell({"say": "absent", "tasks": [str(one) for one in absent]})

    def _tell_logs(self) -> None:
        """Tells what was added to logs beside the tasks', which lie in the folder."""
        for path in self._folder.glob("*.log"):
            with contextlib.suppress(OSError), path.open("rb") as file:
                file.seek(self._sent.get(path, 0))
                while data := file.read(_CHUNK):
                    self._tell({"say": "log", "name": path.name}, data)
                self._sent[path] = file.tell()

    def _tell_what_it_shows(self, name: str, task: RunningTask) -> None:
        shown = {
            "say": "shows",
            "task": name,
            "saves": task.shows_saves,
            "writes": task.shows_writes,
            "stopped": task.is_stopped,
        }
        if self._shown.get(name, {**_NOTHING_SHOWN, "task": name}) != shown:
            self._shown[name] = shown
            self._tell(shown)


def _is_secret(name: str) -> bool:
    """Whether a variable of this host holds a secret; the job's comes from its launcher."""
    return name.startswith(SECRET_VARIABLE)


_NOTHING_SHOWN: Mapping[str, object] = {
    "say": "shows",
    "saves": False,
    "writes": False,
    "stopped": False,
}


def main() -> None:
    """Serves a launcher, which is at the other end of standard input and output."""
    # What else writes to standard output, or reads the input, must not meet the frames.
    source, sink = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    agent = Agent(source, sink)
    # Handled and not ignored, which the tasks would inherit.
    for signum in (signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: agent.leave("its agent was sent SIGTERM"))
    agent.run()


if __name__ == "__main__":
    main()
