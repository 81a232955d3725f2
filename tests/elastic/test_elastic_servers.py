"""Real jobs whose parameter servers change in number: the bits of one that nobody disturbs."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunJob
from tests.elastic.launchers import Launchers

SCRIPT = Path(__file__).with_name("lost_server.py")
SLOWLY = {"PAUSE": "0.4"}
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def undisturbed(run_job: RunJob, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a job of two servers ends with that all live through."""
    folder = tmp_path_factory.mktemp("undisturbed")
    ran = run_job(["--workers", 1, "--ps", 2, SCRIPT, folder])
    assert ran.returncode == 0, ran.stderr
    return result(folder)


def result(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return found


def servers_of_steps(folder: Path) -> dict[int, int]:
    """With how many servers each step was trained, the last time."""
    lines = (folder / "servers.txt").read_text().splitlines()
    return {int(step): int(count) for step, count in map(str.split, lines)}


def test_a_job_goes_on_without_a_server_that_was_killed_and_takes_it_in_again(
    run_job: RunJob, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    """Its shards move to the other one and back; every update is made once."""
    options = ["--workers", 1, "--ps", "1:2", "--settle", 2, "--grace", 2]
    ran = run_job([*options, SCRIPT, tmp_path, "ps:1", 1, 3], env=SLOWLY)
    assert ran.returncode == 0, ran.stderr
    assert "1 worker and 2 ps: starting chief:0, worker:0, ps:0, ps:1; logs in" in ran.stderr
    assert "ps:1 was ended by SIGKILL" in ran.stderr
    assert "): going on with 1 of 2 ps, from the last checkpoint" in ran.stderr
    assert "1 worker and 1 ps: starting chief:0, worker:0, ps:0; logs in" in ran.stderr
    assert "ps:1 can take part: all save, and go on with 2 instead of 1 ps" in ran.stderr
    assert result(tmp_path) == undisturbed
    counts = servers_of_steps(tmp_path)
    assert sorted(counts) == list(range(28))
    assert set(counts.values()) == {1, 2}


def test_servers_of_other_hosts_are_lost_come_back_and_leave(
    undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    """Each task has a launcher of its own, as on a host of its own."""
    places = ["chief:0", "worker:0", "ps:0", "ps:1"]
    options = ["--ps", "1:2", "--settle", 2, "--grace", 10]
    with Launchers(tmp_path, places, options, [SCRIPT, tmp_path], {"PAUSE": "1"}) as launchers:
        for place in places:
            launchers.start(place)
        launchers.wait_for("chief:0", "1 worker and 2 ps: starting", 60)
        saved = tmp_path / "run" / "epoch-00001.keras"
        launchers.wait_until(saved.exists, "an epoch", 60)
        launchers.send("ps:0", signal.SIGKILL)
        launchers.wait_for("chief:0", "1 worker and 1 ps: starting", 60)
        launchers.wait_for("chief:0", "resuming after epoch 1", 60)
        launchers.start("ps:0")
        launchers.wait_for("chief:0", "1 worker and 2 ps: starting", 60, times=2)
        before = set((tmp_path / "run").iterdir())
        launchers.wait_until(
            lambda: len(set((tmp_path / "run").iterdir()) - before) > 1, "steps with both", 60
        )
        launchers.send("ps:1", signal.SIGTERM)
        launchers.wait_for("chief:0", "1 worker and 1 ps: starting", 60, times=2)
        assert launchers.end("ps:1", 30) == 75, launchers.all_said
        for place in places[:3]:
            assert launchers.end(place, 90) == 0, launchers.all_said
    assert result(tmp_path) == undisturbed
    assert set(servers_of_steps(tmp_path).values()) == {1, 2}
