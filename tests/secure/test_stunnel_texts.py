"""What stunnel is told, and what its words mean: pure."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.launch.support import compare_with_golden
from tfdist.cluster.address import Address
from tfdist.cluster.secret import Secret
from tfdist.errors import ClusterError
from tfdist.launch.secure.passages import Passage, Passages
from tfdist.launch.secure.stunnel_config import StunnelConfig
from tfdist.launch.secure.stunnel_program import missing_of
from tfdist.launch.secure.stunnel_report import StunnelReport
from tfdist.launch.secure.trust_anchor import trust_anchor

GOLDEN = Path(__file__).parent / "golden"
SECRET = Secret("0123456789abcdef")
FOUND: dict[str, tuple[str, ...] | str] = {
    "10.0.0.1": ("10.0.0.1",),
    "node-2": ("10.0.0.2", "fd00::2"),
    "fd00::3": ("fd00::3",),
    "localhost": ("127.0.0.1",),
    "0.0.0.0": ("0.0.0.0",),
    "nowhere": "no such name",
    "fe80::1%eth0": ("fe80::1%eth0",),
}


def passages(own: str, *others: str, chief: str = "") -> Passages:
    parsed = [Address.parse(one) for one in others]
    leader = Address.parse(chief) if chief else None
    return Passages.between([Address.parse(own)], parsed, leader, FOUND)


def test_both_stunnels_are_told_of_all_ways() -> None:
    ways = passages("10.0.0.1:2222", "node-2:2222", "[fd00::3]:32767", chief="10.0.0.1:2222")
    seen = passages("node-2:2222", "10.0.0.1:2222", "[fd00::3]:32767", chief="10.0.0.1:2222")
    texts = [
        StunnelConfig.incoming(ways.own, SECRET, 60).text,
        StunnelConfig.outgoing(seen.others, SECRET, 60, "").text,
    ]
    compare_with_golden("\n# ----\n\n".join(texts), "stunnel.conf", GOLDEN)
    assert ways.coordinator_port == seen.coordinator_port == 32766


def test_a_task_has_a_key_of_its_own_which_both_sides_know() -> None:
    ways = passages("10.0.0.1:2222", "node-2:2222", chief="10.0.0.1:2222")
    seen = passages("node-2:2222", "10.0.0.1:2222", chief="10.0.0.1:2222")
    (line,) = StunnelConfig.incoming(ways.own, SECRET, 60).keys.splitlines()
    assert StunnelConfig.outgoing(seen.others, SECRET, 60, "").keys.splitlines() == [line]
    assert StunnelConfig.outgoing(ways.others, SECRET, 60, "").keys.splitlines() != [line]
    other = Secret("0123456789abcdeg")
    assert ways.own[0].key(SECRET) != ways.own[0].key(other)
    assert len(bytes.fromhex(line.partition(":")[2])) == 32


def test_no_key_is_in_a_configuration_or_in_the_text_of_an_object() -> None:
    ways = passages("10.0.0.1:2222", "node-2:2222")
    config = StunnelConfig.outgoing(ways.others, SECRET, 60, "")
    key = ways.others[0].key(SECRET)
    assert key in config.keys
    assert key not in config.text
    assert key not in repr(config)


def test_the_network_has_the_addresses_of_hosts_and_their_names() -> None:
    ways = passages("localhost:1", "node-2:2", "10.0.0.1:2", "10.0.0.1:3", "0.0.0.0:4")
    assert ways.ips == ("10.0.0.2", "10.0.0.1")
    assert ways.host_names == {"node-2": "10.0.0.2"}
    assert [one.ip for one in ways.others][-1] == "127.0.0.1"


@pytest.mark.parametrize(
    ("address", "why"), [("nowhere:1", "does not resolve"), ("[fe80::1%eth0]:1", "one link")]
)
def test_a_host_without_an_address_that_would_do_is_refused(address: str, why: str) -> None:
    with pytest.raises(ClusterError, match=why):
        passages("10.0.0.1:1", address)


VERSION = """\
stunnel 5.68 on x86_64-pc-linux-gnu platform
Compiled with OpenSSL 3.0.9 30 May 2023
Running  with OpenSSL 3.0.19 27 Jan 2026
Threading:PTHREAD Sockets:POLL,IPv6,SYSTEMD TLS:ENGINE,OCSP,PSK,SNI Auth:LIBWRAP
"""


@pytest.mark.parametrize(
    ("given", "put", "missing"),
    [
        ("", "", ""),
        ("OCSP,PSK", "OCSP", "keys that were agreed on beforehand (PSK)"),
        (",SYSTEMD", "", "sockets handed over"),
        ("Running  with OpenSSL 3.0.19", "Running  with OpenSSL 1.1.0", "OpenSSL 1.1.1 or later"),
        (VERSION, "what?", "OpenSSL 1.1.1 or later"),
    ],
)
def test_a_stunnel_that_lacks_something_is_told_from_one_that_does(
    given: str, put: str, missing: str
) -> None:
    assert missing_of(VERSION.replace(given, put) if given else VERSION) == missing


def heard(way: str, error: str, times: int = 1) -> list[str]:
    report = StunnelReport()
    stamp = "2026.11.27 11:25:41 LOG"
    peer = "::ffff:10.0.0.9:4"
    said = []
    for number in range(times):
        lines = [
            f"{stamp}5[{number}]: Service [{way}] accepted connection from {peer}{number}",
            f"{stamp}3[{number}]: SSL_{'connect' if way[0] == 't' else 'accept'}: x: {error}",
            f"{stamp}5[{number}]: Connection closed/reset: 0 byte(s) sent to TLS",
        ]
        said += [one.text for line in lines if (one := report.read(line)) is not None]
    return said


@pytest.mark.parametrize(
    ("way", "error", "words"),
    [
        ("to 10.0.0.2|22", "sslv3 alert illegal parameter", "10.0.0.2:22 was refused: there is a"),
        ("to [fd00||2]|22 coordinator", "certificate verify failed", "[fd00::2]:22 shows a cert"),
        ("to 10.0.0.2|22", "wrong version number", "10.0.0.2:22 speaks no TLS"),
        ("in 10.0.0.1|22", "binder does not verify", "10.0.0.9 came to 10.0.0.1:22 with another"),
        ("in 10.0.0.1|22", "wrong version number", "10.0.0.9 came to 10.0.0.1:22 without TLS"),
        ("in 10.0.0.1|22", "no suitable signature algorithm", "without the job's secret"),
    ],
)
def test_what_went_wrong_with_a_connection_is_said_once(way: str, error: str, words: str) -> None:
    (said,) = heard(way, error, times=3)
    assert words in said


def test_strangers_cannot_fill_the_output() -> None:
    report = StunnelReport()
    said = []
    for number in range(200):
        accepted = f"Service [in 10.0.0.1|22] accepted connection from 10.0.{number}.1:1"
        report.read(f"x LOG5[{number}]: {accepted}")
        said.append(report.read(f"x LOG3[{number}]: SSL_accept: wrong version number"))
    assert sum(one is not None for one in said) == 20


def test_only_what_this_side_has_found_out_by_itself_ends_the_job() -> None:
    """Anybody can come and say anything; but whom we went to, the cluster says."""
    for way, ends in (("in 10.0.0.1|22", False), ("to 10.0.0.2|22", True)):
        report = StunnelReport()
        report.read(f"x LOG5[0]: Service [{way}] accepted connection from 10.0.0.9:1")
        kind = "connect" if ends else "accept"
        found = report.read(f"x LOG3[0]: SSL_{kind}: alert illegal parameter")
        assert found is not None
        assert found.ends is ends


def test_the_authority_that_nobody_is_can_be_read(tmp_path: Path) -> None:
    file = tmp_path / "anchor.pem"
    file.write_text(trust_anchor(bytes(range(32))))
    try:
        told = subprocess.run(
            ["openssl", "x509", "-in", file, "-noout", "-text"], capture_output=True, text=True
        )
    except FileNotFoundError:
        pytest.skip("no openssl here")
    assert "Subject: CN = nobody" in told.stdout or "Subject: CN=nobody" in told.stdout
    assert "00:01:02:03" in told.stdout


def test_a_passage_is_told_by_its_address_alone() -> None:
    one = Passage(Address("a", 1), "10.0.0.1", 1)
    assert replace(one, ip="10.0.0.2", port=7).key(SECRET) == one.key(SECRET)
    assert replace(one, address=Address("a", 2)).identity != one.identity
