"""Listens at addresses in the tasks' network, and hands the sockets to the launcher.

Run as a program, `python -I -S doorways.py DESCRIPTOR`, through `start.py`, and never imported by
the rest. It reads a line of "IP PORT" for each from standard input, and sends the sockets in their
order over the socket of the descriptor: whoever has them accepts what comes in that network, though
nobody can enter it again from outside.

A task's server listens at its port on all interfaces of that network, also those that have the
addresses of others, who may have the same port. Both sides set SO_REUSEPORT, so that the kernel
lets both in, and gives a connection to who listens at its very address.
"""

from __future__ import annotations

import socket
import sys

_AT_ONCE = 200  # the kernel takes 253


def listening(ip: str, port: int) -> socket.socket:
    """A socket that listens at an address."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    server = socket.socket(family, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    server.bind((ip, port))
    server.listen(512)
    return server


def main(descriptor: int) -> None:
    """Makes the sockets and sends them.

    Args:
        descriptor: Of a Unix socket.
    """
    places = [line.split() for line in sys.stdin]
    with socket.socket(fileno=descriptor) as way:
        for first in range(0, len(places), _AT_ONCE):
            made = [listening(ip, int(port)) for ip, port in places[first : first + _AT_ONCE]]
            socket.send_fds(way, [b"%d" % len(made)], [one.fileno() for one in made])
            way.recv(1)  # they have come, and can be closed here
            for one in made:
                one.close()


if __name__ == "__main__":
    main(int(sys.argv[1]))
