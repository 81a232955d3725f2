"""Processes that know their hosts and ranks alone train one model together."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tfdist.machine.ports import Reservation

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(120)]

SCRIPT = """
import keras, numpy as np, tfdist
keras.utils.set_random_seed(1)
x = np.random.default_rng(0).normal(size=(96, 4)).astype("float32")
strategy = tfdist.strategy()
with strategy.scope():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
tfdist.plug(model)
history = model.fit(x, x.sum(1, keepdims=True), batch_size=32, epochs=2, verbose=0).history
print("ended", strategy.num_replicas_in_sync, history["loss"][-1], flush=True)
"""
ENVIRON = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "train.py"
    path.write_text(SCRIPT)
    return path


def ends(out: str) -> list[list[str]]:
    """How many replicas there were, and the last loss, of each process that has ended."""
    return [line.split()[1:] for line in out.splitlines() if line.startswith("ended")]


def check(out: str, script: Path) -> None:
    alone = subprocess.run([sys.executable, script], env=ENVIRON, capture_output=True, text=True)
    ((one, loss),) = ends(alone.stdout)
    assert one == "1"
    assert [replicas for replicas, _ in ends(out)] == ["2", "2"]
    for _, of_both in ends(out):
        assert float(of_both) == pytest.approx(float(loss), rel=1e-5)


def two_ports() -> int:
    """The first of two ports in a row that were free a moment ago."""
    while True:
        with Reservation(12) as reservation:
            free = set(reservation.ports)
        if found := [port for port in free if port + 1 in free]:
            return found[0]
        with Reservation(1) as reservation, contextlib.suppress(OSError):
            port = reservation.ports[0]
            with socket.create_server(("127.0.0.1", port + 1)):
                return port


def test_ranks_with_hosts(script: Path) -> None:
    port = two_ports()
    processes = [
        subprocess.Popen(
            [sys.executable, script],
            env={
                **ENVIRON,
                "TFDIST_HOSTS": "127.0.0.1,127.0.0.1",
                "TFDIST_RANK": str(rank),
                "TFDIST_PORT": str(port),
            },
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        out = "".join(process.communicate(timeout=100)[0] for process in processes)
    finally:
        for process in processes:
            process.kill()
    check(out, script)


@pytest.mark.skipif(shutil.which("mpirun") is None, reason="there is no mpirun here")
def test_ranks_of_mpirun(script: Path) -> None:
    command = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "2", sys.executable]
    ran = subprocess.run(
        [*command, script], env=ENVIRON, capture_output=True, text=True, timeout=90
    )
    assert ran.returncode == 0, ran.stderr
    check(ran.stdout, script)
