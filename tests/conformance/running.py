"""Runs Keras' tests in processes of their own, until each test has passed, failed, hung or died."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.results import Result, Results

__all__ = ["Run"]

ROOT = Path(__file__).parent.parent.parent
GRACE = 60.0
"""Seconds beyond a test's own, and for a process to start in, until a process is killed."""


@dataclass(frozen=True)
class Run:
    """One run of the tests.

    Args:
        tests: the folder of Keras' tests.
        files: those of its files to run.
        scratch: a folder for what the run writes.
        strategy: on which models are plugged; None for plain Keras.
        timeout: seconds for one test.
    """

    tests: Path
    files: Sequence[str]
    scratch: Path
    strategy: str | None
    timeout: float

    @property
    def name(self) -> str:
        """What files of this run are called."""
        return self.strategy or "plain"

    def results(self, only: Sequence[str] | None = None) -> dict[str, Result]:
        """Runs the tests, those of `only` or all, and returns what each did."""
        done: dict[str, Result] = {}
        while only is None or only:
            seen = self._start(only)
            done |= seen.done
            if seen.current is not None:
                done[seen.current] = Result("failed", why="it hung, or the process died in it")
                seen.left.remove(seen.current)
            elif seen.left or not seen.done:
                raise SystemExit(f"{self.name}: the tests did not run, see {self._file('.log')}")
            only = seen.left
        return done

    def _start(self, only: Sequence[str] | None) -> Results:
        """Runs a process to its end, or until it stands still."""
        lines = self._file(".jsonl")
        lines.unlink(missing_ok=True)
        folder = self._file("")
        folder.mkdir(parents=True, exist_ok=True)
        chosen: list[str] = []
        if only is not None:
            self._file(".only").write_text("\n".join(only))
            chosen = ["--only", str(self._file(".only"))]
        with self._file(".log").open("a") as log:
            process = subprocess.Popen(
                [*self._command(lines), *chosen, *self._paths(only)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,  # for what the tests write
                env=self._environment(),
                start_new_session=True,
            )
            try:
                self._wait(process, lines)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return Results.of(lines.read_text().splitlines() if lines.exists() else [])

    def _wait(self, process: subprocess.Popen[bytes], lines: Path) -> None:
        size, moved = 0, time.monotonic()
        while process.poll() is None and time.monotonic() - moved < self.timeout + GRACE:
            time.sleep(0.2)
            there = lines.stat().st_size if lines.exists() else 0
            if there != size:
                size, moved = there, time.monotonic()

    def _command(self, lines: Path) -> list[str]:
        strategy = [] if self.strategy is None else ["--strategy", self.strategy]
        return [
            *(sys.executable, "-m", "pytest", "-q", "--tb=short", "--import-mode=importlib"),
            "--continue-on-collection-errors",
            *("-c", str(self.tests / "pytest.ini"), "--rootdir", str(self.tests)),
            *("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "tests.conformance.plugin"),
            *("--timeout", f"{self.timeout:g}", "--results", str(lines)),
            *strategy,
        ]

    def _paths(self, only: Sequence[str] | None) -> list[str]:
        needed = None if only is None else {test.partition("::")[0] for test in only}
        return [str(self.tests / file) for file in self.files if needed is None or file in needed]

    def _environment(self) -> dict[str, str]:
        known = {k: v for k, v in os.environ.items() if k not in ("TF_CONFIG", "TFDIST_CLUSTER")}
        return {
            "TF_CPP_MIN_LOG_LEVEL": "2",
            **known,
            "PYTHONPATH": str(ROOT),
            "KERAS_BACKEND": "tensorflow",
        }

    def _file(self, suffix: str) -> Path:
        return self.scratch / f"{self.name}{suffix}"
