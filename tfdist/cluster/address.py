"""An address: the host and the port where a task listens."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from tfdist.errors import ClusterError

__all__ = ["Address"]

_FORM = "write host:port, for example 10.0.0.2:2222 or [fd00::2]:2222"
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?", re.ASCII)
_LOOPBACK_NAMES = frozenset(
    {"localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback", "localhost6"}
)


@dataclass(frozen=True)
class Address:
    """Where a task listens.

    Attributes:
        host: A host name, or an IPv4 or IPv6 address without brackets.
        port: 1 to 65535.
    """

    host: str
    port: int

    @classmethod
    def parse(cls, text: object) -> Address:
        """Reads "host:port".

        Args:
            text: For example "10.0.0.2:2222", "node-1.example:2222" or "[::1]:2222".

        Returns:
            The address.

        Raises:
            ClusterError: It is no such text; the message says what is wrong with it.
        """
        if not isinstance(text, str):
            raise ClusterError(f"address {text!r} that is not a string; {_FORM}")
        if "://" in text:
            bare = text.partition("://")[2].partition("/")[0]
            raise ClusterError(
                f"address {text!r} with a scheme; write host:port alone: {bare or 'host:port'!r}"
            )
        host, colon, port = text.rpartition(":")
        if text.startswith("["):
            host, bracket, rest = text[1:].partition("]")
            if not bracket or not _is_ipv6(host) or (rest and not rest.startswith(":")):
                raise ClusterError(f"address {text!r} with no IPv6 address in brackets; {_FORM}")
            port = rest[1:]
        elif "," in text:
            raise ClusterError(f"addresses {text!r} in one string; give each a string of its own")
        elif ":" in host:
            raise ClusterError(f"address {text!r} with too many colons; {_FORM}")
        elif not colon:
            host, port = text, ""
        if not port:
            raise ClusterError(f"address {text!r} without a port; {_FORM}")
        if not re.fullmatch(r"[0-9]+", port, re.ASCII):
            raise ClusterError(f"address {text!r} with the port {port!r}, not a number; {_FORM}")
        if not 1 <= int(port) <= 65535:
            raise ClusterError(
                f"address {text!r} with port {int(port)}; every task needs a fixed port "
                "from 1 to 65535, known to all the others"
            )
        if not _is_ipv6(host) and not _HOST.fullmatch(host):
            raise ClusterError(f"address {text!r} with the host {host!r}, not a host name; {_FORM}")
        return cls(host, int(port))

    @property
    def is_loopback(self) -> bool:
        """Whether the host means "this machine", so that no other machine can reach it."""
        if self.host.lower().rstrip(".") in _LOOPBACK_NAMES:
            return True
        try:
            ip = ipaddress.ip_address(self.host.partition("%")[0])
        except ValueError:
            return False
        # Connecting to the unspecified address (0.0.0.0) ends at the machine itself.
        return ip.is_loopback or ip.is_unspecified

    @property
    def is_name(self) -> bool:
        """Whether the host must be looked up, being no IP address."""
        try:
            ipaddress.ip_address(self.host.partition("%")[0])
        except ValueError:
            return True
        return False

    @property
    def canonical(self) -> tuple[str, int]:
        """Equal for two addresses that one TensorFlow server alone can listen at.

        A server listens on all interfaces, so all the names of the loopback are one host.
        """
        if self.is_loopback:
            return "localhost", self.port
        try:
            return str(ipaddress.ip_address(self.host)), self.port
        except ValueError:
            return self.host.lower().rstrip("."), self.port

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
