"""Every ready cluster spec is well formed, listed in the table, and run."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

import tfdist
from tests.conftest import ROOT, RunJob
from tfdist.machine.ports import Reservation

FOLDER = ROOT / "cluster_specs"
KINDS = {
    "chief_and_workers.json": "multi_worker_mirrored",
    "local_two_workers.json": "multi_worker_mirrored",
    "parameter_server.json": "parameter_server",
    "pipeline.json": "pipeline",
}
FIRST_EPHEMERAL_PORT = 32768  # from here on Linux gives ports to whoever asks for any


def addresses(path: Path) -> list[str]:
    cluster = tfdist.Cluster.from_file(path)
    return [cluster.address(task) for task in cluster.tasks]


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def on_free_ports(path: Path, folder: Path) -> Path:
    """A copy of the spec, in which free ports stand in for those that this machine is using."""
    body = path.read_text()
    taken = [at for at in addresses(path) if not is_free(int(at.rpartition(":")[2]))]
    with Reservation(len(taken)) as free:
        for address, port in zip(taken, free.ports, strict=True):
            body = body.replace(address, f"127.0.0.1:{port}")
    copy = folder / path.name
    copy.write_text(body)
    return copy


def test_every_spec_has_a_row_in_the_table_and_a_test_here() -> None:
    table = (FOLDER / "README.md").read_text()
    specs = {path.name for path in FOLDER.glob("*.json")}
    assert specs == set(KINDS)
    for spec, kind in KINDS.items():
        assert f"| `{spec}` | `{kind}` |" in table


@pytest.mark.parametrize("spec", KINDS)
def test_a_spec_describes_a_job_that_fits_its_strategy(spec: str) -> None:
    cluster = tfdist.Cluster.from_file(FOLDER / spec)
    assert cluster.task is None
    assert cluster.validate(kind=KINDS[spec]) is cluster


def test_no_two_specs_share_a_port_and_none_is_ephemeral() -> None:
    ports = [int(at.rpartition(":")[2]) for spec in KINDS for at in addresses(FOLDER / spec)]
    assert len(set(ports)) == len(ports)
    assert max(ports) < FIRST_EPHEMERAL_PORT


def test_the_parameter_server_spec_starts_every_one_of_its_tasks(run_job: RunJob) -> None:
    path = FOLDER / "parameter_server.json"
    done = run_job(["--cluster", path, "--dry-run", "train.py"], timeout=30)
    assert done.returncode == 0, done.stderr
    for task in tfdist.Cluster.from_file(path).tasks:
        assert f"# {task}\n" in done.stdout


@pytest.mark.thorough
@pytest.mark.parametrize(
    "spec", [spec for spec, kind in KINDS.items() if kind == "multi_worker_mirrored"]
)
def test_a_multi_worker_spec_trains(spec: str, run_job: RunJob, tmp_path: Path) -> None:
    path = on_free_ports(FOLDER / spec, tmp_path)
    done = run_job(["--cluster", path, "-m", "tfdist.examples.digits", "--epochs", "1"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("test accuracy") == 1
