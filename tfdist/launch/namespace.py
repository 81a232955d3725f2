"""A network namespace for the tasks of a job, kept while the launcher lives.

    launcher ─pipe─ keeper ──► insider: a process in the namespace, which has only a loopback
                       └─────► way out: a program that carries what the tasks ask of the network,
                               and lets nobody in (pasta, slirp4netns)

Run as a program, `python -I -S namespace.py ADDRESSES HOSTS [command of the way out]`, and never
imported by the rest. ADDRESSES, with commas between, are given to its loopback, too; the file HOSTS
takes the place of /etc/hosts for processes that enter; "" stands for none. It says "ready PID" with
the insider's process id, by whose /proc/PID/ns tasks enter the namespace (`start.py`), or else why
there is none; and it ends all when its input ends. Linux only.

An ordinary user gets a user namespace with it, in which the user stays the same. Root has none, as
it would lose its power over the files of others there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import struct
import sys
import time

_NEW_USER, _NEW_NET, _NEW_MOUNTS = 0x10000000, 0x40000000, 0x00020000
_BIND, _REC, _SLAVE = 0x1000, 0x4000, 0x80000  # of a mount
_GET_FLAGS, _SET_FLAGS = 0x8913, 0x8914  # of an interface
_UP = 0x1
_NEW_ADDRESS, _REQUEST_CREATE_ACK = 20, 0x405  # of rtnetlink
_NO_DUPLICATE_CHECK = 0x02
_PDEATHSIG = 1
_WAY_OUT_SECONDS = 3.0


def enter_new_namespace(addresses: list[str], hosts: str) -> None:
    """Moves this process into a new network namespace, and sets its loopback up.

    Args:
        addresses: What the loopback has besides.
        hosts: The file that takes the place of /etc/hosts; "" for none.

    Raises:
        OSError: The system does not allow it.
    """
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    user, group = os.geteuid(), os.getegid()

    def check(failed: int) -> None:
        if failed:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    check(library.unshare(_NEW_NET | (_NEW_USER if user else 0) | (_NEW_MOUNTS if hosts else 0)))
    if user:
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    _set_loopback_up()
    for address in addresses:
        _add_to_loopback(address)
    if hosts:
        # What is mounted outside later is seen inside, too, and not the other way round.
        check(library.mount(b"none", b"/", None, _REC | _SLAVE, None))
        check(library.mount(os.fsencode(hosts), b"/etc/hosts", None, _BIND, None))
    library.prctl(_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def _set_loopback_up() -> None:
    import fcntl
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        asked = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(any_socket, _GET_FLAGS, asked))[1]
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh14x", b"lo", flags | _UP))


def _add_to_loopback(address: str) -> None:
    import socket

    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    ip = socket.inet_pton(family, address)
    index = socket.if_nametoindex("lo")
    body = struct.pack("=BBBBi", family, len(ip) * 8, _NO_DUPLICATE_CHECK, 0, index)
    for kind in (1, 2):  # the other end's, and its own
        body += struct.pack("=HH", 4 + len(ip), kind) + ip
    head = struct.pack("=IHHII", 16 + len(body), _NEW_ADDRESS, _REQUEST_CREATE_ACK, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.sendall(head + body)
        failed = -struct.unpack("=i", kernel.recv(4096)[16:20])[0]
    if failed and failed != errno.EEXIST:
        raise OSError(failed, f"{address}: {os.strerror(failed)}")


def start_insider(addresses: list[str], hosts: str) -> int:
    """Starts a process in a new namespace, which ends when its input does.

    Args:
        addresses: See `enter_new_namespace`.
        hosts: See `enter_new_namespace`.

    Returns:
        Its process id.

    Raises:
        OSError: The system does not allow it.
    """
    told, telling = os.pipe()
    insider = os.fork()
    if insider == 0:
        try:
            enter_new_namespace(addresses, hosts)
            os.write(telling, b"0")
        except OSError as error:
            os.write(telling, b"%d" % (error.errno or 1))
        finally:
            os.close(telling)
            os.close(1)
        os.read(0, 1)
        os._exit(0)
    os.close(telling)
    number = int(os.read(told, 16) or b"1")
    os.close(told)
    if number:
        _end(insider)
        raise OSError(number, os.strerror(number))
    return insider


def start_way_out(command: list[str], insider: int) -> int:
    """Starts the program that carries what the namespace asks of the network.

    Args:
        command: The program and its arguments; "PID" stands for the insider.
        insider: A process in the namespace.

    Returns:
        Its process id.

    Raises:
        OSError: It does not start, or makes no way within three seconds.
    """
    program = os.fork()
    if program == 0:
        with contextlib.suppress(OSError):
            nothing = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(nothing, descriptor)
            # Python ignores it, exec would hand that on, and pasta refuses to start so.
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            os.execvp(command[0], [str(insider) if one == "PID" else one for one in command])
        os._exit(127)
    until = time.monotonic() + _WAY_OUT_SECONDS
    while not _has_route(insider):
        ended, status = os.waitpid(program, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            raise OSError(1, f"{command[0]} has ended with exit code {code}")
        if time.monotonic() > until:
            _end(program)
            raise OSError(1, f"{command[0]} has made no way out within {_WAY_OUT_SECONDS:g} s")
        time.sleep(0.003)
    return program


def _has_route(pid: int) -> bool:
    """Whether a process reaches more than its loopback."""
    with open(f"/proc/{pid}/net/route") as file:
        if len(file.readlines()) > 1:
            return True
    with contextlib.suppress(OSError), open(f"/proc/{pid}/net/ipv6_route") as file:
        return any(
            line.split()[0] == "0" * 32 and line.split()[-1] != "lo" for line in file.readlines()
        )
    return False


def _end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, ChildProcessError, PermissionError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def main(addresses: list[str], hosts: str, command: list[str]) -> None:
    """Keeps a namespace.

    Args:
        addresses: See `enter_new_namespace`.
        hosts: See `enter_new_namespace`.
        command: Of the way out; empty for none.
    """
    kept = []
    try:
        kept.append(start_insider(addresses, hosts))
        if command:
            kept.append(start_way_out(command, kept[0]))
    except OSError as error:
        print(error.strerror, flush=True)
    else:
        print(f"ready {kept[0]}", flush=True)
        os.read(0, 1)
    for pid in reversed(kept):
        _end(pid)


if __name__ == "__main__":
    main([one for one in sys.argv[1].split(",") if one], sys.argv[2], sys.argv[3:])
