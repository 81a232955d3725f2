"""What can be asked of, and done to, connections that native code has made and waits on."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Collection

__all__ = ["grpc_answers", "sever"]


def sever(hosts: Collection[str], port: int) -> int:
    """Ends all TCP connections of this process to an address: who waits for it hears of it.

    Linux only; elsewhere nothing happens.

    Args:
        hosts: The IP addresses of the other side.
        port: Its port.

    Returns:
        How many there were.
    """
    found = 0
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError, ValueError):
                if not stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                    continue
                # A copy: the descriptor stays that of whoever has made the connection.
                with socket.socket(fileno=os.dup(int(name))) as one:
                    if one.family not in (socket.AF_INET, socket.AF_INET6):
                        continue
                    host, its_port = one.getpeername()[:2]
                    if its_port == port and host.removeprefix("::ffff:") in hosts:
                        one.shutdown(socket.SHUT_RDWR)
                        found += 1
    return found


_HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


def grpc_answers(host: str, port: int, seconds: float = 2.0) -> bool:
    """Whether a gRPC server still says something: its process runs, whatever its Python does.

    The kernel takes a connection to a process that is stopped, too; the first words of HTTP/2 are
    answered by the threads of the process alone.

    Args:
        host: A name or an IP address.
        port: Its port.
        seconds: How long to wait, for the connection and for the answer.
    """
    try:
        with socket.create_connection((host, port), seconds) as one:
            one.settimeout(seconds)
            one.sendall(_HTTP2)
            return bool(one.recv(1))
    except OSError:
        return False
