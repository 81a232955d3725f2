"""What a launcher says of itself when it comes to the others, and how two of them differ. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfdist.cluster.address import Address
from tfdist.launch.hosts.survey import Survey

__all__ = ["Node"]

_MOST = 1 << 12  # ports, and characters of a text, that are believed


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
        if not 0 < workers <= len(ports) <= _MOST:
            raise ValueError("ports")
        for port in ports:
            Address.parse(str(Address(address, port)))
        wants = {str(name): str(value)[:_MOST] for name, value in tree["wants"].items()}
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
                return (
                    f"{self.who} was started with {name} {mine or 'unset'}, {first.who} with "
                    f"{name} {value or 'unset'}; give the same command on every host"
                )
        faults = self.survey.faults(self.host, first.survey, command, f"on host {first.host}")
        return faults[0] if faults else ""
