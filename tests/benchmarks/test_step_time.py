"""The command runs; what it measures is looked at by people."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.mark.thorough
def test_the_command_measures_three_steps_of_the_tiny_model_on_two_workers(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.benchmarks.step_time", "--output", str(tmp_path)]
    only = ["--models", "tiny", "--variants", "tfdist_fit", "--steps", "3", "--rounds", "1"]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    subprocess.run(
        [*command, *only], check=True, timeout=120, env={**os.environ, "PYTHONPATH": path}
    )
    (run,) = json.loads((tmp_path / "step_time.json").read_text())["runs"]
    assert (run["model"], run["variant"], len(run["memory_mb"])) == ("tiny", "tfdist_fit", 2)
    assert run["step_ms"][0] > 0
    assert "| tfdist fit |" in (tmp_path / "step_time.md").read_text()
    assert (tmp_path / "step_time.png").stat().st_size > 1000
