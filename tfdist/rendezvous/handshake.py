"""What a task says of itself when it comes to the rendezvous, and how two such words differ."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import secrets
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NoReturn

from tfdist.cluster.spec import Cluster
from tfdist.given_numbers import is_wait
from tfdist.rendezvous.cards import difference_of

__all__ = ["PROTOCOL", "Handshake", "plain"]

PROTOCOL = 3


@dataclass(frozen=True)
class Handshake:
    """A task's word on itself.

    Attributes:
        task: Its name, as "worker:1".
        jobs: The jobs of its cluster; none in the short form, which is as long for any number of
            tasks.
        kind: The kind of strategy that it is going to make; "" where it does not say.
        versions: Of the packages that must agree, by name.
        timeout: How long it waits in all, in seconds.
        remaining: How much of that was left when it was sent, in seconds.
        pid: Its process.
        host: Its machine's own name.
        token: Random, so that a task that comes back is told from a second one like it.
        protocol: Of the rendezvous itself.
        refusal: Why it cannot come, so that nobody need wait for it; "" where it comes.
        cards: The GPUs that it computes on; None where the others need not know.
        digest: Of the cluster; that of `jobs`, where they are there.
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
    cards: tuple[str, ...] | None = None
    digest: str = ""

    def __post_init__(self) -> None:
        if self.jobs:
            object.__setattr__(self, "digest", _digest(tuple(self.jobs.items())))

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
                task=_text(message["task"]),
                jobs={
                    _exactly(job): tuple(_exactly(one) for one in at)
                    for job, at in _mapping(message["jobs"])
                    if isinstance(at, list) or _no("list of addresses", at)
                },
                kind=_text(message["kind"]),
                versions={_text(name): _text(of) for name, of in _mapping(message["versions"])},
                timeout=_seconds(message["timeout"]),
                remaining=_seconds(message["remaining"]),
                pid=_count(message["pid"]),
                host=_text(message["host"]),
                token=_text(message["token"]),
                protocol=_count(message["protocol"]),
                refusal=plain(_exactly(message.get("refusal", "")), 1000),
                cards=_texts(message.get("cards")),
                digest=_text(message.get("digest", "")),
            )
        except (KeyError, ValueError):
            return None
        return handshake if message.get("say") == "hello" else None

    def to_message(self, *, whole: bool = True) -> dict[str, Any]:
        """Returns the message that `from_message` reads.

        Args:
            whole: Whether it has the jobs, and not their digest alone.
        """
        plain = {one.name: getattr(self, one.name) for one in fields(self)}
        return {
            **plain,
            "say": "hello",
            "jobs": {job: list(at) for job, at in self.jobs.items()} if whole else {},
            "versions": dict(self.versions),
            "cards": None if self.cards is None else list(self.cards),
        }

    def lacks_jobs(self, chief: Handshake) -> bool:
        """Whether its cluster is another one than the chief's, and it has not said which.

        Args:
            chief: The chief's own.
        """
        return not self.jobs and self.digest != chief.digest and self.protocol == chief.protocol

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
        if jobs := _different_jobs(self, chief):
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
        return difference_of(me, self.cards, chief.task, chief.cards)


def _different_jobs(mine: Handshake, theirs: Handshake) -> list[str]:
    if mine.digest == theirs.digest:
        return []
    return [
        job for job in {**theirs.jobs, **mine.jobs} if mine.jobs.get(job) != theirs.jobs.get(job)
    ]


@functools.lru_cache(4)
def _digest(jobs: tuple[tuple[str, tuple[str, ...]], ...]) -> str:
    try:
        return Cluster(dict(jobs)).digest()
    except ValueError:  # a ClusterError, or what no text of a cluster can be
        return f"no cluster: {hashlib.sha256(json.dumps(jobs).encode()).hexdigest()[:12]}"


def _shown(jobs: Mapping[str, tuple[str, ...]], names: list[str]) -> str:
    return ", ".join(
        f"{name} = {_shortened(json.dumps(list(jobs[name])))}" if name in jobs else f"no {name}"
        for name in names
    )


def _shortened(text: str) -> str:
    return text if len(text) <= 400 else f"{text[:300]} ... {text[-90:]}"


def plain(text: str, longest: int = 255) -> str:
    """Makes what a stranger may have sent fit for a line of a log.

    Args:
        text: Any text.
        longest: How many of its characters to keep.
    """
    return "".join(char if char.isprintable() else "?" for char in text[:longest])


def _text(value: object) -> str:
    return plain(_exactly(value))


def _exactly(value: object) -> str:
    return value if isinstance(value, str) else _no("text", value)


def _texts(value: object) -> tuple[str, ...] | None:
    if value is None or isinstance(value, list):
        return None if value is None else tuple(map(_text, value))
    return _no("list of texts", value)


def _mapping(value: object) -> Iterable[tuple[object, object]]:
    return value.items() if isinstance(value, dict) else _no("object", value)


def _count(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53:
        return value
    return _no("count", value)


def _seconds(value: object) -> float:
    if value == 0 and not isinstance(value, bool):
        return 0.0
    if is_wait(value):
        return float(value)
    return _no("time", value)


def _no(what: str, value: object) -> NoReturn:
    raise ValueError(f"{type(value).__name__} where a {what} should be")
