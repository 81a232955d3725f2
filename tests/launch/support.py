"""What the tests of the launcher share: tiny scripts, jobs inside this process, signs of life."""

from __future__ import annotations

import io
import os
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfdist.launch import JobResult, local_cluster, run_job

GOLDEN = Path(__file__).parent / "golden"
TASK = """\
import json, os, signal, subprocess, sys, time
task = json.loads(os.environ["TF_CONFIG"])["task"]
name = f"{task['type']}:{task['index']}"
"""
"""The beginning of every script: which task it is."""


@dataclass(frozen=True)
class Ran:
    """A job that has ended.

    Attributes:
        result: What it returned.
        out: What the tasks' output looked like.
        err: What the launcher said.
        seconds: How long it took.
    """

    result: JobResult
    out: str
    err: str
    seconds: float

    @property
    def returncodes(self) -> dict[str, int]:
        return {str(task.task): task.returncode for task in self.result.tasks}


def write_script(folder: Path, body: str, name: str = "script.py") -> Path:
    """A script that knows its task's `name`; the body may be indented."""
    path = folder / name
    path.write_text(TASK + textwrap.dedent(body), encoding="utf-8")
    return path


def run_script(
    folder: Path, body: str, *arguments: str, counts: dict[str, Any] | None = None, **options: Any
) -> Ran:
    """Runs a script as a job of two workers, or of other `counts`, to its end."""
    script = write_script(folder, body)
    out, err = io.StringIO(), io.StringIO()
    started = time.monotonic()
    with local_cluster(**(counts or {"workers": 2})) as cluster:
        result = run_job(
            [str(script), *arguments],
            cluster,
            **{"log_dir": folder / "logs", "grace": 0.5, "out": out, "err": err, **options},
        )
    return Ran(result, out.getvalue(), err.getvalue(), time.monotonic() - started)


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie has ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        if Path("/proc/self").exists():
            return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True
    return state not in "ZX"


def wait_until(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    """Waits for a condition and returns what it gave; fails at the deadline."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(0.02)
    return value


def compare_with_golden(text: str, name: str, folder: Path = GOLDEN) -> None:
    """Compares a text with the file of that name; TFDIST_WRITE_GOLDEN=1 writes it instead."""
    path = folder / name
    if os.environ.get("TFDIST_WRITE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
