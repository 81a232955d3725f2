"""A task that is told to end before its training has begun ends, and is not deaf until then."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import RunJob

SCRIPT = """
import os, signal, time
import tfdist
strategy = tfdist.strategy()
if not tfdist.is_chief():
    os.kill(os.getpid(), signal.SIGTERM)
time.sleep(40)
"""


@pytest.mark.thorough
@pytest.mark.timeout(90)
def test_sigterm_between_the_strategy_and_fit_ends_a_worker(
    run_job: RunJob, tmp_path: Path
) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    ran = run_job(["--workers", 2, tmp_path / "script.py"], cwd=tmp_path)
    assert ran.returncode == 143, ran.stderr
    assert "worker:1 was ended by SIGTERM (exit code 143)" in ran.stderr
