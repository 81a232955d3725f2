"""What can be asked of, and done to, connections that native code has made and waits on."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import stat
import time
from collections.abc import Collection, Iterable

from tfdist.cluster.address import Address
from tfdist.machine.hosts import look_up

__all__ = ["sever", "which_answer"]


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


def which_answer(servers: Iterable[Address], seconds: float = 2.0) -> set[Address]:
    """Which gRPC servers still say something: their processes run, whatever their Python does.

    The kernel takes a connection to a process that is stopped, too; the first words of HTTP/2 are
    answered by the threads of the process alone.

    Args:
        servers: Where they listen; all are asked at once.
        seconds: How long to wait for all of them.
    """
    until = time.monotonic() + seconds
    asked = set(servers)
    found = look_up([at.host for at in asked], seconds)
    answered: set[Address] = set()
    with contextlib.ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        for at in asked:
            ips = found[at.host]
            for ip in ips if isinstance(ips, tuple) else ():
                family = socket.AF_INET6 if ":" in ip else socket.AF_INET
                with contextlib.suppress(OSError):  # one that cannot be asked has not answered
                    one = stack.enter_context(socket.socket(family))
                    one.setblocking(False)
                    one.connect_ex((ip, at.port))  # what becomes of it, who writes will see
                    selector.register(one, selectors.EVENT_WRITE, (one, at))
        while selector.get_map() and (left := until - time.monotonic()) > 0:
            for key, event in selector.select(left):
                one, at = key.data
                selector.unregister(one)
                with contextlib.suppress(OSError):
                    if event & selectors.EVENT_WRITE:
                        one.sendall(_HTTP2)
                        selector.register(one, selectors.EVENT_READ, (one, at))
                    elif one.recv(1):
                        answered.add(at)
    return answered
