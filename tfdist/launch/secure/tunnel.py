"""The two stunnels of a job on this machine: opened, watched, closed."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_bytes

from tfdist.cluster.secret import Secret
from tfdist.errors import LaunchError
from tfdist.launch.guardian import JOB_VARIABLE, Guardian, end_group
from tfdist.launch.secure.passages import Passage, Passages
from tfdist.launch.secure.stunnel_config import StunnelConfig
from tfdist.launch.secure.stunnel_program import NoStunnel, find_stunnel
from tfdist.launch.secure.stunnel_report import Report, StunnelReport
from tfdist.launch.secure.trust_anchor import trust_anchor
from tfdist.machine.ports import listen

__all__ = ["Tunnel"]

_LAUNCH = Path(__file__).parent.parent
_READY = "Configuration successful"
_ERROR = "[!] "  # where it does not start
_READY_SECONDS = 10.0
_DOORS_SECONDS = 10.0
_PAUSE_SECONDS = 0.2
_CHUNK = 1 << 16


@dataclass
class Tunnel:
    """Carries what goes between this machine's tasks and all others.

    Attributes:
        passages: The ways.
        secret: The job's.
        insider: A process in the tasks' network.
        folder: Of the logs.
        guardian: Ends the stunnels where the launcher is killed.
        within: Seconds after which a connection to a host that has vanished is lost.
        trouble: Why it carries nothing any more; "" while it does.
    """

    passages: Passages
    secret: Secret
    insider: int
    folder: Path
    guardian: Guardian
    within: float = 60.0
    trouble: str = ""
    _stunnels: list[_Stunnel] = field(default_factory=list)
    _due: float = 0.0

    def open(self) -> None:
        """Starts the stunnels, also again, and returns once tasks may start.

        Raises:
            LaunchError: There is no stunnel that would do, or it does not start.
        """
        self.close()
        self.trouble = ""
        own, others = self.passages.own, self.passages.others
        if not others:
            return
        try:
            program = find_stunnel()
        except NoStunnel as error:
            raise LaunchError(f"--secure, but {error}") from None
        anchor = trust_anchor(token_bytes(32))
        incoming = StunnelConfig.incoming(own, self.secret, self.within)
        outgoing = StunnelConfig.outgoing(others, self.secret, self.within, anchor)
        with contextlib.ExitStack() as stack:  # here, the sockets are needed no more then
            doors = [stack.enter_context(contextlib.closing(one)) for one in _here(own)]
            ways = [stack.enter_context(contextlib.closing(one)) for one in self._inside(others)]
            for name, inside, sockets, config in (
                ("stunnel-in", True, doors, incoming),
                ("stunnel-out", False, ways, outgoing),
            ):
                if sockets:
                    log = self.folder / f"{name}.log"
                    at = log.stat().st_size if log.exists() else 0
                    process = self._start(program, sockets, config, log, inside=inside)
                    self._stunnels.append(_Stunnel(name, process, log, at))
        until = time.monotonic() + _READY_SECONDS
        while not all(one.is_ready for one in self._stunnels):
            for one in self._stunnels:
                one.read()
            if ended := [one for one in self._stunnels if one.process.poll() is not None]:
                raise LaunchError(f"--secure, but {ended[0].end}; its whole log is {ended[0].log}")
            if time.monotonic() > until:
                raise LaunchError(
                    f"--secure, but stunnel has not started within {_READY_SECONDS:g} s"
                )
            time.sleep(0.01)

    def look(self) -> list[Report]:
        """Looks, where it is time to, what the stunnels have said, and whether they live.

        Returns:
            What is worth saying.
        """
        now = time.monotonic()
        if now < self._due or self.trouble:
            return []
        self._due = now + _PAUSE_SECONDS
        reports = self.hear()
        for one in self._stunnels:
            if one.process.poll() is not None:
                self.trouble = f"its tunnel has broken: {one.end}"
        return reports

    def hear(self) -> list[Report]:
        """What is worth saying of what the stunnels have said since."""
        return [report for one in self._stunnels for report in one.read()]

    def close(self) -> None:
        """Ends the stunnels."""
        for one in self._stunnels:
            end_group(one.process.pid, signal.SIGKILL)
            one.process.wait()
            self.guardian.forget(one.process.pid)
        self._stunnels.clear()

    def _start(
        self,
        program: str,
        sockets: Sequence[socket.socket],
        config: StunnelConfig,
        log: Path,
        *,
        inside: bool,
    ) -> subprocess.Popen[bytes]:
        descriptors = [one.fileno() for one in sockets]
        arguments = [program, ",".join(map(str, descriptors))]
        try:
            said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise LaunchError(f"the log {log} cannot be written: {error.strerror}") from None
        try:
            process = self._program("become_stunnel.py", arguments, descriptors, said, inside)
        finally:
            os.close(said)
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin:  # its log tells why it has ended
            process.stdin.write("\0".join((config.text, config.keys, config.anchor, "")).encode())
        return process

    def _inside(self, passages: Sequence[Passage]) -> list[socket.socket]:
        """Sockets that listen in the tasks' network.

        Raises:
            LaunchError: They cannot.
        """
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                number = theirs.fileno()
                program = self._program(
                    "doorways.py", [str(number)], [number], subprocess.PIPE, inside=True
                )
            assert program.stdin is not None
            assert program.stdout is not None
            made: list[socket.socket] = []
            with program:
                for one in passages:
                    program.stdin.write(f"{one.ip} {one.port}\n".encode())
                program.stdin.close()
                ours.settimeout(_DOORS_SECONDS)
                with contextlib.suppress(OSError):
                    while len(made) < len(passages):
                        data, descriptors, _, _ = socket.recv_fds(ours, 16, 253)
                        if not data:
                            break
                        made += [socket.socket(fileno=one) for one in descriptors]
                        ours.send(b"0")
                if len(made) < len(passages):
                    end_group(program.pid, signal.SIGKILL)
                    said = program.stdout.read().decode(errors="replace").strip().splitlines()
                    for one_made in made:
                        one_made.close()
                    why = said[-1] if said else "nothing is said of why"
                    raise LaunchError(f"--secure, but no socket listens in the network: {why}")
            self.guardian.forget(program.pid)
        return made

    def _program(
        self, name: str, arguments: list[str], descriptors: list[int], output: int, inside: bool
    ) -> subprocess.Popen[bytes]:
        """Starts a program of this folder, tied to this process."""
        start = [sys.executable, "-I", "-S", str(_LAUNCH / "start.py"), str(os.getpid())]
        own = [sys.executable, "-I", "-S", str(Path(__file__).parent / name), *arguments]
        process = subprocess.Popen(
            [*start, str(self.insider if inside else 0), *own],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=descriptors,
            env={one: value for one, value in os.environ.items() if one != JOB_VARIABLE},
            start_new_session=True,
            cwd="/",
        )
        self.guardian.watch(process.pid)
        return process


@dataclass
class _Stunnel:
    """A stunnel that runs, and what has been read of its log."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    at: int
    is_ready: bool = False
    _report: StunnelReport = field(default_factory=StunnelReport)
    _rest: bytes = b""
    _error: str = ""

    def read(self) -> list[Report]:
        """What is worth saying of what it has logged since."""
        reports = []
        with contextlib.suppress(OSError), self.log.open("rb") as file:
            file.seek(self.at)
            data = file.read(_CHUNK)
            self.at += len(data)
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                text = line.decode(errors="replace")
                self.is_ready = self.is_ready or _READY in text
                if _ERROR in text:
                    self._error = text.rpartition(_ERROR)[2].strip()
                if (report := self._report.read(text)) is not None:
                    reports.append(report)
        return reports

    @property
    def end(self) -> str:
        """How it has ended."""
        self.read()
        code = self.process.returncode
        how = f"was ended by signal {-code}" if code < 0 else f"has ended with exit code {code}"
        return f"{self.name} {how}{f' ({self._error[:300]})' if self._error else ''}"


def _here(passages: Sequence[Passage]) -> list[socket.socket]:
    """Sockets that listen at the tasks' ports in this machine's network, where all others come.

    Raises:
        LaunchError: A port is taken.
    """
    made: list[socket.socket] = []
    for one in passages:
        if one.server_name:  # it is reached at the address of its task
            continue
        try:
            host = one.ip if one.address.is_loopback else None  # then nobody comes from outside
            made.append(listen(one.address.port, host=host))
        except OSError as error:
            for other in made:
                other.close()
            why = (error.strerror or str(error)).lower()
            raise LaunchError(f"--secure, but nobody can listen at {one.address}: {why}") from None
    return made
