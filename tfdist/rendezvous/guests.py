"""Those who have come to the chief and not yet said who they are: how many, and whom to log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from tfdist.rendezvous.messages import Connection, Refusal, Stranger
from tfdist.rendezvous.wording import Log

__all__ = ["StrangerLog", "crowded_out"]

_MOST_LINES = 20


def crowded_out(guests: Mapping[Connection, float]) -> Connection:
    """Chooses who has to go where there are too many.

    Args:
        guests: The connections, in the order in which they came; one or more.

    Returns:
        The first of the host with the most of them, so that no host can push another's tasks out.
    """
    counts = Counter(map(_host, guests))
    return max(guests, key=lambda one: counts[_host(one)])


@dataclass
class StrangerLog:
    """Logs each host's strangers once, so that none can fill the log.

    Attributes:
        log: Takes one line an event.
    """

    log: Log
    _told: set[tuple[str, type[Stranger]]] = field(default_factory=set, init=False)

    def note(self, connection: Connection, stranger: Stranger) -> None:
        """Logs a connection that is no task of the job, where its host has brought none like it."""
        key = (_host(connection), type(stranger))
        if key in self._told or len(self._told) >= _MOST_LINES:
            return
        self._told.add(key)
        if isinstance(stranger, Refusal):
            self.log(f"refused a connection from {connection.peer}: {stranger}")
        else:
            self.log(f"ignored a connection from {connection.peer}, no task but {stranger}")


def _host(connection: Connection) -> str:
    return connection.peer.rpartition(":")[0]
