"""Launchers of one job, as those of several hosts, or on several hosts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from tfdist.diagnose.namespace_hosts import Hosts
from tfdist.machine.ports import Reservation

__all__ = ["Launchers"]

RUN = [sys.executable, "-m", "tfdist", "run", "--cluster", "spec.json"]


class Launchers:
    """Starts and ends launchers of the places of one cluster; kills those that are left.

    Args:
        folder: For the cluster's file and what the launchers say.
        places: Names of the tasks of the cluster, as ["worker:0", "worker:1"].
        options: Of all launchers.
        command: The script and its arguments.
        env: Variables on top of this process's.
        hosts: One for each place; None has all on this machine's loopback.

    Attributes:
        meeting: The port at which the launchers meet.
    """

    def __init__(
        self,
        folder: Path,
        places: Sequence[str],
        options: Sequence[object],
        command: Sequence[object],
        env: Mapping[str, str] | None = None,
        hosts: Hosts | None = None,
    ) -> None:
        self.folder = folder
        self._places = list(places)
        self._hosts = hosts
        self._command = [str(one) for one in command]
        self._env = {**os.environ, **(env or {})}
        self._ports = Reservation(len(places) + 1)
        *ports, self.meeting = self._ports.ports
        self._options = [str(one) for one in ("--crew_port", self.meeting, *options)]
        jobs: dict[str, list[str]] = {}
        addresses = hosts.addresses if hosts else ["127.0.0.1"] * len(places)
        for place, address, port in zip(places, addresses, ports, strict=True):
            jobs.setdefault(place.partition(":")[0], []).append(f"{address}:{port}")
        (folder / "spec.json").write_text(json.dumps({"cluster": jobs}))
        self._ports.close()  # a launcher holds the port of its task, and the chief's the last
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._all: list[subprocess.Popen[bytes]] = []

    def start(self, place: str, *options: object, env: Mapping[str, str] | None = None) -> None:
        """Starts the launcher of a place, which may have had one before."""
        more = [str(one) for one in options]
        command: list[object] = [*RUN, "--task", place, *self._options, *more, *self._command]
        if self._hosts is not None:
            command = self._hosts.on(self._places.index(place), command)
        with self._log(place).open("ab") as log:
            self._running[place] = subprocess.Popen(
                list(map(str, command)),
                cwd=self.folder,
                env={**self._env, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._all.append(self._running[place])

    def send(self, place: str, signum: signal.Signals) -> None:
        """Sends a signal to the launcher of a place; the guardian ends what it leaves."""
        self._running[place].send_signal(signum)

    def said(self, place: str) -> str:
        """What the launchers of a place have shown."""
        log = self._log(place)
        return log.read_text(errors="replace") if log.exists() else ""

    def wait_for(self, place: str, text: str, seconds: float, times: int = 1) -> None:
        """Waits until a launcher has shown a text so many times."""
        self.wait_until(lambda: self.said(place).count(text) >= times, f"{place}: {text}", seconds)

    def wait_until(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        """Waits for a condition."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}\n{self.all_said}"
            time.sleep(0.1)

    def end(self, place: str, seconds: float) -> int:
        """Waits for the end of a launcher; returns its exit code."""
        try:
            return self._running[place].wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{place} after {seconds:g} s\n{self.all_said}") from None

    @property
    def all_places(self) -> list[str]:
        """The places whose launchers were started."""
        return list(self._running)

    @property
    def all_said(self) -> str:
        """What all have shown."""
        return "\n".join(f"=== {place}\n{self.said(place)[-6000:]}" for place in self._running)

    def _log(self, place: str) -> Path:
        return self.folder / f"{place.replace(':', '-')}.said"

    def __enter__(self) -> Launchers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for one in self._all:
            one.kill()
            one.wait()
