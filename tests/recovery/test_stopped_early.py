"""A chief that is stopped before it has met anybody: its launcher knows, the others wait."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from tests.conftest import RunJob

SCRIPT = """
import os, signal, sys
from pathlib import Path
from tfdist import process
if process.is_chief() and not Path("been").exists():
    Path("been").touch()
    os.kill(os.getpid(), signal.SIGSTOP)
import tfdist
tfdist.strategy(sys.argv[1])
"""


@pytest.mark.thorough
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("kind", "options", "restarts", "code"),
    [
        ("multi_worker_mirrored", ["--workers", 2], 0, 75),
        ("parameter_server", ["--workers", 1, "--ps", 1], 0, 75),
        ("pipeline", ["--chief", "--workers", 1], 0, 75),
        ("multi_worker_mirrored", ["--workers", 2], 1, 0),
    ],
)
def test_it_is_named_and_the_job_ends_after_the_stall_timeout(
    kind: str,
    options: list[object],
    restarts: int,
    code: int,
    run_job: RunJob,
    tmp_path: Path,
) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    how = ["--stall_timeout", 10, "--max_restarts", restarts]
    began = time.monotonic()
    ran = run_job([*options, *how, tmp_path / "script.py", kind], cwd=tmp_path)
    assert ran.returncode == code, ran.stderr
    assert time.monotonic() - began < 40
    assert re.search(r"(chief|worker):0 is stopped \(SIGSTOP\) for [67] s: the others", ran.stderr)
    assert re.search(
        r"was stopped \(SIGSTOP\) for 1\d s, and ended by tfdist \(exit co", ran.stderr
    )
