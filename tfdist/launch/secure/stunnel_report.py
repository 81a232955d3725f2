"""What the log of a stunnel means to somebody who has started a job. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

__all__ = ["Report", "StunnelReport"]

_LINE = re.compile(r".* LOG\d\[(\d+)\]: (.*)")
_ACCEPTED = re.compile(r"Service \[(in|to) (.+)\] accepted connection from (.+):\d+$")
_MOST_REPORTS = 20  # strangers may come in any number

# What went wrong in a handshake, by what OpenSSL calls it.
_OTHER_SECRET = ("binder does not verify", "alert illegal parameter", "alert decrypt error")
_NO_TLS = ("wrong version number", "packet length too long", "http request", "unknown protocol")
_CERTIFICATE = ("certificate verify failed",)
_OTHER_TASK = ("alert handshake failure", "no suitable signature algorithm", "no shared cipher")

_SAME = "give every task the same TFDIST_SECRET or TFDIST_SECRET_FILE"


@dataclass(frozen=True)
class Report:
    """What is worth saying of a connection.

    Attributes:
        text: In a sentence.
        ends: Whether the job cannot go on.
    """

    text: str
    ends: bool = False


@dataclass
class StunnelReport:
    """Reads a log line by line, and says each thing once."""

    _connections: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    _said: set[str] = field(default_factory=set)

    def read(self, line: str) -> Report | None:
        """Takes in the next line.

        Args:
            line: Of the log.

        Returns:
            What is to be said now; None for nothing.
        """
        found = _LINE.fullmatch(line)
        if found is None:
            return None
        number, text = found.groups()
        if accepted := _ACCEPTED.fullmatch(text):
            way, address, peer = accepted.groups()
            # Of the task, without the name of one of its servers; see `Passage.label`.
            address = address.partition(" ")[0].replace("|", ":")
            self._connections[number] = (way, address, peer.removeprefix("::ffff:"))
            return None
        if text.startswith("Connection "):
            self._connections.pop(number, None)
            return None
        if number not in self._connections or not text.startswith(("SSL_accept", "SSL_connect")):
            return None
        way, address, peer = self._connections[number]
        report = _outgoing(address, text) if way == "to" else _incoming(address, peer, text)
        if report is None or report.text in self._said or len(self._said) >= _MOST_REPORTS:
            return None
        self._said.add(report.text)
        return report


def _outgoing(address: str, text: str) -> Report | None:
    if _any(_OTHER_SECRET, text):
        return Report(
            f"its tunnel to {address} was refused: there is another secret than here; {_SAME}", True
        )
    if _any(_CERTIFICATE, text):
        return Report(
            f"what answers at {address} shows a certificate in place of the job's secret: it is "
            "not the job's task, and nothing was sent to it"
        )
    if _any(_OTHER_TASK, text):
        return Report(
            f"its tunnel to {address} was refused: another task is there, or another cluster was "
            "given there than here; give every task the same",
            True,
        )
    if _any(_NO_TLS, text):
        return Report(f"what answers at {address} speaks no TLS; start that task with --secure")
    return None


def _incoming(address: str, peer: str, text: str) -> Report | None:
    if _any(_OTHER_SECRET, text):
        return Report(f"somebody at {peer} came to {address} with another secret than here")
    if _any(_NO_TLS, text):
        return Report(
            f"somebody at {peer} came to {address} without TLS: a stranger, or a task that was "
            "started without --secure"
        )
    if _any(_OTHER_TASK, text):
        return Report(f"somebody at {peer} came to {address} without the job's secret")
    return None


def _any(words: tuple[str, ...], text: str) -> bool:
    return any(word in text for word in words)
