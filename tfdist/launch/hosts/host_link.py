"""The launcher's side of the connection to a host's agent; it never blocks."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tfdist.cluster import Task
from tfdist.errors import ClusterError
from tfdist.launch.guardian import JOB_VARIABLE, Guardian, end_group
from tfdist.launch.hosts.agent import BEAT, SILENCE
from tfdist.launch.hosts.frames import FrameReader, frame
from tfdist.launch.hosts.host_list import Host
from tfdist.rendezvous.message_forms import Message

if TYPE_CHECKING:
    from tfdist.launch.hosts.host_task import HostTask

__all__ = ["HostLink"]

_CHUNK = 1 << 16
_MOST_SAID = 1 << 14
_LAST_WORDS_SECONDS = 3.0


class HostLink:
    """A connection to the agent of one host.

    Attributes:
        host: Which host.
        tasks: Those that were started there, by name, and are not gone.
        lost: Why the connection has ended; "" while it is there.
        code: What the SSH client has ended with; None while it runs.
        said: The last of what came by standard error.
        answers: What the agent has told of itself, by what it says: "survey", "remains".
        absent: The tasks there of which none has been seen at its address.
    """

    def __init__(self, host: Host, command: Sequence[str], guardian: Guardian) -> None:
        """Starts to connect.

        Args:
            host: Which host.
            command: See `ssh_command`.
            guardian: Ends the connection where the launcher is killed.

        Raises:
            ClusterError: There is no such program here.
        """
        self.host = host
        self.tasks: dict[str, HostTask] = {}
        self.lost = ""
        self.code: int | None = None
        self.said = b""
        self.answers: dict[str, Message] = {}
        self.absent: tuple[Task, ...] = ()
        self._guardian = guardian
        self._reader = FrameReader(after_mark=True)
        self._unsent = bytearray()
        self._heard = self._beat = time.monotonic()
        environ = {name: value for name, value in os.environ.items() if name != JOB_VARIABLE}
        try:
            # A session of its own: the terminal's Ctrl-C and Ctrl-Z are for the launcher.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                bufsize=0,
                env=environ,
            )
        except OSError as error:
            raise ClusterError(
                f"no SSH client {command[0]!r} here ({(error.strerror or '').lower()}); install "
                "OpenSSH's, or give another one with --ssh"
            ) from None
        guardian.watch(self._process.pid)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._sink = self._process.stdin
        self._source = self._process.stdout
        self._errors = self._process.stderr
        for stream in (self._sink, self._source, self._errors):
            os.set_blocking(stream.fileno(), False)

    @property
    def pipe(self) -> int | None:
        """File descriptor to wait on for what comes; None when nothing more will."""
        return None if self.lost else self._source.fileno()

    def say(self, message: Message) -> None:
        """Tells the agent something, as far as it is still there."""
        self._unsent += frame(message)
        self._write()

    def tick(self) -> None:
        """Hears what has come, and shows the agent that the launcher lives; called often."""
        if self.lost:
            return
        now = time.monotonic()
        heard = self._read()
        if heard:
            self._heard = now
        if now >= self._beat + BEAT and not self._unsent:
            self._beat = now
            self.say({"say": "alive"})
        self._write()
        if not heard and now > self._heard + SILENCE and "survey" in self.answers:
            self._lose(f"nothing was heard of it for {SILENCE:g} s")

    def hang_up(self) -> None:
        """Has the agent end what is left there, and itself."""
        with contextlib.suppress(OSError):
            self._sink.close()

    def close(self) -> None:
        """Ends the connection, once the agent has had a little time to end."""
        self.hang_up()
        until = time.monotonic() + _LAST_WORDS_SECONDS
        while self._process.poll() is None and time.monotonic() < until and not self.lost:
            self._read()
            time.sleep(0.01)
        end_group(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._guardian.forget(self._process.pid)
        for stream in (self._source, self._errors):
            stream.close()

    def _write(self) -> None:
        while self._unsent and not self.lost:
            try:
                del self._unsent[: os.write(self._sink.fileno(), self._unsent[:_CHUNK])]
            except BlockingIOError:
                return
            except (OSError, ValueError):  # what it has said is still to be read
                self._unsent.clear()

    def _read(self) -> bool:
        """Reads what is there; returns whether anything was."""
        self.said = (self.said + (_taken(self._errors.fileno()) or b""))[-_MOST_SAID:]
        any_came = False
        while not self.lost:
            data = _taken(self._source.fileno())
            if data is None:
                return any_came
            any_came = True
            if not data:
                self._find_out_why()
                return True
            try:
                for message, along in self._reader.feed(data):
                    self._hear(message, along)
            except (ValueError, KeyError, TypeError) as error:
                self._lose(f"its agent has sent what is no message ({error})")
        return any_came

    def _hear(self, message: Message, data: bytes) -> None:
        say = message["say"]
        if say == "alive":
            return
        if say == "absent":
            self.absent = tuple(Task.parse(str(name)) for name in message["tasks"])
        elif "task" not in message:
            self.answers[say] = message
        elif (task := self.tasks.get(str(message["task"]))) is not None:
            task.hear(message, data)

    def _find_out_why(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.code = self._process.wait(1.0)
        self.said = (self.said + (_taken(self._errors.fileno()) or b""))[-_MOST_SAID:]
        lines = self.said.decode(errors="replace").strip().splitlines()
        why = f": {lines[-1].strip()[:300]}" if lines else ""
        self._lose(f"the connection to its host has ended{why}")

    def _lose(self, why: str) -> None:
        self.lost = why
        for task in list(self.tasks.values()):
            task.lose(why)


def _taken(descriptor: int) -> bytes | None:
    """What can be read now; b"" at the end, None where nothing is there yet."""
    try:
        return os.read(descriptor, _CHUNK)
    except BlockingIOError:
        return None
    except OSError:
        return b""
