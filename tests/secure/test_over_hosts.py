"""Secure jobs over hosts with networks of their own, and a third one that looks at them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import RunJob
from tests.hosts.local_client import CLIENT
from tests.launch.support import wait_until
from tfdist.diagnose import namespace_hosts
from tfdist.launch.secure import reason_against

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(280)]
TRAIN = Path(__file__).parents[1] / "hosts" / "regression.py"
SCAN = Path(__file__).parent / "scan.py"
SETTINGS = "000018"  # the first frame of whoever speaks HTTP/2, as TensorFlow's servers do


@pytest.fixture(scope="module")
def hosts() -> Iterator[namespace_hosts.Hosts]:
    reason = namespace_hosts.reason_against() or reason_against()
    if reason:
        pytest.skip(reason)
    with namespace_hosts.Hosts(3) as found:
        yield found


@contextlib.contextmanager
def launched(
    hosts: namespace_hosts.Hosts, folder: Path, weights: str, epochs: int, *options: str
) -> Iterator[list[subprocess.Popen[str]]]:
    spec = folder / "spec.json"  # one port for both, as people have it
    at = [f"{address}:2222" for address in hosts.addresses[:2]]
    spec.write_text(json.dumps({"cluster": {"worker": at}}))
    launchers = []
    for number in range(2):
        own = ["--cluster", spec, "--task", f"worker:{number}", "--log_dir", folder / str(number)]
        script = [TRAIN, folder / weights, epochs, ""]
        command = [sys.executable, "-m", "tfdist", "run", *own, *options, *script]
        launchers.append(
            subprocess.Popen(
                [str(word) for word in hosts.on(number, command)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env={**os.environ, "TFDIST_SECRET": "a" * 32},
                start_new_session=True,
            )
        )
    try:
        yield launchers
    finally:
        for launcher in launchers:
            launcher.kill()
            launcher.communicate(timeout=30)


def scanned(hosts: namespace_hosts.Hosts, number: int) -> dict[str, dict[str, object]]:
    command = [str(word) for word in hosts.on(2, [sys.executable, SCAN, hosts.addresses[number]])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    found: dict[str, dict[str, object]] = json.loads(done.stdout)
    return found


def test_two_hosts_train_to_the_weights_of_two_workers_of_one(
    hosts: namespace_hosts.Hosts, tmp_path: Path, run_job: RunJob
) -> None:
    with launched(hosts, tmp_path, "secure", 3, "--secure") as launchers:
        said = [one.communicate(timeout=120)[0] for one in launchers]
    assert [one.returncode for one in launchers] == [0, 0], said
    here = run_job(["--workers", 2, "--isolate", "off", TRAIN, tmp_path / "here", 3, ""])
    assert here.returncode == 0, here.stderr
    both = [np.load(tmp_path / f"{name}.npz") for name in ("secure", "here")]
    assert len(both[0].files) == 4
    for name in both[0].files:
        np.testing.assert_array_equal(both[0][name], both[1][name])


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl here")
@pytest.mark.parametrize("options", [(), ("--secure",)])
def test_a_third_host_finds_only_doors_that_are_locked(
    hosts: namespace_hosts.Hosts, tmp_path: Path, options: tuple[str, ...]
) -> None:
    with launched(hosts, tmp_path, "w", 100_000, *options) as launchers:
        logs = [tmp_path / str(number) / f"worker-{number}.log" for number in range(2)]
        wait_until(lambda: all(log.exists() and "begins" in log.read_text() for log in logs), 60)
        time.sleep(2)
        for number in range(2):
            (port,), (come,) = zip(*scanned(hosts, number).items(), strict=True)
            assert port == "2222"
            assert str(come["plain"]).startswith(SETTINGS) is not bool(options)
            if options:
                assert come == {"plain": "", "no key": 1, "wrong key": 1}
        assert [one.poll() for one in launchers] == [None, None]  # and nobody has minded


@pytest.mark.parametrize("kind", ["servers", "pipeline"])
def test_servers_and_pipelines_train_through_tunnels(
    tmp_path: Path, run_job: RunJob, kind: str
) -> None:
    """All of TensorFlow's servers are reached, also the chief's, which has a port of its own."""
    if reason := reason_against():
        pytest.skip(reason)
    (tmp_path / "hosts").write_text("a address=127.0.0.1\nb address=127.0.0.2\n")
    examples = {
        "servers": ["--ps", 2, "-m", "tfdist.examples.recommender", "--epochs", 1],
        "pipeline": ["--chief", "-m", "tfdist.examples.deep_stack", "--blocks", 2, "--epochs", 1],
    }
    ssh = ["--hosts", tmp_path / "hosts", "--ssh", CLIENT, "--secure", "--log_dir", tmp_path / "l"]
    done = run_job([*ssh, *examples[kind]])
    assert done.returncode == 0, done.stderr
    carried = (tmp_path / "l" / "b-stunnel-out.log").read_text()
    assert "certificate" not in carried
    assert ("coordinator] connected remote server" in carried) is (kind == "pipeline")
