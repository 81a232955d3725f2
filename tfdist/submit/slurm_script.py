"""The batch script of a Slurm job: pure text.

    sbatch script ──► srun, a launcher for each task ──► the task
        └─ SIGUSR1 before the time is up ──► all save, exit code 75 ──► scontrol requeue

What Slurm preempts it requeues itself, unless the job has ended within the GraceTime of its
partition: then it would stay ended. What somebody cancels stays cancelled.

Sources: the manual pages of sbatch (--signal, --requeue, --open-mode) and scontrol (requeue).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from tfdist.errors import EXIT_CODES, ClusterError, Preempted

__all__ = ["SlurmScript", "seconds_of"]

_TIME = re.compile(r"(\d+-)?\d+(:\d+){0,2}", re.ASCII)
_ROLES = ("ps", "chief", "evaluator")
_START_SECONDS = 120  # Slurm may send its signal up to a minute early, and Python starts slowly

# srun ends with the highest code of its tasks. Where one has failed the others have lost it (75):
# its own code is made the higher one, so that a fault of the program is not tried for ever. Slurm's
# signals reach this shell, too, which outlives them.
_TASK = (
    """'trap : USR1 USR2 TERM; "$@"; code=$?; """
    """case $code in 0|75) ;; *) code=$((code | 128)) ;; esac; exit $code'"""
)


@dataclass(frozen=True)
class SlurmScript:
    """What a job asks of Slurm, and what it runs.

    Attributes:
        command: of each task, without srun.
        nodes: how many.
        tasks_per_node: how many tasks on each.
        time: limit, as Slurm writes it: minutes, H:M:S, D-H:M:S; "" for the partition's own.
        name: of the job.
        output: where what it prints goes, as Slurm writes it: %j is the job's number.
        signal_before: seconds before the time is up, when all tasks save, and the job is requeued.
        requeue: whether a job whose time was up, or which was preempted, is started again.
        roles: how many tasks are "ps", "chief", "evaluator"; the others are workers.
        directives: further options of sbatch, each as "--name=value".
    """

    command: Sequence[str]
    nodes: int = 1
    tasks_per_node: int = 1
    time: str = ""
    name: str = "tfdist"
    output: str = "slurm-%j.out"
    signal_before: int = 120
    requeue: bool = True
    roles: tuple[tuple[str, int], ...] = ()
    directives: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.nodes < 1 or self.tasks_per_node < 1:
            raise ClusterError(
                f"{self.nodes} nodes of {self.tasks_per_node} tasks; give 1 or more of each"
            )
        if self.time and not _TIME.fullmatch(self.time):
            raise ClusterError(
                f"--time {self.time!r}; give minutes, H:M:S, or D-H:M:S, as 90 or 1:30:00"
            )
        if self.time and seconds_of(self.time) < self.signal_before + _START_SECONDS:
            raise ClusterError(
                f"--time {self.time} is too short for --signal_before {self.signal_before}, which "
                f"leaves less than {_START_SECONDS} s to train; give more time"
            )
        for name in (self.name, self.output, *self.directives):
            if not name or re.search(r"[\s\"'\\]", name):
                raise ClusterError(
                    f"{name!r} in an #SBATCH line; write it without blanks or quotes"
                )
        for directive in self.directives:
            if not re.fullmatch(r"--[a-z][a-z-]*(=.+)?", directive):
                raise ClusterError(
                    f"--sbatch {directive!r}; give --name=value, as --constraint=a100"
                )
        unknown = [job for job, _ in self.roles if job not in _ROLES]
        if unknown:
            raise ClusterError(f"{unknown[0]} among the roles; the others are workers")
        roles = dict(self.roles)
        # Parameter servers bring a chief with them.
        others = sum(roles.values()) + int(bool(roles.get("ps")) and not roles.get("chief"))
        if self.nodes * self.tasks_per_node <= others:
            raise ClusterError(
                f"{self.nodes} x {self.tasks_per_node} tasks, of which {others} are no workers; "
                "ask for more tasks"
            )

    def text(self) -> str:
        """Returns the script."""
        asks = [
            f"--job-name={self.name}",
            f"--nodes={self.nodes}",
            f"--ntasks-per-node={self.tasks_per_node}",
            *([f"--time={self.time}"] if self.time else []),
            f"--output={self.output}",
            "--open-mode=append",
            f"--signal=B:USR1@{self.signal_before}",
            "--requeue" if self.requeue else "--no-requeue",
            *self.directives,
        ]
        lines = ["#!/bin/bash", *(f"#SBATCH {ask}" for ask in asks), ""]
        lines += [
            "# The tasks prove to each other that they are of this job.",
            "export TFDIST_SECRET=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \\n')",
            *(f"export TFDIST_{job.upper()}={count}" for job, count in self.roles if count),
            "",
            "# The time is nearly up: all save. A preemption's SIGTERM reaches tasks without us.",
            "is_late= again=",
            "trap 'is_late=1; kill -USR1 \"$steps\"' USR1",
            "trap : TERM",
            'if [ -n "$SLURM_CPUS_PER_TASK" ]; then',
            '    export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"  # srun no longer takes it over',
            "fi",
            f"srun --kill-on-bad-exit=0 sh -c {_TASK} task \\\n    {shlex.join(self.command)} &",
            "steps=$!",
            'while wait "$steps"; code=$?; kill -0 "$steps" 2>/dev/null; do :; done',
            'wait "$steps"; code=$? # the one before may be that of a signal',
            'case "$code" in',
            "0 | 75 | 130 | 134 | 137 | 139 | 143) ;; # well, lost or told to end, killed",
            "*) code=$((code & 127)) ;;",
            "esac",
        ]
        if self.requeue:
            lines += [
                f"# {EXIT_CODES[Preempted.exit_code]}",
                "# (Slurm requeues what it preempts, unless it has ended before.)",
                'case "$code$is_late" in',
                f"{Preempted.exit_code}1) again=1 ;;",
                f"{Preempted.exit_code} | 143*)",
                '    case "$(scontrol show job --oneliner "$SLURM_JOB_ID")" in',
                "    *JobState=RUNNING*PreemptTime=[0-9]*) again=1 ;;",
                "    esac ;;",
                "esac",
                'if [ -n "$again" ]; then',
                '    scontrol requeue "$SLURM_JOB_ID"',
                "fi",
            ]
        return "\n".join([*lines, 'exit "$code"', ""])


def seconds_of(time: str) -> int:
    """Reads a limit as Slurm writes it: M, M:S, H:M:S, D-H, D-H:M or D-H:M:S."""
    days, dash, rest = time.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash:
        hours, minutes, seconds = [*parts, 0, 0][:3]
    elif len(parts) == 3:
        hours, minutes, seconds = parts
    else:
        hours, (minutes, seconds) = 0, [*parts, 0][:2]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
