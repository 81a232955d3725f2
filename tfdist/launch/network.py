"""In which network the tasks of a job run: one of their own, that no other host reaches, or not.

TensorFlow's servers listen on all interfaces, whatever the addresses of the job say, and let in
whoever comes. So a job of this machine alone gets a network namespace of its own (`namespace.py`):

    auto    if a program is here that keeps its way out (downloads, host names) and lets nobody in;
            else it shares this machine's network, and a warning says what to do
    on      with its loopback alone; where the system does not allow it, the job does not start
    off     never
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from tfdist.cluster.address import Address
from tfdist.errors import ClusterError, LaunchError
from tfdist.launch.guardian import JOB_VARIABLE, Guardian
from tfdist.launch.plan import JobPlan
from tfdist.machine.interfaces import name_servers, outer_addresses

__all__ = ["HOWS", "How", "NotAllowed", "namespace", "network_for"]

How = Literal["auto", "on", "off"]
HOWS: tuple[How, ...] = ("auto", "on", "off")

_PASTA = ("pasta", "-f", "-q", "--config-net", "-t", "none", "-u", "none", "PID")
_SLIRP = ("slirp4netns", "--configure", "--mtu=65520", "--disable-host-loopback", "PID", "tap0")

_WITHOUT = "give --isolate on where the script needs no network"
_OWN = "the tasks have a network of their own, where no other host reaches them"


@contextlib.contextmanager
def network_for(
    plan: JobPlan, how: How, guardian: Guardian, say: Callable[[str], None]
) -> Iterator[int | None]:
    """Makes the network in which a job's tasks run, until the end of the block.

    Args:
        plan: What will run.
        how: Whether it is to be the job's own.
        guardian: Ends it where the launcher is killed.
        say: Takes the warning.

    Yields:
        A process in the job's own network; None where the tasks run in this machine's.

    Raises:
        ClusterError: It was to be the job's own, and the job is not of this machine alone; or `how`
            is none of `HOWS`.
        LaunchError: It was to be the job's own, and the system does not allow it.
    """
    if how not in HOWS:
        raise ClusterError(f"isolate={how!r}; give one of {', '.join(HOWS)}")
    with contextlib.ExitStack() as stack:
        insider = None
        elsewhere = _elsewhere(plan)
        if how == "on":
            if elsewhere:
                raise ClusterError(f"--isolate on for a job with {elsewhere}; leave it out")
            try:
                insider = stack.enter_context(namespace((), guardian))
            except NotAllowed as error:
                raise LaunchError(
                    f"--isolate on, but this system allows no network of the job's own ({error}); "
                    f"leave it out, and {error.advice}"
                ) from None
            say(f"{_OWN}, and they reach no other host")
        elif (
            how == "auto"
            and plan.opens_ports
            and not elsewhere
            and (addresses := outer_addresses())
        ):
            try:
                way_out = _way_out()
                insider = stack.enter_context(namespace(way_out, guardian))
                localhost = "" if way_out is _PASTA else ", but not this machine's localhost"
                say(f"{_OWN}; they reach others by {way_out[0]}{localhost}")
            except NotAllowed as error:
                say(_warning(addresses, error))
        yield insider


class NotAllowed(Exception):
    """The job can have no network of its own; the text says why.

    Attributes:
        advice: What to do.
    """

    def __init__(
        self, why: str, advice: str = "close this machine's ports with a firewall"
    ) -> None:
        super().__init__(why)
        self.advice = advice


def _elsewhere(plan: JobPlan) -> str:
    """What of the job is not at this machine's loopback; "" where all is."""
    here = {task.task for task in plan.tasks}
    for task in plan.cluster.tasks:
        address = plan.cluster.address(task)
        if not Address.parse(address).is_loopback:
            return f"{task} at {address}, which is no address of the loopback"
        if task not in here and task.type != "evaluator":
            return f"{task}, which is not started here"
    return ""


def _way_out() -> tuple[str, ...]:
    """The program that carries what the tasks ask of the network.

    Raises:
        NotAllowed: There is none that would do.
    """
    servers = name_servers()
    if servers and all(_is_loopback(server) for server in servers):
        why = f"the name server, {servers[0]}, would be out of reach in it"
        raise NotAllowed(why, _WITHOUT)
    for command in (_SLIRP,) if os.geteuid() == 0 else (_PASTA, _SLIRP):
        if shutil.which(command[0]):
            return command
    package = "slirp4netns" if os.geteuid() == 0 else "passt (pasta)"
    raise NotAllowed(f"{package} is not installed", f"install it, or {_WITHOUT}")


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _warning(addresses: list[str], error: NotAllowed) -> str:
    more = f" and {len(addresses) - 1} more" if len(addresses) > 1 else ""
    return (
        f"OTHER HOSTS can reach this job's TensorFlow servers at {addresses[0]}{more}, and they "
        f"let in whoever comes: the job has no network of its own, as {error}; {error.advice} "
        "(--isolate off leaves it so without this warning)"
    )


@contextlib.contextmanager
def namespace(
    way_out: Sequence[str],
    guardian: Guardian,
    addresses: Sequence[str] = (),
    hosts: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[int]:
    """Makes a network namespace, until the end of the block.

    Args:
        way_out: The command of what carries what the tasks ask of the network; () for none.
        guardian: Ends it where the launcher is killed.
        addresses: IP addresses that it has beside those of the loopback.
        hosts: IP addresses of names, before those of /etc/hosts.

    Yields:
        A process in it.

    Raises:
        NotAllowed: The system does not allow it.
    """
    if not sys.platform.startswith("linux"):
        raise NotAllowed("only Linux has network namespaces")
    program = os.path.join(os.path.dirname(__file__), "namespace.py")
    names = _hosts_file(hosts) if hosts else ""
    keeper = subprocess.Popen(
        [sys.executable, "-I", "-S", program, ",".join(addresses), names, *way_out],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={name: value for name, value in os.environ.items() if name != JOB_VARIABLE},
        start_new_session=True,
        cwd="/",
    )
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    guardian.watch(keeper.pid)
    try:
        said = keeper.stdout.readline().decode().strip()
        if names:
            os.unlink(names)  # where it is mounted, it stays
        if not said.startswith("ready "):
            raise NotAllowed(said.lower() or "it could not be made")
        yield int(said.removeprefix("ready "))
    finally:
        keeper.stdin.close()
        keeper.stdout.close()
        keeper.wait()
        guardian.forget(keeper.pid)


def _hosts_file(hosts: Mapping[str, str]) -> str:
    """The path of a file in the place of /etc/hosts, to be removed."""
    lines = [f"{ip} {name}\n" for name, ip in hosts.items()]
    with contextlib.suppress(OSError), open("/etc/hosts") as file:
        lines += file.readlines()
    with tempfile.NamedTemporaryFile("w", prefix="tfdist-hosts-", delete=False) as made:
        made.writelines(lines)
        os.fchmod(made.fileno(), 0o644)
    return made.name
