"""The bar of a real job on a terminal of its own: a worker that lags is marked, and its death."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path

import pytest

from tests.conftest import ROOT

ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


def run_on_a_terminal(
    folder: Path, *arguments: str, columns: int = 100, **variables: str
) -> tuple[int, bytes]:
    """Runs `tfdist run` on a terminal; returns its exit code and all that was drawn."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    kept = {n: v for n, v in os.environ.items() if n not in ("NO_COLOR", "CI", "COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-m", "tfdist", "run", "--log_dir", str(folder / "logs"), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env={**kept, "TERM": "xterm-256color", **variables},
    )
    os.close(theirs)
    drawn = bytearray()

    def read() -> None:
        while True:
            try:
                data = os.read(ours, 1 << 16)
            except OSError:  # the other end was closed
                return
            if not data:
                return
            drawn.extend(data)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        code = process.wait(timeout=200)
    finally:
        process.kill()
        reader.join()
        os.close(ours)
    return code, bytes(drawn)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("lagging")
    script = str(ROOT / "tests" / "live" / "lagging.py")
    code, drawn = run_on_a_terminal(folder, "--workers", "2", script)
    assert code == 137, drawn.decode(errors="replace")
    (folder / "drawn").write_bytes(drawn)
    return drawn


def frames(drawn: bytes) -> list[str]:
    """The pictures that were drawn one after the other, without colours."""
    parts = drawn.decode(errors="replace").split("\x1b[1A\x1b[2K")
    return [ESCAPES.sub(b"", part.encode()).decode() for part in parts]


def test_the_bar_shows_the_job(drawn: bytes) -> None:
    heads = [f for f in frames(drawn) if re.search(r"epoch 1/3 [━╺╸ ]+ step \d+/200", f)]
    assert len(heads) > 3
    assert any(re.search(r"\d examples/s · loss [\d.e-]+ · \d+:\d\d left", f) for f in heads)


def test_the_worker_that_lags_is_marked_with_what_it_does(drawn: bytes) -> None:
    assert re.search(r"! +worker:1 +lags by its input \(input \d+ %", "\n".join(frames(drawn)))
    assert not re.search(r"worker:0 +lags", "\n".join(frames(drawn)))


def test_the_worker_that_waits_for_it_exchanges(drawn: bytes) -> None:
    shares = re.findall(r"worker:0 +.*exchange (\d+) %", "\n".join(frames(drawn)))
    assert max(map(int, shares)) > 50


def test_the_worker_that_was_killed_is_marked(drawn: bytes) -> None:
    assert re.search(r"✗ +worker:1 +was ended by SIGKILL", "\n".join(frames(drawn)))


def test_kerass_own_bar_makes_room_for_it(drawn: bytes) -> None:
    text = "\n".join(frames(drawn))
    before, _, after = text.partition("epoch 1/3")
    assert "[worker:0] begins" in before
    lines = re.findall(r"\[worker:0\] +(\d+)/200 ", after.partition("Epoch 2/3")[0])
    assert lines == ["200"]  # the line of an epoch that has ended


def test_nothing_of_it_is_left(drawn: bytes) -> None:
    end = drawn.decode(errors="replace").rpartition("\x1b[2K")[2]
    own = [line for line in end.splitlines() if "worker:0]" not in line]  # Keras draws a bar, too
    assert "━" not in "".join(own)
    assert "exit code 137" in end
    assert b"\x1b[?25l" not in drawn  # the cursor was never hidden
