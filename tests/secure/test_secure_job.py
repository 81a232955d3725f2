"""Jobs of two launchers, whose tasks reach each other through stunnel alone; no TensorFlow."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.launch.processes import children_of, command
from tests.launch.support import is_alive, wait_until, write_script
from tests.secure.pair import Pair, Start, launched
from tfdist.launch.guardian import Guardian
from tfdist.launch.network import namespace
from tfdist.launch.secure import reason_against

pytestmark = pytest.mark.timeout(60)
REASON = reason_against()
needs_tunnels = pytest.mark.skipif(bool(REASON), reason=REASON)

TALK = """
import contextlib, socket
host, _, port = json.loads(os.environ["TF_CONFIG"])["cluster"]["worker"][0].rpartition(":")
host = host.strip("[]")
if name == "worker:0":
    server = socket.create_server(("", int(port)), reuse_port=True)
    if host == "::1":
        server = socket.create_server((host, int(port)), family=socket.AF_INET6)
    came, _ = server.accept()
    print("heard", came.recv(99), flush=True)
    came.sendall(b"welcome")
else:
    answer = b""
    while not answer:  # a tunnel takes connections before anybody is at its other end
        time.sleep(0.05)
        with contextlib.suppress(OSError):
            way = socket.create_connection((host, int(port)))
            way.sendall(b"hello")
            answer = way.recv(99)
    print("heard", answer, flush=True)
print("waits", flush=True)
time.sleep(float(sys.argv[1]))
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with contextlib.ExitStack() as stack:

        def begin(
            seconds: float,
            secrets: tuple[str, str] = ("a" * 32,) * 2,
            only: int | None = None,
            host: str = "127.0.0.1",
        ) -> Pair:
            words = [str(write_script(tmp_path, TALK)), str(seconds)]
            return stack.enter_context(launched(tmp_path, words, secrets, only, host))

        yield begin


def stunnels_of(launcher: subprocess.Popen[str]) -> list[int]:
    return [pid for pid in children_of(launcher.pid) if "stunnel -fd" in command(pid)]


@needs_tunnels
def test_tasks_of_two_launchers_talk_and_nothing_of_it_is_seen_outside(start: Start) -> None:
    pair = start(2)
    wait_until(lambda: "waits" in pair.log(0) and "waits" in pair.log(1), 30)
    for port in pair.ports:
        with socket.create_connection(("127.0.0.1", port), 5) as stranger:
            stranger.sendall(b"hello")
            stranger.settimeout(10)
            with contextlib.suppress(ConnectionResetError):
                assert stranger.recv(99)[:1] in (b"", b"\x15")  # at most an alert of TLS
    said = pair.communicate()
    assert [one.returncode for one in pair.launchers] == [0, 0], said
    assert "heard b'hello'" in said[0]
    assert "heard b'welcome'" in said[1]
    assert f"others come at 127.0.0.1:{pair.ports[0]}" in said[0]
    assert "without TLS: a stranger" in said[0]


@needs_tunnels
@pytest.mark.thorough
def test_so_do_those_of_ipv6(start: Start) -> None:
    pair = start(0, host="[::1]")
    said = pair.communicate()
    assert [one.returncode for one in pair.launchers] == [0, 0], said
    assert "heard b'welcome'" in said[1]


@needs_tunnels
def test_a_stunnel_that_ends_ends_the_job_with_its_reason(start: Start) -> None:
    pair = start(100)
    wait_until(lambda: "waits" in pair.log(0) and "waits" in pair.log(1), 30)
    os.kill(stunnels_of(pair.launchers[0])[0], signal.SIGKILL)
    said = pair.launchers[0].communicate(timeout=30)[0]
    assert pair.launchers[0].returncode == 75
    assert "worker:0 was lost: its tunnel has broken: stunnel-" in said
    assert "was ended by signal 9" in said


@needs_tunnels
def test_nothing_is_left_of_a_launcher_that_is_killed(start: Start) -> None:
    pair = start(100)
    wait_until(lambda: "waits" in pair.log(0), 30)
    left = children_of(pair.launchers[0].pid)
    assert len(stunnels_of(pair.launchers[0])) == 2
    pair.launchers[0].kill()
    wait_until(lambda: not any(map(is_alive, left)), 15)


@needs_tunnels
def test_another_secret_is_named_in_one_sentence_on_both_sides(start: Start) -> None:
    pair = start(100, secrets=("a" * 32, "b" * 32))
    said = pair.launchers[1].communicate(timeout=30)[0]
    assert pair.launchers[1].returncode == 64
    assert f"127.0.0.1:{pair.ports[0]} was refused: there is another secret than here" in said
    pair.launchers[0].terminate()
    said = pair.launchers[0].communicate(timeout=30)[0]
    assert "came to" in said
    assert "with another secret than here" in said


def test_a_job_over_hosts_without_a_secret_is_refused(start: Start) -> None:
    pair = start(1, secrets=("", ""))
    said = pair.communicate()
    assert [one.returncode for one in pair.launchers] == [64, 64]
    assert "--secure without a secret" in said[0]


@needs_tunnels
def test_a_system_without_stunnel_is_told_before_a_task_starts(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    pair = start(1)
    said = pair.communicate()
    assert [one.returncode for one in pair.launchers] == [1, 1]
    assert said[0].startswith("tfdist: --secure, but stunnel is not installed; install it")


@needs_tunnels
def test_a_network_has_addresses_and_names_of_other_hosts() -> None:
    start_there = Path(sys.modules[namespace.__module__].__file__ or "").parent / "start.py"
    look = "import os,socket; print(socket.getaddrinfo('node-7.test', 1)[0][4][0]);"
    look += "print(os.getcwd())"
    look += ";socket.create_server(('10.9.8.7', 999)); print('bound')"
    with (
        Guardian("none") as guardian,
        namespace((), guardian, ["10.9.8.7", "fd09::7"], {"node-7.test": "fd09::7"}) as insider,
    ):
        ids = [str(os.getpid()), str(insider)]
        done = subprocess.run(
            [sys.executable, "-I", "-S", start_there, *ids, sys.executable, "-c", look],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    assert done.stdout.splitlines() == ["fd09::7", os.getcwd(), "bound"], done.stderr


@needs_tunnels
@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl here")
def test_who_answers_with_a_certificate_gets_nothing(tmp_path: Path, start: Start) -> None:
    """In TLS 1.3 a server may leave the key aside; whoever sits in between would."""
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=between"]
    subprocess.run([*made, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    pair = start(100, only=1)
    show = ["-cert", certificate, "-key", key]
    with subprocess.Popen(
        ["openssl", "s_server", "-accept", str(pair.ports[0]), *show],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as between:
        try:
            log = tmp_path / "logs1" / "stunnel-out.log"
            wait_until(lambda: log.exists() and "verify failed" in log.read_text(), 30)
        finally:
            between.kill()
        assert between.stdout is not None
        assert b"hello" not in between.stdout.read()
    pair.launchers[0].terminate()
    said = pair.launchers[0].communicate(timeout=30)[0]
    assert f"what answers at 127.0.0.1:{pair.ports[0]} shows a certificate" in said
