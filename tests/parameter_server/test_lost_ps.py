"""A parameter server that dies takes its variables with it: the job ends, and names it."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from tests.unattended import run_unattended
from tfdist.launch import local_cluster


@pytest.mark.timeout(150)
def test_a_lost_ps_ends_the_job_with_its_name(tmp_path: Path) -> None:
    script = Path(__file__).with_name("lost_ps.py")
    with local_cluster(workers=1, ps=1) as cluster:
        codes = run_unattended(cluster, script, tmp_path, timeout=110)
    told = Path(tmp_path, "chief:0.log").read_text()
    assert codes == {"chief:0": 75, "worker:0": 75, "ps:0": -signal.SIGKILL}, told[-3000:]
    assert "training" in told
    assert re.search(
        r"TaskLost: chief:0 lost ps:0, and with it the variables that it kept: ", told
    ), told[-3000:]
    at = cluster.address("chief:0")
    worker = Path(tmp_path, "worker:0.log").read_text()
    assert f"TaskLost: chief:0 ({at}) has failed (TaskLost: chief:0 lost ps:0, " in worker
