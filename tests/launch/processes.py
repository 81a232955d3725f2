"""The processes of this machine: whose they are, in which network, and where they listen."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

from tests.launch.support import is_alive

__all__ = ["children_of", "command", "in_network", "is_reached", "listening_of", "tasks_of"]


def tasks_of(launcher: subprocess.Popen[bytes]) -> list[int]:
    return [pid for pid in children_of(launcher.pid) if "script.py" in command(pid)]


def children_of(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent and fields[0] not in "ZX":
            found.append(int(path.parent.name))
    return found


def command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def in_network(space: str) -> list[int]:
    """The living processes in a network namespace."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(path / "ns" / "net") == space and is_alive(int(path.name)):
                found.append(int(path.name))
        except OSError:
            continue
    return found


def listening_of(pids: list[int]) -> list[str]:
    """The ports at which these processes listen, each the end of a text, of 5 characters."""
    lines = [  # TensorFlow's servers are in the table of IPv6
        line
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/{pids[0]}/net/{table}").read_text().splitlines()[1:]
    ]
    inodes = set()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            inodes.add(os.readlink(descriptor))
    return [
        f"{int(fields[1].rpartition(':')[2], 16):5}"
        for fields in (line.split() for line in lines)
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes
    ]


def is_reached(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex(("127.0.0.1", port)) == 0
