"""Reaches somebody who may not listen yet, and takes leave of those who have come."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable

from tfdist.cluster.address import Address
from tfdist.machine.hosts import look_up
from tfdist.rendezvous.messages import Connection, Gone, Stranger

__all__ = ["farewell", "reach"]

_FAREWELL = 2.0


def reach(place: Address, seconds: float) -> socket.socket | str:
    """Connects to an address, once.

    Args:
        place: Where.
        seconds: The longest that it may take.

    Returns:
        The connected socket; or, as a string, why there is none.
    """
    found = look_up([place.host], seconds)[place.host]
    if isinstance(found, str):
        return found
    family = socket.AF_INET6 if ":" in found[0] else socket.AF_INET
    attempt = socket.socket(family, socket.SOCK_STREAM)
    try:
        attempt.settimeout(seconds)
        attempt.connect((found[0], place.port))
        # Where nobody listens, the kernel may join the socket to itself.
        if attempt.getsockname() != attempt.getpeername():
            return attempt
        reason = "no answer"
    except OSError as error:
        reason = (error.strerror or str(error) or "no answer").lower()
    attempt.close()
    return reason


def farewell(guests: Iterable[Connection]) -> None:
    """Waits a little until all was sent, and read by those who are here, and closes.

    Args:
        guests: The connections.
    """
    until = time.monotonic() + _FAREWELL
    left, sent = list(guests), set()
    while left and time.monotonic() < until:
        for guest in list(left):
            try:
                if guest not in sent and guest.flush():
                    sent.add(guest)
                    guest.socket.shutdown(socket.SHUT_WR)
                # What nobody has read would have the kernel take back what was sent.
                guest.receive()
            except (Gone, Stranger, OSError):
                left.remove(guest)
                guest.close()
        time.sleep(0.02)
    for guest in left:
        guest.close()
