"""A caller's folder goes with it, and what a killed one has left goes with the next."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tfdist.functions import shared_folder as module
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


def test_a_folder_that_another_removes_before_it_is_held_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    hold = fcntl.flock
    before: list[set[Path]] = []

    def late(lock: int, how: int) -> None:
        if not before:
            before.append(set(tmp_path.iterdir()))
            module._remove_those_without_a_holder()  # as another caller does
        hold(lock, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with shared_folder() as own:
        assert len(before[0]) == 1
        assert own not in before[0]
        assert [*tmp_path.iterdir()] == [own]
        with shared_folder():  # it is held
            assert own.exists()
    assert not [*tmp_path.iterdir()]
