"""The command that connects to a host, and what its failure means, in a sentence. Pure text."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tfdist.errors import ClusterError

__all__ = ["AGENT_MODULE", "Trouble", "remote_command", "ssh_command", "trouble_of"]

AGENT_MODULE = "tfdist.launch.hosts.agent"
NO_FOLDER = 93
"""What the command on a host ends with where the working directory is not there."""

_SSH_FAILED = 255
_NOT_FOUND = (126, 127)
CONNECT_SECONDS = 10
# No question is ever asked, nor a host key taken that is not known; the connection is this job's
# own, and its end is noticed. What --ssh says besides comes before, and counts.
_OPTIONS = (
    "BatchMode=yes",
    f"ConnectTimeout={CONNECT_SECONDS}",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
    "ControlMaster=no",
    "ControlPath=none",
    "RemoteCommand=none",
    "StrictHostKeyChecking=yes",
    "ClearAllForwardings=yes",
    "ForwardAgent=no",
    "ForwardX11=no",
    "PermitLocalCommand=no",
    "RequestTTY=no",
    "EscapeChar=none",
)


@dataclass(frozen=True)
class Trouble:
    """Why a host cannot be used.

    Attributes:
        text: In a sentence, with what to do.
        lasts: Whether somebody must mend it, so that trying again is of no use.
    """

    text: str
    lasts: bool = True


def ssh_command(ssh: str, host: str, remote: str) -> list[str]:
    """The command of a connection.

    Args:
        ssh: The client, and options of its own, as "ssh -F config".
        host: As the client takes it.
        remote: What runs there.

    Raises:
        ClusterError: That is no command.
    """
    try:
        words = shlex.split(ssh)
    except ValueError as error:
        raise ClusterError(f"--ssh {ssh!r} that is no command ({str(error).lower()})") from None
    if not words:
        raise ClusterError("--ssh without a command; give ssh, or ssh -F FILE, say")
    options = [word for option in _OPTIONS for word in ("-o", option)]
    return [*words, "-T", *options, "--", host, remote]


def remote_command(python: str, folder: str, variables: Mapping[str, str]) -> str:
    """What the host's shell is told, of whatever kind it is.

    Args:
        python: The interpreter.
        folder: Where the tasks run.
        variables: What it needs to find tfdist; no secret, as all users of a host see it.
    """
    settings = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
    script = (
        f"cd {shlex.quote(folder)} 2>/dev/null || exit {NO_FOLDER}; "
        f"{settings + ' ' if settings else ''}exec {shlex.quote(python)} -m {AGENT_MODULE}"
    )
    return f"exec sh -c {shlex.quote(script)}"


def trouble_of(host: str, code: int | None, said: str, *, python: str, folder: str) -> Trouble:
    """Says why a connection to a host's agent was not made.

    Args:
        host: Its name.
        code: What the client ended with; None where it did not.
        said: What it, and what ran on the host, wrote to standard error.
        python: The interpreter that was asked for.
        folder: The working directory that was.
    """
    if code == NO_FOLDER:
        return Trouble(
            f"host {host} has no folder {folder}, or none that can be entered; put script and data "
            "there as here, or start from a folder that all hosts have"
        )
    if code in _NOT_FOUND:
        return Trouble(
            f"host {host} has no Python at {python}; install it there as here, or give --python "
            "with a path that all hosts have"
        )
    if re.search(r"No module named '?(tfdist|tfdist\.launch\S*)'?", said):
        return Trouble(
            f"host {host} has no such tfdist for {python}: install there the version that is here, "
            "or give --python"
        )
    if code != _SSH_FAILED:
        ended = "" if code is None else f" (exit code {code})"
        return Trouble(_plain(host, f"its agent has ended{ended}", said))
    for pattern, text, lasts in _KNOWN:
        if re.search(pattern, said, re.IGNORECASE):
            return Trouble(f"host {host} {text.format(host=shlex.quote(host))}", lasts)
    return Trouble(_plain(host, "cannot be reached", said), lasts=False)


_KNOWN: Sequence[tuple[str, str, bool]] = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        (
            "has another host key than it had: if that is right, ssh-keygen -R it, and connect "
            "once by hand"
        ),
        True,
    ),
    (
        "Host key verification failed|no matching host key|host key is known",
        (
            "has a host key that is not known here, and nobody is asked: connect once by hand, ssh "
            "{host} true, and look at the key"
        ),
        True,
    ),
    (
        "Permission denied|Too many authentication failures",
        (
            "does not let this user in, and no password is asked: ssh-copy-id {host} puts a key "
            "there, ssh-add one with a passphrase into an agent here"
        ),
        True,
    ),
    (
        "Could not resolve hostname|Name or service not known|nodename nor servname",
        "has a name that is not known: write it right, or say in ~/.ssh/config what it is",
        True,
    ),
    (
        "Connection refused",
        "refuses SSH connections: start sshd there, or give its port in ~/.ssh/config",
        False,
    ),
    (
        "timed out|No route to host|Network is unreachable|Host is down",
        "does not answer: is it up, and its port for SSH open to this machine?",
        False,
    ),
    (
        "Connection (closed|reset)|kex_exchange_identification|Broken pipe",
        (
            "closes the connection before anybody is let in: is there an sshd at its port, and has "
            "it room for more (MaxStartups)?"
        ),
        False,
    ),
)


def _plain(host: str, what: str, said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return f"host {host}: {what}{': ' + lines[-1][:300] if lines else ''}"
