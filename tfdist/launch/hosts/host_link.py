"""The launcher's side of the connection to a host's agent; it never blocks."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tfdist.cluster import Task
from tfdist.errors import ClusterError
from tfdist.launch.guardian import JOB_VARIABLE, Guardian, end_group
from tfdist.launch.hosts.agent import BEAT, SILENCE
from tfdist.launch.hosts.frames import FrameReader, frame
from tfdist.launch.hosts.host_list import Host
from tfdist.launch.hosts.outbox import Outbox
from tfdist.rendezvous.message_forms import Message

if TYPE_CHECKING:
    from tfdist.launch.hosts.host_task import HostTask

__all__ = ["HostLink"]

_CHUNK = 1 << 16
_MOST_SAID = 1 << 14
_LAST_WORDS_SECONDS = 3.0
_PAUSE_SECONDS = 1.0


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
        notes: What the agent has to say of its host, until it is shown.
        log_parts: The names of other logs there, and what was added to them, until it is kept.
    """

    def __init__(
        self,
        host: Host,
        command: Sequence[str],
        guardian: Guardian,
        hello: Message,
        keeps_trying: float = 0.0,
    ) -> None:
        """Starts to connect.

        Args:
            host: Which host.
            command: See `ssh_command`.
            guardian: Ends the connection where the launcher is killed.
            hello: The first message.
            keeps_trying: Seconds for which a connection that fails is tried again.

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
        self.notes: list[str] = []
        self.log_parts: list[tuple[str, bytes]] = []
        self._command = tuple(command)
        self._guardian = guardian
        self._first = bytearray(frame(hello))  # what is said before the agent has answered
        self._until = time.monotonic() + keeps_trying
        self._again_at: float | None = None
        self._is_busy = False
        self._over = threading.Event()
        self._connect()
        threading.Thread(target=self._show_life, name="tfdist-beat", daemon=True).start()

    def _connect(self) -> None:
        self._reader = FrameReader(after_mark=True)
        self._heard = time.monotonic()
        environ = {name: value for name, value in os.environ.items() if name != JOB_VARIABLE}
        try:
            # A session of its own: the terminal's Ctrl-C and Ctrl-Z are for the launcher.
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                bufsize=0,
                env=environ,
            )
        except OSError as error:
            raise ClusterError(
                f"no SSH client {self._command[0]!r} here ({(error.strerror or '').lower()}); "
                "install OpenSSH's, or give another one with --ssh"
            ) from None
        self._guardian.watch(self._process.pid)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._outbox = Outbox(self._process.stdin, bytes(self._first))
        self._source = self._process.stdout
        self._errors = self._process.stderr
        for stream in (self._source, self._errors):
            os.set_blocking(stream.fileno(), False)

    @property
    def pipe(self) -> int | None:
        """File descriptor to wait on for what comes; None when nothing more will."""
        return self._source.fileno() if self._is_open() else None

    def _is_open(self) -> bool:
        """Whether there is a connection, or one in the making."""
        return not self.lost and self._again_at is None

    @property
    def is_there(self) -> bool:
        """Whether the agent has answered, and the connection stands."""
        return not self.lost and "survey" in self.answers

    def say(self, message: Message) -> None:
        """Tells the agent something, as far as it is still there."""
        if "survey" not in self.answers:
            self._first += frame(message)
        self._outbox.add(frame(message))

    def tick(self) -> None:
        """Hears what has come; called often, and in signal handlers inside of a call of this."""
        if self.lost or self._is_busy:
            return
        self._is_busy = True
        try:
            self._tick()
        finally:
            self._is_busy = False

    def _tick(self) -> None:
        now = time.monotonic()
        if self._again_at is not None:
            if now < self._again_at:
                return
            self._again_at = None
            self._connect()
        heard = self._read()
        if heard:
            self._heard = now
        self._outbox.flush()
        if not heard and now > self._heard + SILENCE and self.is_there:
            self._lose(f"nothing was heard of its host for {SILENCE:g} s")

    def _show_life(self) -> None:
        """Tells the agent that the launcher lives, also while that waits for a terminal."""
        while not self._over.wait(BEAT):
            if self.is_there and self._outbox.is_empty:
                self._outbox.add(frame({"say": "alive"}))
            self._outbox.flush()

    def give_up(self) -> None:
        """Tries no more to connect."""
        if not self.is_there:
            self._lose("its host was not connected to again")

    def hang_up(self) -> None:
        """Has the agent end what is left there, and itself."""
        self._outbox.close()

    def close(self) -> None:
        """Ends the connection, once the agent has had a little time to end."""
        self._is_busy = True  # for good
        self._over.set()
        self.hang_up()
        until = time.monotonic() + _LAST_WORDS_SECONDS
        while self._process.poll() is None and time.monotonic() < until and not self.lost:
            self._read()
            time.sleep(0.01)
        self._end_process()

    def _end_process(self) -> None:
        end_group(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._guardian.forget(self._process.pid)
        self._outbox.close()
        for stream in (self._source, self._errors):
            with contextlib.suppress(OSError):
                stream.close()

    def _read(self) -> bool:
        """Reads what is there; returns whether anything was."""
        if not self._is_open():
            return False
        self._hear_errors()
        any_came = False
        while self._is_open():
            data = _taken(self._source.fileno())
            if data is None:
                return any_came
            any_came = True
            if not data:
                self._find_out_why()
                return True
            try:
                for message, along in self._reader.feed(data):
                    if self._is_open():  # what follows a failure belongs to it
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
        elif say == "note":
            self.notes.append(str(message["text"])[:1000])
        elif say == "log":
            self.log_parts.append((str(message["name"])[:100], data))
        elif say == "failed" and time.monotonic() < self._until:
            self._try_again()  # a port is still in use by what ends there
        elif say == "failed" and self.tasks:
            self._lose(f"its host could not be used again: {message['text']}")
        elif "task" not in message:
            self.answers[say] = message
        elif (task := self.tasks.get(str(message["task"]))) is not None:
            task.hear(message, data)

    def _find_out_why(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.code = self._process.wait(1.0)
        self._hear_errors()
        if not self.is_there and time.monotonic() < self._until:
            self._try_again()
            return
        lines = self.said.decode(errors="replace").strip().splitlines()
        why = f": {lines[-1].strip()[:300]}" if lines else ""
        what = "the connection to its host has ended"
        self._lose(f"{what if self.is_there else 'its host was not connected to again'}{why}")

    def _try_again(self) -> None:
        self._end_process()
        self._again_at = time.monotonic() + _PAUSE_SECONDS

    def _hear_errors(self) -> None:
        self.said = (self.said + (_taken(self._errors.fileno()) or b""))[-_MOST_SAID:]

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
