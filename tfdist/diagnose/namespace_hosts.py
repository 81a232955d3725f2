"""Hosts whose cables can be pulled: network namespaces on one switch. Needs root, and Linux."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from types import TracebackType

__all__ = ["Hosts", "reason_against", "remove_abandoned"]

_MARK = "tf"
_NAME = re.compile(rf"{_MARK}(\d+)(h\d+|sw|probe)")


def reason_against() -> str:
    """Why there can be no such hosts here; "" where there can."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "network namespaces need root, and Linux"
    missing = [name for name in ("ip", "unshare") if shutil.which(name) is None]
    if missing:
        return f"there is no {missing[0]} here"
    probe = f"{_MARK}{os.getpid()}probe"
    if subprocess.run(["ip", "netns", "add", probe], capture_output=True).returncode:
        return "this root may make no network namespace"
    subprocess.run(["ip", "netns", "del", probe], check=False)
    return ""


def remove_abandoned() -> int:
    """Removes the hosts of processes that were killed; returns how many namespaces these were."""
    found = [one for name in _namespaces() if (one := _NAME.fullmatch(name))]
    gone = [one[0] for one in found if not os.path.exists(f"/proc/{one[1]}")]
    _delete(gone)
    return len(gone)


def _namespaces() -> list[str]:
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=False)
    return [line.split()[0] for line in listed.stdout.splitlines() if line.strip()]


def _delete(names: Iterable[str]) -> None:
    for name in names:
        with contextlib.suppress(OSError):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


class Hosts:
    """Some hosts; a context manager, after which there are none.

    Args:
        count: how many.

    Attributes:
        addresses: their IP addresses.
    """

    def __init__(self, count: int) -> None:
        self._mark = f"{_MARK}{os.getpid()}"
        self._switch = f"{self._mark}sw"
        self.addresses = [f"10.78.0.{number + 1}" for number in range(count)]

    def __enter__(self) -> Hosts:
        try:
            _ip("netns", "add", self._switch)
            _ip("-n", self._switch, "link", "add", "br0", "type", "bridge")
            _ip("-n", self._switch, "link", "set", "br0", "up")
            for number, address in enumerate(self.addresses):
                name = self._name(number)
                peer = ["peer", "name", "eth0", "netns", name]
                _ip("netns", "add", name)
                _ip("link", "add", f"port{number}", "netns", self._switch, "type", "veth", *peer)
                self.mend(number)
                _ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
                _ip("-n", name, "link", "set", "eth0", "up")
                _ip("-n", name, "link", "set", "lo", "up")
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._remove()

    @property
    def left(self) -> int:
        """How many of its namespaces there are."""
        return len({*_namespaces()}.intersection(self._names()))

    def on(self, number: int, command: Sequence[object]) -> list[object]:
        """The command that runs another one on a host, which has a name of its own."""
        name = self._name(number)
        renamed = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', name, *command]
        return ["ip", "netns", "exec", name, *renamed]

    def cut(self, number: int) -> None:
        """Pulls a host's cable."""
        _ip("-n", self._switch, "link", "set", f"port{number}", "nomaster")

    def mend(self, number: int) -> None:
        """Puts it back."""
        _ip("-n", self._switch, "link", "set", f"port{number}", "master", "br0", "up")

    def processes(self, number: int) -> list[int]:
        """The processes that run on a host."""
        pids = ["ip", "netns", "pids", self._name(number)]
        listed = subprocess.run(pids, capture_output=True, text=True, check=True)
        return [int(pid) for pid in listed.stdout.split()]

    def _name(self, number: int) -> str:
        return f"{self._mark}h{number}"

    def _names(self) -> list[str]:
        return [*map(self._name, range(len(self.addresses))), self._switch]

    def _remove(self) -> None:
        _delete(self._names())


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
