"""Which ways a job needs between this machine's tasks and all others. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tfdist.cluster.address import Address
from tfdist.cluster.secret import Secret
from tfdist.errors import ClusterError

__all__ = ["Passage", "Passages"]

_LABEL = b"tfdist stunnel 1\0"
_COORDINATOR = "coordinator"
_HIGHEST = 32767  # above, the kernel takes ports for connections
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # to connect to it ends at the loopback


@dataclass(frozen=True)
class Passage:
    """The way to one server of a task.

    Attributes:
        address: The task's, as the cluster has it.
        ip: Its host's IP address.
        port: Where the server listens in the network of its tasks.
        server_name: By which it is told from the task's own, where it is another server of it: both
            are reached at the task's address.
    """

    address: Address
    ip: str
    port: int
    server_name: str = ""

    @property
    def inside(self) -> str:
        """Where the server is for tasks, as stunnel takes it."""
        return f"{self.ip}:{self.port}"

    @property
    def outside(self) -> str:
        """Where its host lets others in, as stunnel takes it."""
        return f"{self.ip}:{self.address.port}"

    @property
    def label(self) -> str:
        """The address as the name of a service, in which stunnel bears no colon."""
        return str(self.address).replace(":", "|")

    @property
    def identity(self) -> str:
        """The name of its key, which goes over the wire."""
        return hashlib.sha256(str(self.address).encode()).hexdigest()[:16]

    def key(self, secret: Secret) -> str:
        """Its key, in hexadecimal digits: one for each task, so that no host can be sent another's.

        Args:
            secret: The job's.
        """
        return secret.keyed(_LABEL, str(self.address).encode()).hex()


@dataclass(frozen=True)
class Passages:
    """All ways of a job, as seen from one host.

    Attributes:
        own: To the tasks of this host.
        others: To all other tasks.
        coordinator_port: Where TensorFlow's server of the chief listens in its network, beside the
            rendezvous at the chief's own port; None for a cluster without a chief.
    """

    own: tuple[Passage, ...]
    others: tuple[Passage, ...]
    coordinator_port: int | None = None

    @classmethod
    def between(
        cls,
        own: Sequence[Address],
        others: Sequence[Address],
        chief: Address | None,
        found: Mapping[str, tuple[str, ...] | str],
    ) -> Passages:
        """Finds the ways.

        Args:
            own: Where this host's tasks listen.
            others: Where all others do.
            chief: Where the chief does, which is one of them; None where there is none.
            found: The IP addresses of their hosts, or why there are none; see `look_up`.

        Raises:
            ClusterError: A host has no address that would do.
        """
        taken = {one.port for one in (*own, *others)}  # the same on all hosts
        free = next(port for port in range(_HIGHEST, 0, -1) if port not in taken)

        def passages(address: Address) -> Iterator[Passage]:
            ips = found[address.host]
            if isinstance(ips, str):
                raise ClusterError(
                    f"--secure, and host {address.host!r} does not resolve ({ips}); mend its name "
                    "in the cluster, or make it known to this machine (DNS, /etc/hosts)"
                )
            if "%" in ips[0]:
                raise ClusterError(
                    f"--secure, and {address} is an address of one link; give one without a %"
                )
            ip = _ANY.get(ips[0], ips[0])
            yield Passage(address, ip, address.port)
            if address == chief:
                yield Passage(address, ip, free, _COORDINATOR)

        return cls(
            tuple(one for address in own for one in passages(address)),
            tuple(one for address in others for one in passages(address)),
            None if chief is None else free,
        )

    @property
    def ips(self) -> tuple[str, ...]:
        """The IP addresses that the tasks' network must have, beside its loopback's own."""
        every = dict.fromkeys(one.ip for one in (*self.own, *self.others))
        return tuple(ip for ip in every if not Address(ip, 1).is_loopback)

    @property
    def host_names(self) -> dict[str, str]:
        """The IP address of each host that the cluster has by name."""
        return {
            one.address.host: one.ip
            for one in (*self.own, *self.others)
            if one.address.is_name and not one.address.is_loopback
        }
