"""Which tasks of a job have been at their addresses: who never was, has made no strategy.

TensorFlow's server, or the chief to whom the others come, listens at the address of its task. So
the launcher can see from outside, in the kernel's own table, whether a task takes part in its job,
whatever the script imports. Linux only; elsewhere nothing is known, and nothing said.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterable, Sequence

from tfdist.cluster import Cluster, Task
from tfdist.cluster.address import Address

__all__ = ["Presence"]

_SHORTEST_SECONDS = 0.25
_LONGEST_SECONDS = 5.0
_PATIENCE = 0.02  # the pause grows with what the tasks have run: most come at the beginning
_SHARE = 20  # a long table takes time to read: at most a twentieth of it
_LISTENING = b"0A"


class Presence:
    """Looks now and then which of the tasks listen at their ports."""

    def __init__(
        self,
        cluster: Cluster,
        tasks: Sequence[Task],
        network_of: str = "self",
        others: Sequence[str] = (),
    ) -> None:
        """Begins to look, in a job in which several tasks work together.

        Args:
            cluster: The job's cluster.
            tasks: Those of this machine.
            network_of: The id of a process in the network in which they run; this process' own by
                default.
            others: IP addresses at which others listen there, perhaps at the same ports.
        """
        self._network_of = network_of
        self._others = frozenset(map(_as_in_the_table, others))
        together = cluster.tasks_that_meet
        self._ports = {
            Address.parse(cluster.address(task)).port: task
            for task in tasks
            if task in together and len(together) > 1
        }
        self._seen: set[Task] = set()
        self._known = bool(self._ports)
        self._began = time.monotonic()
        self._due = 0.0

    def look(self) -> None:
        """Looks, where it is time to and somebody has not been seen."""
        now = time.monotonic()
        if not self._known or now < self._due or len(self._seen) == len(self._ports):
            return
        began = time.thread_time()
        try:
            places = set(_listening(self._network_of))
        except OSError:
            self._known = False
            return
        listening = {port for ip, port in places if ip not in self._others}
        self._seen |= {task for port, task in self._ports.items() if port in listening}
        pause = max(_SHORTEST_SECONDS, _PATIENCE * (now - self._began))
        spent = time.thread_time() - began
        self._due = now + max(min(pause, _LONGEST_SECONDS), _SHARE * spent)

    def absent(self) -> tuple[Task, ...]:
        """The tasks that were never seen, of those that should have been."""
        if not self._known:
            return ()
        return tuple(task for task in self._ports.values() if task not in self._seen)


def _listening(process: str) -> Iterable[tuple[bytes, int]]:
    """The IP addresses, as in the table, and ports where somebody listens in a process' network.

    Raises:
        OSError: The system does not tell.
    """
    for table in (f"/proc/{process}/net/tcp", f"/proc/{process}/net/tcp6"):
        try:
            with open(table, "rb") as file:
                lines = file.read().splitlines()[1:]
        except FileNotFoundError:
            if table.endswith("6"):  # a kernel without IPv6
                continue
            raise
        for line in lines:
            fields = line.split(maxsplit=4)
            if fields[3] == _LISTENING:
                ip, _, port = fields[1].rpartition(b":")
                yield ip, int(port, 16)


def _as_in_the_table(ip: str) -> bytes:
    """An IP address as the kernel writes it: words of 32 bits in hexadecimal digits."""
    packed = socket.inet_pton(socket.AF_INET6 if ":" in ip else socket.AF_INET, ip)
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return b"".join(b"%08X" % word for word in words)
