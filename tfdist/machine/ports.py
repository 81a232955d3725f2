"""Ports of this machine: hold free ones for a job, and tell who has a port that is not free."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from tfdist.errors import ClusterError

__all__ = ["Reservation", "busy", "hold", "listen", "reuse_port", "shareable"]


def reuse_port(environ: Mapping[str, str] | None = None) -> bool:
    """Returns whether TensorFlow's servers of this process will share their port.

    Args:
        environ: The variables; those of this process by default.

    Returns:
        Whether TF_GRPC_REUSE_PORT asks for SO_REUSEPORT, on a system that has it.
    """
    value = (os.environ if environ is None else environ).get("TF_GRPC_REUSE_PORT", "")
    return value.strip().lower() in ("1", "true") and hasattr(socket, "SO_REUSEPORT")


def shareable(environ: Mapping[str, str] | None = None) -> bool:
    """Returns whether TensorFlow can open a port that is held (see `hold`).

    Measured with TensorFlow 2.21: on Linux it always can, as gRPC sets SO_REUSEADDR; and then a
    second server at the port is refused. Under TF_GRPC_REUSE_PORT=1 it can too, but a second
    server is let in silently, so Linux needs no such setting.

    Args:
        environ: The variables; those of this process by default.

    Returns:
        Whether holding a port does not keep TensorFlow out.
    """
    return sys.platform == "linux" or reuse_port(environ)


def hold(port: int = 0) -> socket.socket:
    """Binds a port without listening, so that the kernel gives it to nobody who asks for any.

    A server that asks for this very port still gets it, if it sets SO_REUSEADDR (on Linux, as
    gRPC always does) or SO_REUSEPORT (as TensorFlow does where TF_GRPC_REUSE_PORT=1).

    Args:
        port: The port; 0 for any free one.

    Returns:
        The bound socket, on all interfaces; the port is held until it is closed.

    Raises:
        OSError: Somebody else has the port.
    """
    return _bound(port, share=True)


def listen(port: int, *, host: str | None = None, backlog: int = 128) -> socket.socket:
    """Listens at a port that this process may hold already.

    Args:
        port: The port.
        host: An address of this machine to listen at; None for all interfaces.
        backlog: How many connections may wait to be accepted.

    Returns:
        The listening socket; the only listener at the port, wherever the kernel can tell.

    Raises:
        OSError: Somebody else has the port.
    """
    try:
        # Without SO_REUSEPORT, so that a second listener is an error and not a coin toss.
        server = _bound(port, share=False, host=host)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or not reuse_port() or _answers(port):
            raise
        server = _bound(port, share=True, host=host)
    try:
        server.listen(backlog)
    except OSError:
        server.close()
        raise
    return server


class Reservation:
    """Ports of this machine, held for a whole job so that no two jobs get the same.

    The sockets are bound and do not listen: the tasks bind the same ports themselves.

    Example:
        >>> with Reservation(3) as reservation:
        ...     start_tasks(reservation.ports)

    Attributes:
        ports: The ports.
    """

    def __init__(self, count: int = 0, *, ports: Sequence[int] = ()) -> None:
        """Binds the ports.

        Args:
            count: How many free ports to find.
            ports: Ports to hold besides.

        Raises:
            ClusterError: One of the ports is in use, or the machine has no more free ones.
        """
        self._sockets: list[socket.socket] = []
        for port in (*ports, *[0] * count):
            try:
                self._sockets.append(hold(port))
            except OSError as error:
                self.close()
                raise ClusterError(
                    f"port {port} that is {busy(port) or 'in use'}; end that, or take another"
                    if port
                    else f"no more free ports ({_reason(error)}) of {count} wanted; end other jobs"
                ) from None
        self.ports: tuple[int, ...] = tuple(one.getsockname()[1] for one in self._sockets)

    def close(self) -> None:
        """Lets go of the ports."""
        for one in self._sockets:
            one.close()
        self._sockets.clear()

    def __enter__(self) -> Reservation:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()


def busy(port: int) -> str | None:
    """Tells whether a server of this process could not listen at a port of this machine.

    Args:
        port: The port.

    Returns:
        None where the port is free, or only held (see `hold`) for this process; else the
        reason, with the process that has the port where the system tells.
    """
    try:
        _bound(port, share=False).close()
    except OSError as error:
        if error.errno == errno.EACCES:
            return "not open to this user (ports below 1024 are the system's)"
        if error.errno != errno.EADDRINUSE:
            return f"not to be had ({_reason(error)})"
    else:
        return None
    if reuse_port() and not _answers(port):
        with contextlib.suppress(OSError):
            _bound(port, share=True).close()
            return None
    holder = _holder(port)
    return f"in use by {holder}" if holder else "in use by another process"


def _bound(port: int, *, share: bool, host: str | None = None) -> socket.socket:
    """Returns a socket bound to a port; `share` lets other sockets of this user bind it too."""
    if host is not None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return _bind(family, host, port, share)
    if socket.has_ipv6:
        try:
            return _bind(socket.AF_INET6, "::", port, share)
        except OSError as error:
            # A kernel without IPv6 says so in one of these ways; a used port is no such case.
            if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT):
                raise
    return _bind(socket.AF_INET, "0.0.0.0", port, share)


def _bind(family: socket.AddressFamily, host: str, port: int, share: bool) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere it would let two servers listen at one port
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share and hasattr(socket, "SO_REUSEPORT"):
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6 and host == "::":
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound


def _answers(port: int) -> bool:
    """Tells whether somebody listens at a port of the loopback; a held port does not answer."""
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.settimeout(0.2)
            if probe.connect_ex((host, port)) == 0 and probe.getsockname() != probe.getpeername():
                return True
    return False


def _holder(port: int) -> str | None:
    """Returns the process that has a port, as "process 123 (python train.py)"; Linux only."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if int(fields[1].rpartition(":")[2], 16) == port and fields[9] != "0":
                    inodes.add(f"socket:[{fields[9]}]")
    if not inodes:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # another user's process, or one that has just ended
            for descriptor in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if os.readlink(descriptor) in inodes:
                        line = (process / "cmdline").read_bytes().decode(errors="replace")
                        command = " ".join(line.replace("\0", " ").split())
                        itself = ", this one" if int(process.name) == os.getpid() else ""
                        return f"process {process.name}{itself} ({command[:80]})"
    return None


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
