"""Which hosts a job has: `--hosts a,b[1-3]`, or a file with a host on each line. Pure text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tfdist.cluster.address import Address
from tfdist.environments.node_list import expand
from tfdist.errors import ClusterError

__all__ = ["Host", "hosts_in", "hosts_of", "parse_hosts_file"]

_LINE = "write a host, and slots=N or address=A behind it where needed: node1 slots=4"
_NAME = re.compile(r"(?!-)[\w.@:%+-]{1,255}", re.ASCII)


@dataclass(frozen=True)
class Host:
    """A host of a job.

    Attributes:
        name: As the SSH client takes it: a name, an alias of its configuration, user@name.
        slots: How many workers it has room for; None where nobody has said.
        address: Where the other hosts reach it; "" for that at which the launcher does.

    Raises:
        ClusterError: That is no host.
    """

    name: str
    slots: int | None = None
    address: str = ""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):  # what begins with "-" would be an option of ssh
            raise ClusterError(f"host {self.name!r} that is no name; write a, user@a or node[1-3]")
        if self.slots is not None and self.slots < 1:
            raise ClusterError(f"host {self.name} with slots={self.slots}; give 1 or more")
        if self.address:
            Address.parse(str(Address(self.address, 1)))


def hosts_of(text: str) -> tuple[Host, ...]:
    """Reads what `--hosts` was given: the path of a hosts file, else a list.

    Args:
        text: For example "a,b", "node[01-16]" or "hosts.txt".

    Raises:
        ClusterError: It is no list, names a host twice, or the file cannot be read.
    """
    path = Path(text)
    try:
        is_file = path.is_file()
    except OSError:  # a long list is no path
        is_file = False
    if not is_file:
        if "/" in text:
            raise ClusterError(f"no hosts file {text!r} here; give its path, or a list as a,b,c")
        return hosts_in(text)
    try:
        lines = path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        reason = (getattr(error, "strerror", None) or "no text").lower()
        raise ClusterError(f"hosts file {text} that cannot be read ({reason})") from None
    return parse_hosts_file(lines, text)


def hosts_in(text: str) -> tuple[Host, ...]:
    """Reads a list of hosts.

    Example:
        >>> [host.name for host in hosts_in("a,b[1-2]")]
        ['a', 'b1', 'b2']
    """
    return _checked((Host(name) for name in expand(text)), "--hosts")


def parse_hosts_file(text: str, name: str) -> tuple[Host, ...]:
    """Reads the lines of a hosts file.

    Args:
        text: A host, or a range of them as node[1-3], on each line; "#" begins a comment.
        name: Of the file.

    Raises:
        ClusterError: A line is none; the message has its number.
    """
    found: list[Host] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            slots, address = _settings(words[1:])
            found += [Host(one, slots, address) for one in expand(words[0])]
        except ClusterError as error:
            raise ClusterError(f"{name}, line {number}: {error}") from None
    return _checked(found, name)


def _settings(words: Iterable[str]) -> tuple[int | None, str]:
    given: dict[str, str] = {}
    for word in words:
        name, _, value = word.partition("=")
        if name not in ("slots", "address") or not value or name in given:
            raise ClusterError(f"{word!r}; {_LINE}")
        given[name] = value
    slots = given.get("slots")
    if slots is not None and not re.fullmatch("[0-9]{1,6}", slots):
        raise ClusterError(f"slots={slots!r}; give a number of workers, 1 or more")
    return None if slots is None else int(slots), given.get("address", "")


def _checked(hosts: Iterable[Host], source: str) -> tuple[Host, ...]:
    found: dict[str, Host] = {}
    for host in hosts:
        if host.name in found:
            raise ClusterError(
                f"{source} names the host {host.name} twice; name it once, and for several workers "
                "there give --workers, or slots=N in a hosts file"
            )
        found[host.name] = host
    if not found:
        raise ClusterError(f"{source} without a host; write a,b,c or a file with a host a line")
    return tuple(found.values())
