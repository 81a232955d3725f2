"""How far tasks on other hosts are comes with their output, brought to the launcher's clock."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT
from tests.hosts.local_client import CLIENT

TASK = """
import time
from tfdist.progress import PhaseClock, PhaseSeconds
from tfdist.progress.teller import Measured, teller
own, clock = teller(), PhaseClock()
clock.start("compute")
began = time.monotonic()
def measure():
    return Measured(PhaseSeconds(compute=time.monotonic() - began), clock.phase or "", 0)
with own.fitting(clock, measure, epochs=1, steps=30, batch=8):
    for step in range(30):
        time.sleep(0.05)
        clock.enter("input" if step % 2 else "compute")
        own.update(step=step + 1, logs={"loss": 1.0})
    clock.stop()
"""


def test_tasks_of_two_hosts_are_in_one_timeline(tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text(TASK)
    command = [sys.executable, "-m", "tfdist", "run", "--hosts", "a,b", "--ssh", CLIENT]
    command += ["--tensorboard", "board", "--progress", "none", "task.py"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        command, cwd=tmp_path, env=environ, check=False, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    events = json.loads((tmp_path / "board" / "timeline.trace.json").read_text())
    names = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    found = {names[e["pid"]] for e in events if e.get("cat") == "phase"}
    assert found == {"worker:0", "worker:1"}
    (end,) = [e["ts"] for e in events if e["name"] == "the job has ended"]
    for e in events:
        if e.get("cat") == "phase":
            assert end - 60e6 < e["ts"] <= e["ts"] + e["dur"] <= end
    assert list((tmp_path / "board").glob("worker-1/events.*"))
    assert list((tmp_path / "board").glob("job/events.*"))
