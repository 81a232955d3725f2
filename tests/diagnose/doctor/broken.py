"""Set-ups that are broken, each really made, with what the doctor must say of them.

python -m tests.figures.doctor     prints what it says
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.diagnose.doctor.company import Doctor, a_spec, together
from tfdist.cluster import Cluster
from tfdist.diagnose.namespace_hosts import Hosts
from tfdist.diagnose.small_disk import SmallDisk
from tfdist.machine.ports import Reservation

__all__ = ["BROKEN", "Broken", "made"]

ROOT = Path(__file__).parents[3]
SECRET = {"TFDIST_SECRET": "a word of sixteen characters"}
HERE = {**os.environ, "PYTHONPATH": str(ROOT)}
SECONDS = 60.0
_MIB = 1 << 20
Told = dict[str, Any]


@dataclass(frozen=True)
class Broken:
    """A broken set-up.

    Attributes:
        name: What is broken.
        doctor: Makes it, in an empty folder, and has the doctor look: its report.
        level: Of the finding that there must be.
        check: Of the same.
        says: What it must say.
        advises: What it must say to do.
        needs: "" or what the system must have: "root" or "hosts".
    """

    name: str
    doctor: Callable[[Path], Told]
    level: str
    check: str
    says: str
    advises: str
    needs: str = ""

    def findings(self, told: Told) -> list[dict[str, str]]:
        """What the report says of it."""
        return [
            one
            for one in told["findings"]
            if (one["level"], one["check"]) == (self.level, self.check)
            and self.says in one["text"]
            and self.advises in one["todo"]
        ]


def doctor(
    words: Sequence[object],
    *,
    environ: Mapping[str, str] | None = None,
    around: Callable[[Sequence[object]], Sequence[object]] = list,
    before: Sequence[object] = (),
) -> subprocess.Popen[str]:
    """A real process of `tfdist doctor`."""
    command = [*before, *around([sys.executable, "-m", "tfdist", "doctor", "--json", *words])]
    return subprocess.Popen(
        list(map(str, command)),
        env={**HERE, **(environ or {})},
        cwd=tempfile.gettempdir(),  # Python would find tfdist in this one
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def said(process: subprocess.Popen[str]) -> Told:
    """Its report."""
    try:
        out, err = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    assert out, err
    told: Told = json.loads(out)
    assert process.returncode == int(not told["well"]), err
    return told


def misspelt_host(folder: Path) -> Told:
    return said(doctor([_spec(folder, {"worker": ["127.0.0.1:29300", "nodee.invalid:29301"]})]))


def port_taken(folder: Path) -> Told:
    listens = "import socket, sys; s = socket.create_server(('', 0)); print(s.getsockname()[1])"
    with (
        subprocess.Popen(
            [sys.executable, "-c", f"{listens}; sys.stdout.flush(); sys.stdin.read()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as other,
        Reservation(1) as free,
    ):
        assert other.stdout is not None
        port = int(other.stdout.readline())
        path = _spec(folder, {"worker": [f"127.0.0.1:{free.ports[0]}", f"127.0.0.1:{port}"]})
        return said(doctor([path]))


def one_address(folder: Path) -> Told:
    return said(doctor([_spec(folder, {"worker": ["localhost:29300", "127.0.0.1:29300"]})]))


def no_json(folder: Path) -> Told:
    path = folder / "spec.json"
    path.write_text("{'cluster': {'worker': ['a:1', 'b:1']}}")
    return said(doctor([path]))


def no_such_task(folder: Path) -> Told:
    with a_spec(folder) as (path, _):
        return said(doctor(["--task", "worker:2", path]))


def no_answer(folder: Path) -> Told:
    with Hosts(2) as hosts:
        hosts.cut(1)
        spec = {"worker": [f"{address}:2223" for address in hosts.addresses]}
        return said(doctor([_spec(folder, spec)], around=lambda words: hosts.on(0, words)))


def other_version(folder: Path) -> Told:
    shutil.copytree(ROOT / "tfdist", folder / "other" / "tfdist")
    version = folder / "other" / "tfdist" / "version.py"
    version.write_text(version.read_text() + '\n__version__ = "9.9.9"\n')
    with a_spec(folder) as (path, _):
        both = [
            doctor(["--task", "worker:0", path]),
            doctor(["--task", "worker:1", path], environ={"PYTHONPATH": str(folder / "other")}),
        ]
        chief, _other = map(said, both)
        return chief


def clock_off(folder: Path) -> Told:
    with a_spec(folder) as (path, _):
        behind = {"clock": lambda: time.time() - 3600.0}
        chief, _ = together(Doctor(path, "worker:0"), Doctor(path, "worker:1", {}, behind))
        return chief.report.to_json()


def folder_not_writable(folder: Path) -> Told:
    # Nobody, root neither, can make a folder there.
    return said(doctor(["--folder", "/proc/self/task"]))


def disk_full(folder: Path) -> Told:
    (place := folder / "disk").mkdir()
    with SmallDisk(place, 8 * _MIB) as disk:
        room = os.statvfs(disk.folder)
        (disk.folder / "filler").write_bytes(bytes(room.f_bavail * room.f_bsize))
        return said(doctor(["--folder", "."], around=disk.command))


def tf_config_and_slurm(folder: Path) -> Told:
    slurm = {
        "SLURM_JOB_ID": "17",
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NUM_TASKS": "3",
        "SLURM_STEP_NODELIST": "node[1-3]",
        "SLURM_STEP_TASKS_PER_NODE": "1(x3)",
        "SLURM_PROCID": "1",
        "SLURM_LOCALID": "0",
        "SLURM_NODEID": "1",
    }
    spec = Cluster({"worker": ("127.0.0.1:29300", "127.0.0.1:29301")})
    return said(doctor([], environ={**slurm, "TF_CONFIG": spec.to_tf_config("worker:1")}))


def little_memory(folder: Path) -> Told:
    return said(doctor([], before=["prlimit", f"--as={700 * _MIB}"]))


def more_tasks_than_cores(folder: Path) -> Told:
    with a_spec(folder, len(os.sched_getaffinity(0)) + 1) as (path, _):
        return said(doctor([path]))


def no_secret_on_one(folder: Path) -> Told:
    with a_spec(folder) as (path, _):
        chief, _ = together(
            Doctor(path, "worker:0", SECRET, {"wait": 1.0}), Doctor(path, "worker:1")
        )
        return chief.report.to_json()


def firewall(folder: Path) -> Told:
    with Hosts(2) as hosts:
        spec = {"worker": [f"{address}:2223" for address in hosts.addresses]}
        path = _spec(folder, spec)
        drops = [
            ["rule", "add", "pref", 0, "iif", "eth0", "ipproto", "tcp", "dport", 2223, "blackhole"],
            ["rule", "del", "pref", 0, "lookup", "local"],
            ["rule", "add", "pref", 10, "lookup", "local"],
        ]
        for words in drops:
            command = map(str, hosts.on(1, ["ip", *words]))
            subprocess.run(list(command), check=True, timeout=20)
        both = [
            doctor(
                ["--task", f"worker:{n}", path],
                environ=SECRET,
                around=lambda words, n=n: hosts.on(n, words),  # type: ignore[misc]
            )
            for n in range(2)
        ]
        chief, _ = map(said, both)
        return chief


def _spec(folder: Path, jobs: Mapping[str, Sequence[str]]) -> Path:
    path = folder / "spec.json"
    path.write_text(json.dumps({"cluster": jobs}))
    return path


BROKEN = (
    Broken("a misspelt host name", misspelt_host, "bad", "names", "'nodee.invalid'", "/etc/hosts"),
    Broken(
        "a port that another process has",
        port_taken,
        "bad",
        "ports",
        "of worker:1",
        "give worker:1 another port",
    ),
    Broken("two tasks on one address", one_address, "bad", "spec", "one place", "its own host"),
    Broken("a spec that is no JSON", no_json, "bad", "spec", "JSON", ""),
    Broken(
        "a task that the spec has not", no_such_task, "bad", "spec", "worker:2", "give the task"
    ),
    Broken(
        "a host that does not answer",
        no_answer,
        "bad",
        "reach",
        "does not answer",
        "firewall",
        "hosts",
    ),
    Broken(
        "another tfdist on one task",
        other_version,
        "bad",
        "versions",
        "tfdist 9.9.9 on worker:1",
        "the same version",
    ),
    Broken("a clock that is off", clock_off, "bad", "clocks", "3600.0 s behind", "chrony"),
    Broken(
        "a run folder that cannot be written",
        folder_not_writable,
        "bad",
        "folder",
        "cannot be made in it",
        "--folder",
    ),
    Broken("a full disk", disk_full, "bad", "folder", "no space left", "free some space", "root"),
    Broken(
        "TF_CONFIG that is not Slurm's job",
        tf_config_and_slurm,
        "bad",
        "environment",
        "TF_CONFIG has 2 tasks, but Slurm has started 3",
        "TFDIST_ENVIRONMENT",
    ),
    Broken("too little memory", little_memory, "bad", "memory", "700 MiB free", "ulimit -v"),
    Broken(
        "more tasks than cores",
        more_tasks_than_cores,
        "doubtful",
        "cores",
        "tasks that compute",
        "start no more than",
    ),
    Broken(
        "a secret that one task lacks",
        no_secret_on_one,
        "bad",
        "meeting",
        "worker:1",
        "TFDIST_SECRET",
    ),
    Broken(
        "a firewall that drops one way",
        firewall,
        "bad",
        "reach",
        "worker:0 cannot reach worker:1 (10.78.0.2:2223): no answer, though worker:1 reaches "
        "worker:0",
        "open port 2223",
        "hosts",
    ),
)


def made(broken: Broken) -> Told:
    """Makes a set-up, and returns the doctor's report."""
    with tempfile.TemporaryDirectory(prefix="tfdist-broken-") as folder:
        return broken.doctor(Path(folder))
