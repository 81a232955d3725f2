"""Slurm's queue: a script is handed in, and its job followed to its end."""

from __future__ import annotations

import codecs
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tfdist.errors import LaunchError

__all__ = ["JobState", "follow", "state_of", "submit"]

_LOOK_SECONDS = 1.0
_PATIENCE_SECONDS = 300.0
_REQUEUED_SECONDS = 60.0  # in which a preempted job is back in the queue, or never
_ENDED = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY"),
    *("TIMEOUT", "REVOKED"),
}
"""States after which a job does not run again. PREEMPTED is none at once: it may be requeued."""


@dataclass(frozen=True)
class JobState:
    """What Slurm says of a job.

    Attributes:
        state: as RUNNING, in Slurm's words.
        code: the exit code of its script; 128 + n where signal n has ended it.
        output: the file with what it prints.
        restarts: how often it was requeued.
    """

    state: str
    code: int
    output: Path
    restarts: int

    @property
    def has_ended(self) -> bool:
        """Whether it does not run again."""
        return self.state in _ENDED


def submit(script: str) -> str:
    """Hands a batch script in.

    Returns:
        The job's number.

    Raises:
        LaunchError: there is no Slurm here, or it refuses the job; with Slurm's own words.
    """
    number = _run(["sbatch", "--parsable"], script).split(";")[0].strip()
    if not number.isdigit():
        raise LaunchError(f"sbatch said {number!r}, where a job's number was expected")
    return number


def state_of(number: str) -> JobState:
    """Asks for a job.

    Raises:
        LaunchError: Slurm knows no such job any more.
    """
    told = _run(["scontrol", "show", "job", "--oneliner", number])
    fields = dict(re.findall(r"(\w+)=(.*?)(?= \w+=|$)", told.strip()))
    code, _, signal = fields.get("ExitCode", "0:0").partition(":")
    return JobState(
        fields.get("JobState", ""),
        128 + int(signal) if signal.isdigit() and int(signal) else int(code),
        Path(fields.get("StdOut", "")),
        int(fields.get("Restarts", "0")),
    )


def follow(number: str, write: Callable[[str], None]) -> JobState:
    """Shows what a job prints, until it has ended for good.

    A controller that does not answer for some minutes is borne.

    Args:
        number: of the job.
        write: takes what it has printed, as it comes.

    Returns:
        How it has ended.

    Raises:
        LaunchError: Slurm did not tell of the job for too long; the job goes on.
    """
    read = 0
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    heard = preempted = time.monotonic()
    while True:
        now = time.monotonic()
        try:
            job = state_of(number)
        except LaunchError as error:
            if now - heard > _PATIENCE_SECONDS:
                raise LaunchError(
                    f"job {number} is not followed any more, and may go on: {error}"
                ) from None
            time.sleep(_LOOK_SECONDS)
            continue
        heard = now
        if job.output.is_file():
            with job.output.open("rb") as file:
                file.seek(read)
                new = file.read()
            read += len(new)
            if new:
                write(decoder.decode(new))
        if job.state != "PREEMPTED":
            preempted = now
        if job.has_ended or now - preempted > _REQUEUED_SECONDS:
            return job
        time.sleep(_LOOK_SECONDS)


def _run(command: list[str], given: str = "") -> str:
    try:
        ran = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise LaunchError(
            f"there is no {command[0]} here: submit from a host of the Slurm cluster, or hand the "
            "script of --dry_run in there"
        ) from None
    if ran.returncode:
        said = " ".join((ran.stderr or ran.stdout).split())
        raise LaunchError(f"{command[0]}: {said}")
    return ran.stdout
