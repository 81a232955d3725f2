"""Names of hosts as schedulers write them: "node[1-3,7],gpu[01-02]-ib". Pure text."""

from __future__ import annotations

import re

from tfdist.errors import ClusterError

__all__ = ["expand"]

_MOST = 100_000
_PART = re.compile(r"([^\[\],]*)(?:\[([^\[\]]*)\])?")
_RANGE = re.compile(r"(\d+)(?:-(\d+))?", re.ASCII)


def expand(text: str) -> tuple[str, ...]:
    """Lists the hosts that a compact list names, as `scontrol show hostnames` does.

    Args:
        text: names with ranges in brackets, several of which a name may have; blanks, line ends
            and commas part them.

    Returns:
        The names, in the list's order; zeros in front of a number are kept.

    Raises:
        ClusterError: it is no such list.

    Example:
        >>> expand("node[08-10],login")
        ('node08', 'node09', 'node10', 'login')
    """
    hosts: list[str] = []
    for name in re.split(r"[,\s]+(?![^\[]*\])", text.strip()):
        found = [""]
        at = 0
        while at < len(name):
            part = _PART.match(name, at)
            if part is None or part.end() == at:
                raise ClusterError(f"{text!r} is no list of hosts: {name[at:]!r}; write a,b[1-3]")
            endings = [""] if part[2] is None else _numbers(part[2], text)
            if len(hosts) + len(found) * len(endings) > _MOST:
                raise ClusterError(f"{text[:60]!r} names more than {_MOST} hosts")
            found = [one + part[1] + ending for one in found for ending in endings]
            at = part.end()
        hosts += filter(None, found)
    return tuple(hosts)


def _numbers(ranges: str, text: str) -> list[str]:
    numbers: list[str] = []
    for one in ranges.split(","):
        found = _RANGE.fullmatch(one.strip())
        last = int(found[2] or found[1]) if found else 0
        if found is None or not 0 <= last - int(found[1]) < _MOST:
            raise ClusterError(f"{text!r} is no list of hosts: [{ranges}]; write a,b[1-3]")
        width = len(found[1])
        numbers += [str(number).zfill(width) for number in range(int(found[1]), last + 1)]
    return numbers
