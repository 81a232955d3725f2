"""This machine's own addresses, and those of its name servers."""

from __future__ import annotations

import ipaddress
import socket
import sys
from pathlib import Path

import pytest

from tfdist.machine import interfaces


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell")
def test_every_outer_address_is_this_machines_and_no_loopback() -> None:
    for address in interfaces.outer_addresses():
        parsed = ipaddress.ip_address(address)
        assert not parsed.is_loopback
        family = socket.AF_INET if parsed.version == 4 else socket.AF_INET6
        with socket.socket(family) as one:
            one.bind((address, 0))


def test_a_system_that_does_not_tell_has_its_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert interfaces.outer_addresses() == ["its network"]


def test_the_name_servers_are_those_of_the_resolvers_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "resolv.conf"
    monkeypatch.setattr(interfaces, "Path", lambda _: file)
    assert interfaces.name_servers() == []
    file.write_text("# nameserver 10.0.0.1\nnameserver 10.0.0.2\nsearch here\nnameserver\n\n")
    assert interfaces.name_servers() == ["10.0.0.2"]
