"""What a stunnel reads: its configuration, its keys, whom it believes. Pure text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tfdist.cluster.secret import Secret
from tfdist.launch.secure.passages import Passage

__all__ = ["StunnelConfig"]

_ALWAYS = """\
foreground = yes
syslog = no
pid =
debug = notice
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
"""
# The suites with SHA-256 alone take a key that was agreed on beforehand. Those before TLS 1.3 are
# never used; without DH among them, stunnel makes no parameters for it, which takes it seconds.
_EACH = """\
sslVersionMin = TLSv1.3
ciphers = PSK:!DH:!kDHEPSK
ciphersuites = TLS_AES_128_GCM_SHA256
sessionResume = no
TIMEOUTclose = 1
TIMEOUTidle = 31536000
"""


@dataclass(frozen=True)
class StunnelConfig:
    """What a stunnel reads, as files.

    Attributes:
        text: The configuration; {keys} and {anchor} stand for the paths of these files.
        keys: The keys, of which nobody else may know.
        anchor: The only authority whose certificates are believed; "" where none are asked for.
    """

    text: str
    keys: str = field(repr=False)
    anchor: str = ""

    @classmethod
    def incoming(cls, own: Sequence[Passage], secret: Secret, within: float) -> StunnelConfig:
        """That of the stunnel to which other hosts come: it runs in the tasks' network.

        Args:
            own: To this host's tasks.
            secret: The job's.
            within: Seconds after which a connection to a host that has vanished is lost.
        """
        services = []
        for one in own:
            door = f"in {one.label}"
            # The socket that it was given takes the place of what it accepts.
            head = f"[{door}]\naccept = {one.outside}\n"
            if one.server_name:
                head = f"[{door} {one.server_name}]\nsni = {door}:{one.server_name}\n"
            services.append(f"{head}connect = {one.inside}\n{_EACH}PSKsecrets = {{keys}}\n")
        return cls(_common(within, "l") + "".join(services), _keys(own, secret))

    @classmethod
    def outgoing(
        cls, others: Sequence[Passage], secret: Secret, within: float, anchor: str
    ) -> StunnelConfig:
        """That of the stunnel that goes to other hosts: it runs in this machine's network.

        Args:
            others: To the tasks there.
            secret: The job's.
            within: Seconds after which a connection to a host that has vanished is lost.
            anchor: See `trust_anchor`.
        """
        services = [
            f"[{' '.join(filter(None, ('to', one.label, one.server_name)))}]\n"
            "client = yes\n"
            f"accept = {one.inside}\n"  # as above
            f"connect = {one.outside}\n"
            f"sni = {one.server_name or 'task'}\n"
            f"{_EACH}PSKsecrets = {{keys}}\n"
            f"PSKidentity = {one.identity}\n"
            "CAfile = {anchor}\n"
            "verifyChain = yes\n"
            for one in others
        ]
        return cls(_common(within, "r") + "".join(services), _keys(others, secret), anchor)


def _common(within: float, wire: str) -> str:
    """What holds for all services; the side of the wire is stunnel's "l" or "r"."""
    alive = {"SO_KEEPALIVE": 1, "TCP_KEEPIDLE": within / 3, "TCP_KEEPINTVL": within / 6}
    alive["TCP_KEEPCNT"] = 4
    lines = [f"socket = {wire}:{name}={max(1, int(value))}\n" for name, value in alive.items()]
    return _ALWAYS + "".join(lines)


def _keys(passages: Sequence[Passage], secret: Secret) -> str:
    lines = [f"{one.identity}:{one.key(secret)}\n" for one in passages]
    return "".join(dict.fromkeys(lines))
