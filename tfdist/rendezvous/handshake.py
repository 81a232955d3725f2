"""What a task says of itself when it comes to the rendezvous, and how two such words differ."""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from tfdist.cluster.spec import Cluster
from tfdist.errors import ClusterError

__all__ = ["PROTOCOL", "Handshake"]

PROTOCOL = 1


@dataclass(frozen=True)
class Handshake:
    """A task's word on itself.

    Attributes:
        task: Its name, as "worker:1".
        jobs: The jobs of its cluster.
        kind: The kind of strategy that it is going to make; "" where it does not say.
        versions: Of the packages that must agree, by name.
        timeout: How long it waits in all, in seconds.
        remaining: How much of that was left when it was sent, in seconds.
        pid: Its process.
        host: Its machine's own name.
        token: Random, so that a task that comes back is told from a second one like it.
        protocol: Of the rendezvous itself.
        refusal: Why it cannot come, so that nobody need wait for it; "" where it comes.
    """

    task: str
    jobs: Mapping[str, tuple[str, ...]]
    kind: str
    versions: Mapping[str, str]
    timeout: float
    remaining: float
    pid: int = field(default_factory=os.getpid)
    host: str = field(default_factory=socket.gethostname)
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    protocol: int = PROTOCOL
    refusal: str = ""

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> Handshake | None:
        """Reads a handshake.

        Args:
            message: What a connection brought.

        Returns:
            The handshake; None where the message is none.
        """
        try:
            handshake = cls(
                task=_plain(message["task"]),
                jobs={
                    str(job): tuple(str(one) for one in at) for job, at in message["jobs"].items()
                },
                kind=_plain(message["kind"]),
                versions={_plain(name): _plain(of) for name, of in message["versions"].items()},
                timeout=float(message["timeout"]),
                remaining=float(message["remaining"]),
                pid=int(message["pid"]),
                host=_plain(message["host"]),
                token=_plain(message["token"]),
                protocol=int(message["protocol"]),
                refusal=_plain(message.get("refusal", ""), 1000),
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            return None
        return handshake if message.get("say") == "hello" and handshake.remaining >= 0 else None

    def to_message(self) -> dict[str, Any]:
        """Returns the message that `from_message` reads."""
        plain = {one.name: getattr(self, one.name) for one in fields(self)}
        return {
            **plain,
            "say": "hello",
            "jobs": {job: list(at) for job, at in self.jobs.items()},
            "versions": dict(self.versions),
        }

    @property
    def who(self) -> str:
        """The process behind the task, as "process 12 on node-1"."""
        return f"process {self.pid} on {self.host}"

    def difference(self, chief: Handshake) -> str | None:
        """Says how this task differs from the chief, so that they cannot work together.

        Args:
            chief: The chief's own.

        Returns:
            The whole message for an error; None where they agree.
        """
        me = f"{self.task} ({self.who})"
        if self.refusal:
            return f"{me} cannot start: {self.refusal}"
        if self.protocol != chief.protocol:
            return (
                f"{me} speaks version {self.protocol} of the rendezvous, {chief.task} version "
                f"{chief.protocol}; install the same tfdist on every machine"
            )
        if jobs := _different_jobs(self.jobs, chief.jobs):
            mine, theirs = (_shown(handshake.jobs, jobs) for handshake in (self, chief))
            return (
                f"{me} was started with another cluster spec: it has {mine}, {chief.task} has "
                f"{theirs}; start every task with the same cluster"
            )
        for name in sorted(set(self.versions) & set(chief.versions)):
            if self.versions[name] != chief.versions[name]:
                return (
                    f"{me} runs {name} {self.versions[name]}, {chief.task} runs {name} "
                    f"{chief.versions[name]}; install the same version on every machine"
                )
        if self.kind != chief.kind:
            return (
                f"{me} is to run the strategy {self.kind or 'unknown'!r}, {chief.task} "
                f"{chief.kind or 'unknown'!r}; start every task with the same script and options"
            )
        return None


def _different_jobs(
    mine: Mapping[str, tuple[str, ...]], theirs: Mapping[str, tuple[str, ...]]
) -> list[str]:
    try:
        if Cluster(mine).digest() == Cluster(theirs).digest():
            return []
    except ClusterError:
        pass  # no cluster at all, so certainly another one
    return [job for job in {**theirs, **mine} if mine.get(job) != theirs.get(job)]


def _shown(jobs: Mapping[str, tuple[str, ...]], names: list[str]) -> str:
    return ", ".join(
        f"{name} = {_shortened(json.dumps(list(jobs[name])))}" if name in jobs else f"no {name}"
        for name in names
    )


def _shortened(text: str) -> str:
    return text if len(text) <= 400 else f"{text[:300]} ... {text[-90:]}"


def _plain(value: Any, longest: int = 255) -> str:
    """Makes what a stranger may have sent fit for a line of a log."""
    return "".join(char if char.isprintable() else "?" for char in str(value)[:longest])
