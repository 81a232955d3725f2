"""How other hosts reach this machine, and how it asks for the names of others."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
import sys
from pathlib import Path

__all__ = ["name_servers", "outer_addresses"]

_GET_FLAGS, _GET_ADDRESS = 0x8913, 0x8915
_UP, _LOOPBACK = 0x1, 0x8
_GLOBAL = "00"


def outer_addresses() -> list[str]:
    """The IP addresses of this machine at which other hosts may reach it.

    Returns:
        Those of every interface that is up and no loopback; ["its network"] where the system is not
        Linux and does not tell.
    """
    if sys.platform != "linux":
        return ["its network"]
    import fcntl

    found = []
    up = set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            asked = struct.pack("40s", name.encode())
            with contextlib.suppress(OSError):
                (flags,) = struct.unpack_from("H", fcntl.ioctl(any_socket, _GET_FLAGS, asked), 16)
                if flags & _UP and not flags & _LOOPBACK:
                    up.add(name)
                    at = fcntl.ioctl(any_socket, _GET_ADDRESS, asked)[20:24]
                    found.append(socket.inet_ntoa(at))
    with contextlib.suppress(OSError):  # a kernel without IPv6
        for line in Path("/proc/net/if_inet6").read_text().splitlines():
            address, _, _, scope, _, name = line.split()
            if scope == _GLOBAL and name in up:
                found.append(str(ipaddress.IPv6Address(bytes.fromhex(address))))
    return found


def name_servers() -> list[str]:
    """The addresses that /etc/resolv.conf names."""
    with contextlib.suppress(OSError):
        lines = Path("/etc/resolv.conf").read_text().splitlines()
        words = [line.split() for line in lines]
        return [each[1] for each in words if len(each) > 1 and each[0] == "nameserver"]
    return []
