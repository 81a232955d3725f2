"""A parameter server that dies takes its variables with it: the job ends, and names it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tfdist.launch import local_cluster


@pytest.mark.timeout(150)
def test_a_lost_ps_ends_the_job_with_its_name(tmp_path: Path) -> None:
    script = str(Path(__file__).with_name("lost_ps.py"))
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(local_cluster(workers=1, ps=1))
        processes = {}
        for task in cluster.tasks:  # without tfdist run, which would end the others itself
            log = stack.enter_context(Path(tmp_path, f"{task}.log").open("w"))
            variables = {**os.environ, "TF_CONFIG": cluster.to_tf_config(task)}
            variables["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
            command = [sys.executable, script, str(tmp_path)]
            process = subprocess.Popen(command, env=variables, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.kill)
            processes[str(task)] = process
        codes = {name: process.wait(110) for name, process in processes.items()}
    told = Path(tmp_path, "chief:0.log").read_text()
    assert codes == {"chief:0": 75, "worker:0": 75, "ps:0": -signal.SIGKILL}, told[-3000:]
    assert "training" in told
    assert re.search(
        r"TaskLost: chief:0 lost ps:0, and with it the variables that it kept: ", told
    ), told[-3000:]
    at = cluster.address("chief:0")
    worker = Path(tmp_path, "worker:0.log").read_text()
    assert f"TaskLost: chief:0 ({at}) has failed (TaskLost: chief:0 lost ps:0, " in worker
