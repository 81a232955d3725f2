"""SSH servers on the loopback, with keys and a client configuration of their own."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.launch.processes import children_of

__all__ = ["SshHosts", "missing_programs", "ssh_hosts"]

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def missing_programs() -> str:
    """What is not here of OpenSSH; "" where all is."""
    missing = [name for name in ("ssh", "ssh-keygen") if shutil.which(name) is None]
    return ", ".join([*missing, *([] if SSHD else ["sshd"])])


@dataclass
class SshHosts:
    """Hosts that can be reached by SSH.

    Attributes:
        folder: Of keys and configurations.
        addresses: Of each host, by its name.
        port: Of all servers.
        servers: Their processes.
    """

    folder: Path
    addresses: dict[str, str]
    port: int
    servers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def config(self) -> Path:
        """The client's configuration."""
        return self.folder / "ssh_config"

    @property
    def ssh(self) -> str:
        """What `--ssh` is given."""
        return f"ssh -F {shlex.quote(str(self.config))}"

    def write_keys(self) -> None:
        """Makes a key for the servers, one for the user, and what both need to know of them."""
        for name in ("host_key", "user_key"):
            make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)]
            subprocess.run(make, check=True, stdin=subprocess.DEVNULL)
        key = (self.folder / "host_key.pub").read_text().split()[:2]
        lines = [f"[{at}]:{self.port} {' '.join(key)}\n" for at in self.addresses.values()]
        (self.folder / "known_hosts").write_text("".join(lines))
        shutil.copy(self.folder / "user_key.pub", self.folder / "authorized_keys")

    def write_config(self, **changed: str) -> Path:
        """Writes the client's configuration, with some settings changed."""
        settings = {
            "Port": str(self.port),
            "User": _user(),
            "IdentityFile": str(self.folder / "user_key"),
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "UserKnownHostsFile": str(self.folder / "known_hosts"),
            "GlobalKnownHostsFile": "/dev/null",
            **changed,
        }
        hosts = [f"Host {name}\n  HostName {at}\n" for name, at in self.addresses.items()]
        common = "".join(f"  {name} {value}\n" for name, value in settings.items())
        self.config.write_text("".join(hosts) + "Host *\n" + common)
        return self.config

    def serve(self, before: Sequence[str] = (), listen: Sequence[str] = ()) -> None:
        """Starts a server, and waits until it answers.

        Args:
            before: A command that starts it, as where it is a host of its own.
            listen: Its addresses.
        """
        name = f"sshd_{len(self.servers)}"
        config = self.folder / f"{name}_config"
        addresses = "".join(f"ListenAddress {at}:{self.port}\n" for at in listen)
        config.write_text(
            f"Port {self.port}\n{addresses}HostKey {self.folder / 'host_key'}\n"
            f"AuthorizedKeysFile {self.folder / 'authorized_keys'}\n"
            f"PidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nMaxStartups 100\n"
        )
        assert SSHD is not None
        with (self.folder / f"{name}.log").open("wb") as log:
            server = subprocess.Popen(
                [*before, SSHD, "-D", "-e", "-f", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.servers.append(server)
        until = time.monotonic() + 10
        while b"Server listening" not in (self.folder / f"{name}.log").read_bytes():
            said = (self.folder / f"{name}.log").read_text()
            assert server.poll() is None, f"sshd has ended: {said}"
            assert time.monotonic() < until, f"sshd does not listen: {said}"
            time.sleep(0.02)

    def close(self) -> None:
        """Ends the servers, and the sessions that a cut has left them."""
        for server in self.servers:
            sessions = children_of(server.pid)
            sessions += [one for session in sessions for one in children_of(session)]
            for pid in (server.pid, *sessions):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            server.wait()


@contextlib.contextmanager
def ssh_hosts(folder: Path) -> Iterator[SshHosts]:
    """Hosts a and b, which are 127.0.0.1 and 127.0.0.2 of this machine."""
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # the server wants it
    hosts = SshHosts(folder, {"a": "127.0.0.1", "b": "127.0.0.2"}, _free_port())
    try:
        hosts.write_keys()
        hosts.write_config()
        hosts.serve(listen=list(hosts.addresses.values()))
        yield hosts
    finally:
        hosts.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.geteuid()).pw_name
