"""Hosts of a cluster: look their names up without ever waiting long."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Iterable

from tfdist.cluster.address import Address

__all__ = ["UNANSWERED", "is_local", "look_up"]

UNANSWERED = "no answer from the name server"
"""What `look_up` says of a name that could not be looked up in time, be it right or wrong."""

_THREADS = 16


def look_up(hosts: Iterable[str], timeout: float) -> dict[str, tuple[str, ...] | str]:
    """Looks host names up, all at once.

    A resolver cannot be interrupted, so names are looked up in threads of which those that are
    late are left to themselves; they end when the resolver gives up.

    Args:
        hosts: Names or IP addresses.
        timeout: The longest time for all of them, in seconds.

    Returns:
        For each host its IP addresses; or, as a string, why there are none.
    """
    found: dict[str, tuple[str, ...] | str] = {}
    names: queue.SimpleQueue[str] = queue.SimpleQueue()
    for host in dict.fromkeys(hosts):
        if Address(host, 1).is_name:
            found[host] = UNANSWERED
            names.put(host)
        else:
            found[host] = _resolve(host)
    wanted = names.qsize()
    answers: queue.SimpleQueue[tuple[str, tuple[str, ...] | str]] = queue.SimpleQueue()
    for _ in range(min(wanted, _THREADS)):
        threading.Thread(target=_work, args=(names, answers), daemon=True).start()
    until = time.monotonic() + timeout
    for _ in range(wanted):
        try:
            host, addresses = answers.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            break
        found[host] = addresses
    return found


def is_local(ip: str) -> bool:
    """Tells whether an IP address is one of this machine's.

    Args:
        ip: An IPv4 or IPv6 address.

    Returns:
        Whether a socket can be bound to it here.
    """
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((ip, 0))
        except OSError:
            return False
    return True


def _work(
    names: queue.SimpleQueue[str], answers: queue.SimpleQueue[tuple[str, tuple[str, ...] | str]]
) -> None:
    while True:
        try:
            host = names.get_nowait()
        except queue.Empty:
            return
        answers.put((host, _resolve(host)))


def _resolve(host: str) -> tuple[str, ...] | str:
    try:
        infos = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        return (error.strerror or str(error)).lower()
    except UnicodeError:  # a label longer than 63 characters
        return "not a host name"
    return tuple(dict.fromkeys(str(info[4][0]) for info in infos))
