"""Takes sockets that listen along into stunnel, as systemd does.

Run as a program, `python -I -S become_stunnel.py STUNNEL DESCRIPTORS`, through `start.py`, and
never imported by the rest. From standard input come three texts, each ended by a zero byte: see
`StunnelConfig`. They become files of this process alone, in memory, so that no key lies on a disk.
"""

from __future__ import annotations

import fcntl
import os
import sys

_FIRST = 3  # of the descriptors that are handed over (sd_listen_fds)
_MOST = 65_536  # descriptors: four for each connection


def main(stunnel: str, sockets: list[int]) -> None:
    """Becomes stunnel.

    Args:
        stunnel: The program.
        sockets: Descriptors, in the order of the services.
    """
    raise_limit()
    text, keys, anchor, _ = sys.stdin.read().split("\0")
    above = _FIRST + len(sockets) + 8  # nothing there is overwritten below
    held = [fcntl.fcntl(one, fcntl.F_DUPFD, above) for one in sockets]
    files = {"keys": in_memory(keys, above), "anchor": in_memory(anchor, above)}
    paths = {name: f"/proc/self/fd/{descriptor}" for name, descriptor in files.items()}
    config = in_memory(text.format_map(paths), above)
    for number, one in enumerate(held):
        os.dup2(one, _FIRST + number, inheritable=True)
        os.close(one)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    environ = {"LISTEN_FDS": str(len(sockets)), "LISTEN_PID": str(os.getpid())}
    os.execve(stunnel, [stunnel, "-fd", str(config)], environ)


def in_memory(text: str, above: int) -> int:
    """A descriptor, from a number upwards, of a file with a text that nobody else can open."""
    made = os.memfd_create("stunnel", 0)
    os.fchmod(made, 0o600)
    os.write(made, text.encode())
    os.lseek(made, 0, os.SEEK_SET)
    descriptor = fcntl.fcntl(made, fcntl.F_DUPFD, above)
    os.close(made)
    return descriptor


def raise_limit() -> None:
    """Lets this process have as many descriptors as the system allows."""
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, _MOST), most))


if __name__ == "__main__":
    main(sys.argv[1], [int(one) for one in sys.argv[2].split(",")])
