"""Runs a job again and again, with a fault in each run, and compares how it ends.

    undisturbed run ──► its bits
    round: run, fault, until it ends ──► started again until it ends well ──► the same bits?

Each run has a working directory of its own, below which the job keeps its checkpoints.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfdist.diagnose import job_processes
from tfdist.diagnose.fault_plan import Fault, draw_faults
from tfdist.diagnose.job_outcome import JobOutcome, largest_file, newest_checkpoint
from tfdist.errors import CheckpointError, LaunchError

__all__ = ["Chaos", "Round"]

_STARTS = 4
"""How often a job is started in a round, at most."""

_PAUSE_SECONDS = 3.0
_SETTLE_SECONDS = 2.0


@dataclass(frozen=True)
class Round:
    """What has become of one round.

    Attributes:
        fault: what was done.
        struck: whether the job still ran then.
        codes: the exit codes of the job's starts, one by one.
        hung: whether one had to be killed at the limit.
        left: how many processes were left over.
        verdict: "same bits", "same counts" (of steps), "differs", or why there is no end.
        seconds: from the fault to the end.
    """

    fault: Fault
    struck: bool
    codes: tuple[int, ...]
    hung: bool
    left: int
    verdict: str
    seconds: float

    def line(self, number: int) -> str:
        """Returns the round as a line of the table."""
        when = f"{self.fault.when:.0%}" if self.struck else "too late"
        codes = " ".join(map(str, self.codes))
        trouble = f"{'hung' if self.hung else '-'}, {self.left} left"
        return (
            f"| {number} | {self.fault.kind} | {self.fault.task} | {when} | {codes} | {trouble} | "
            f"{self.verdict} | {self.seconds:.1f} |"
        )


class Chaos:
    """Disturbs a job.

    Args:
        arguments: of `tfdist run`.
        folder: where the runs' working directories are made.
        limit: seconds for one run of the job.
        counts_will_do: whether the same number of steps is all that the job promises, as on
            parameter servers with several workers.
        say: takes one line an event.
    """

    HEAD = (
        "| round | fault | task | at | exit codes | trouble | end | s |\n"
        "|---:|---|---|---:|---|---|---|---:|"
    )

    def __init__(
        self,
        arguments: Sequence[str],
        folder: Path,
        *,
        limit: float,
        counts_will_do: bool,
        say: Callable[[str], None],
    ) -> None:
        self._arguments = [
            str(Path(word).resolve()) if Path(word).is_file() else word for word in arguments
        ]
        self._folder = folder
        self._limit = limit
        self._counts_will_do = counts_will_do
        self._say = say

    def run(self, rounds: int, seed: int, kinds: Sequence[str]) -> list[Round]:
        """Runs the job undisturbed, and then each round; says a line of the table for each.

        Raises:
            LaunchError: the undisturbed job has failed.
            CheckpointError: it has left no checkpoint.
        """
        self._say("running the job undisturbed")
        home = self._home("undisturbed")
        began = time.monotonic()
        job = self._start(home)
        tasks: set[str] = set()
        while job.poll() is None and time.monotonic() - began < self._limit:
            tasks |= set(job_processes.tasks_of(job.pid))
            time.sleep(0.2)
        took = time.monotonic() - began
        if self._end(job):
            raise LaunchError(f"the undisturbed job did not end within {self._limit:g} s")
        if job.returncode:
            raise LaunchError(
                f"the undisturbed job has ended with exit code {job.returncode}: see {home}/output"
            )
        expected = JobOutcome.of(home)
        self._say(f"it took {took:.1f} s; {rounds} rounds, seed {seed}\n{self.HEAD}")
        done = []
        for number, fault in enumerate(draw_faults(rounds, seed, sorted(tasks), kinds), 1):
            done.append(self._round(number, fault, took, expected))
            self._say(done[-1].line(number))
        return done

    def is_good(self, one: Round) -> bool:
        """Whether a round has ended as it should."""
        ends = ("same bits", "same counts") if self._counts_will_do else ("same bits",)
        return one.verdict in ends and not one.hung and not one.left

    # ------------------------------------------------------------ one round

    def _round(self, number: int, fault: Fault, took: float, expected: JobOutcome) -> Round:
        home = self._home(f"round-{number}")
        job = self._start(home)
        struck = self._strike(job, fault, home, fault.when * took)
        since = time.monotonic()
        hung = self._end(job)
        codes = [job.returncode]
        while codes[-1] != 0 and len(codes) < _STARTS:
            if fault.kind == "truncate" and len(codes) == 1:
                _cut_in_half(home)
            job = self._start(home)
            hung = self._end(job) or hung
            codes.append(job.returncode)
        seconds = time.monotonic() - since
        left = _left_over(home)
        return Round(
            fault, struck, tuple(codes), hung, left, self._verdict(home, codes, expected), seconds
        )

    def _verdict(self, home: Path, codes: Sequence[int], expected: JobOutcome) -> str:
        if codes[-1] != 0:
            return f"never ended well, see {home}/output"
        try:
            found = JobOutcome.of(home)
        except CheckpointError as error:
            return str(error)
        if found == expected:
            return "same bits"
        return "same counts" if found.iterations == expected.iterations else "differs"

    def _strike(self, job: subprocess.Popen[bytes], fault: Fault, home: Path, after: float) -> bool:
        """Waits for the moment, and does the harm; returns whether the job still ran."""
        until = time.monotonic() + after
        while job.poll() is None:
            pid = (
                job.pid
                if fault.task == "launcher"
                else job_processes.tasks_of(job.pid).get(fault.task)
            )
            if pid is not None and time.monotonic() >= until:
                break
            time.sleep(0.02)
        else:
            return False
        numbers = {"term": signal.SIGTERM, "stop": signal.SIGSTOP, "pause": signal.SIGSTOP}
        number = numbers.get(fault.kind.removesuffix("-launcher"), signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            if fault.kind == "pause":
                time.sleep(_PAUSE_SECONDS)
                os.kill(pid, signal.SIGCONT)
        return True

    def _home(self, name: str) -> Path:
        home = self._folder / name
        home.mkdir(0o700, parents=True)
        return home.resolve()

    def _start(self, home: Path) -> subprocess.Popen[bytes]:
        path = os.pathsep.join([os.getcwd(), *filter(None, [os.environ.get("PYTHONPATH")])])
        with (home / "output").open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "tfdist", "run", *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=home,
                env={**os.environ, "PYTHONPATH": path},
                start_new_session=True,
            )

    def _end(self, job: subprocess.Popen[bytes]) -> bool:
        """Waits for the end of a run; one that does not come is brought about. Was it?"""
        try:
            job.wait(self._limit)
        except subprocess.TimeoutExpired:
            job.kill()  # its guardian ends the tasks
            job.wait()
            return True
        return False


def _left_over(home: Path) -> int:
    """How many processes are still at work in a run's directory, once they had time to end."""
    until = time.monotonic() + _SETTLE_SECONDS
    while (count := len(job_processes.at_work_in(home))) and time.monotonic() < until:
        time.sleep(0.1)
    return count


def _cut_in_half(home: Path) -> None:
    with contextlib.suppress(CheckpointError, OSError):
        path = largest_file(newest_checkpoint(home)[0])
        os.truncate(path, path.stat().st_size // 2)
