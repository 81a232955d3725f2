"""The room and its neighbour import neither TensorFlow nor NumPy, and are quick to import."""

from __future__ import annotations

import subprocess
import sys

import pytest

ROOMS = (
    "tfdist.cluster",
    "tfdist.rendezvous.agreement",
    "tfdist.environments",
)


@pytest.mark.parametrize("room", ROOMS)
def test_a_pure_room_never_imports_tensorflow(room: str) -> None:
    code = (
        f"import sys, {room}\nprint(sorted({{'tensorflow', 'keras', 'numpy'}} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.strip() == "[]"
