"""A network namespace for the tasks of a job, kept while the launcher lives.

    launcher ─pipe─ keeper ──► insider: a process in the namespace, which has only a loopback
                       └─────► way out: a program that carries what the tasks ask of the network,
                               and lets nobody in (pasta, slirp4netns)

Run as a program, `python -I -S namespace.py [command of the way out]`, and never imported by the
rest. It says "ready PID" with the insider's process id, by whose /proc/PID/ns tasks enter the
namespace (`start.py`), or else why there is none; and it ends all when its input ends. Linux only.

An ordinary user gets a user namespace with it, in which the user stays the same. Root has none, as
it would lose its power over the files of others there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import sys
import time

_NEW_USER, _NEW_NET = 0x10000000, 0x40000000
_GET_FLAGS, _SET_FLAGS = 0x8913, 0x8914  # of an interface
_UP = 0x1
_PDEATHSIG = 1
_WAY_OUT_SECONDS = 3.0


def enter_new_namespace() -> None:
    """Moves this process into a new network namespace, and sets its loopback up.

    Raises:
        OSError: The system does not allow it.
    """
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    user, group = os.geteuid(), os.getegid()
    if library.unshare(_NEW_NET | (_NEW_USER if user else 0)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    if user:
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    _set_loopback_up()
    library.prctl(_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def _set_loopback_up() -> None:
    import fcntl
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        asked = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(any_socket, _GET_FLAGS, asked))[1]
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh14x", b"lo", flags | _UP))


def start_insider() -> int:
    """Starts a process in a new namespace, which ends when its input does.

    Returns:
        Its process id.

    Raises:
        OSError: The system does not allow it.
    """
    told, telling = os.pipe()
    insider = os.fork()
    if insider == 0:
        try:
            enter_new_namespace()
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


def main(command: list[str]) -> None:
    """Keeps a namespace.

    Args:
        command: Of the way out; empty for none.
    """
    kept = []
    try:
        kept.append(start_insider())
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
    main(sys.argv[1:])
