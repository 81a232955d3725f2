"""What a launcher says of itself when it comes to the others, and how two of them differ. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfdist.cluster.address import Address
from tfdist.launch.hosts.survey import Survey
from tfdist.rendezvous.handshake import plain

__all__ = ["Node"]

_MOST_PORTS = 1 << 12  # that are believed
_MOST_SHOWN = 200  # characters of a text
_BEFORE = 40  # of these, ahead of where two texts begin to differ


@dataclass(frozen=True)
class Node:
    """A launcher, with the part of a job that it would run.

    Attributes:
        host: The name of its machine.
        pid: Its process.
        address: At which the others reach its machine.
        workers: How many it brings.
        ports: That it holds for its tasks.
        wants: What all of them must have been given alike, by the option's name.
        survey: What its machine has.
    """

    host: str
    pid: int
    address: str
    workers: int
    ports: tuple[int, ...]
    wants: Mapping[str, str]
    survey: Survey

    @property
    def who(self) -> str:
        """Itself, in words."""
        return f"{self.host} ({self.address}, process {self.pid})"

    def to_tree(self) -> dict[str, Any]:
        """Returns what `from_tree` takes."""
        return {
            "host": self.host,
            "pid": self.pid,
            "address": self.address,
            "workers": self.workers,
            "ports": list(self.ports),
            "wants": dict(self.wants),
            "survey": self.survey.to_tree(),
        }

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> Node:
        """Reads what `to_tree` wrote, and believes nothing of it.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: It is none.
        """
        ports = tuple(int(port) for port in tree["ports"])
        address, workers = str(tree["address"]), int(tree["workers"])
        if not 0 < workers <= len(ports) <= _MOST_PORTS:
            raise ValueError("ports")
        for port in ports:
            Address.parse(str(Address(address, port)))
        wants = {str(name): str(value) for name, value in tree["wants"].items()}
        survey = Survey.from_tree(tree["survey"])
        host = "".join(sign for sign in str(tree["host"])[:255] if sign.isprintable())
        return cls(host, int(tree["pid"]), address, workers, ports, wants, survey)

    def fault(self, first: Node, command: Sequence[str]) -> str:
        """How it differs from the first node, so that they cannot work together; "" if it does not.

        Args:
            first: The other one.
            command: The script's, of the first one.
        """
        for name, value in first.wants.items():
            mine = self.wants.get(name, "")
            if mine != value:
                both = zip(mine, value, strict=False)
                at = len([*itertools.takewhile(lambda two: two[0] == two[1], both)])
                return (
                    f"{self.who} was started with {name} {_shown(mine, at)}, {first.who} with "
                    f"{name} {_shown(value, at)}; give the same command on every host"
                )
        faults = self.survey.faults(self.host, first.survey, command, f"on host {first.host}")
        return faults[0] if faults else ""


def _shown(text: str, at: int) -> str:
    """What a text says around a place, which a stranger may have written."""
    begin = max(0, at - _BEFORE) if len(text) > _MOST_SHOWN else 0
    part = plain(text[begin:], _MOST_SHOWN)
    return f"{'...' * (begin > 0)}{part}{'...' * (begin + len(part) < len(text))}" or "unset"
