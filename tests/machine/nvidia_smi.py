"""A stand-in for nvidia-smi that says what one has said."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest

__all__ = ["FIRST", "MIXED", "SECOND", "SLICED", "TWO", "put_on_path"]

FIRST = "GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77"
SECOND = "GPU-11f1a5cc-7de0-4a2b-9a55-0e6e3f2ab001"
TWO = f"""\
GPU 0: NVIDIA H100 80GB HBM3 (UUID: {FIRST})
GPU 1: NVIDIA H100 80GB HBM3 (UUID: {SECOND})
"""
MIXED = f"""\
GPU 0: NVIDIA GeForce GTX 1080 (UUID: {FIRST})
GPU 1: NVIDIA TITAN V (UUID: {SECOND})
"""
SLICED = f"""\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: {FIRST})
  MIG 3g.20gb     Device  0: (UUID: MIG-c7384736-a75d-5afc-978f-d2f1294409fd)
  MIG 1g.5gb      Device  1: (UUID: MIG-a28ad590-3fda-56dd-84fc-0a0b96edc58d)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: {SECOND})
"""


def put_on_path(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    listing: str = "",
    *,
    free: Sequence[str] = (),
    code: int = 0,
    first: str = "",
) -> None:
    """Puts a stand-in in front of this process's PATH, and clears what it sees of CUDA.

    Args:
        folder: an empty one.
        monkeypatch: undoes it.
        listing: what `nvidia-smi -L` says.
        free: the lines of `--query-gpu=uuid,memory.free`.
        code: how it ends.
        first: shell commands that it runs before.
    """
    program = folder / "nvidia-smi"
    query = "\n".join(free) + "\n"
    program.write_text(
        f"#!/bin/sh\n{first}\n"
        f"case $1 in -L) printf %s {shlex.quote(listing)} ;; "
        f"--query-gpu=uuid,memory.free) printf %s {shlex.quote(query)} ;; esac\nexit {code}\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
