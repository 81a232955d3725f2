"""A caller's folder goes with it, and what a killed one has left goes with the next."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tfdist.functions.shared_folder import shared_folder

HOLDS = """
import time
from tfdist.functions.shared_folder import shared_folder
with shared_folder() as folder:
    (folder / "call").touch()
    print(folder, flush=True)
    time.sleep(60)
"""


def test_a_folder_is_removed_with_its_caller_or_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    other = subprocess.Popen([sys.executable, "-c", HOLDS], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    left = Path(other.stdout.readline().strip())
    with shared_folder() as own:
        assert own.stat().st_mode & 0o077 == 0
        assert (left / "call").exists()  # its caller lives
    assert not own.exists()
    other.kill()
    other.communicate(timeout=10)
    assert left.exists()
    with shared_folder() as own:
        assert not left.exists()
        assert [path.name for path in tmp_path.iterdir()] == [own.name]
