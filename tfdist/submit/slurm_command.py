"""The command `tfdist submit slurm`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tfdist import command_line
from tfdist.submit.slurm_script import SlurmScript
from tfdist.submit.telling import say, write

__all__ = ["main", "slurm_parser"]

_EXAMPLES = """\
examples: the script runs under `tfdist run`; its options go behind `run`
  tfdist submit slurm --nodes 2 --time 1:00:00 train.py
  tfdist submit slurm --nodes 4 --time 90 run --threads 4 train.py --epochs 5
"""

_END_SECONDS = 10  # until a job that has saved is back in the queue

_EPILOG = """\
Before the time is up all tasks save (with a tfdist.callbacks.Checkpoint), and the job is requeued,
to go on where it was; so is one that Slurm preempts, where the partition says so."""


def main(given: Sequence[str], launcher: command_line.Parser) -> int:
    """Runs the command.

    Args:
        given: what follows `tfdist submit slurm`.
        launcher: reads the options of `tfdist run`.

    Returns:
        0, or the job's exit code where it was followed to its end.
    """
    parser = slurm_parser()
    own, command = parser.split(given)
    options = parser.parse_args(own)
    run = command[1:] if command[:1] == ["run"] else command
    parser.check_script(run, is_here=command[:1] != ["run"])
    script = SlurmScript(
        [options.python, "-m", "tfdist", "run", *_grace(launcher, run, options), *run],
        options.nodes,
        options.tasks_per_node,
        options.time,
        options.name,
        options.output,
        options.signal_before,
        options.requeue,
        (
            *([("ps", options.ps)] if options.ps else []),
            *([("chief", 1)] if options.chief else []),
            *([("evaluator", 1)] if options.evaluator else []),
        ),
        options.sbatch,
    )
    if options.dry_run:
        sys.stdout.write(script.text())
        return 0
    return _hand_in(script, options.detach)


def _grace(
    launcher: command_line.Parser, run: Sequence[str], options: argparse.Namespace
) -> list[str]:
    """The words for `--grace`; none where the line, or the file of its --config, gives it."""
    own, _ = launcher.split(run)
    if any(word.partition("=")[0] == "--grace" for word in own):
        return []
    # A launcher would else kill what saves long before the time is up.
    grace = options.signal_before - min(_END_SECONDS, options.signal_before // 2)
    return ["--grace", str(grace)]


def _hand_in(script: SlurmScript, detach: bool) -> int:
    from tfdist.submit import slurm_queue

    number = slurm_queue.submit(script.text())
    say(f"job {number} is in the queue")
    if detach:
        return 0
    try:
        job = slurm_queue.follow(number, write)
    except KeyboardInterrupt:
        say(f"job {number} goes on; `scancel {number}` ends it")
        return 130
    times = f", started again {job.restarts} times" if job.restarts else ""
    say(f"job {number} has ended: {job.state}, exit code {job.code}{times}")
    return job.code or int(job.state != "COMPLETED")


def slurm_parser() -> command_line.Parser:
    """Returns the parser of `tfdist submit slurm`."""
    parser = command_line.Parser(
        prog="tfdist submit slurm",
        usage="tfdist submit slurm [options] (script.py | -m module) ...",
        description="Write a batch script, hand it in to Slurm, and show what its job prints until "
        "it ends.",
        examples=_EXAMPLES,
        epilog=_EPILOG,
    )
    asks = parser.add_argument_group("what the job asks for")
    number = {"type": _positive, "metavar": "N"}
    parser.option(asks, "--nodes", "how many (1)", default=1, help="(default: 1)", **number)
    parser.option(
        asks, "--tasks_per_node", "how many on each (1)", default=1, help="(default: 1)", **number
    )
    parser.option(
        asks,
        "--time",
        True,
        default="",
        metavar="TIME",
        help="minutes, H:M:S, or D-H:M:S (no default)",
    )
    parser.option(
        asks,
        "--sbatch",
        "one more option of sbatch, as --sbatch=--partition=long",
        action="append",
        default=[],
        metavar="OPTION",
        help="one more option of sbatch, as --sbatch=--partition=long; may be repeated",
    )
    parser.option(
        asks,
        "--name",
        "of the job (tfdist)",
        default="tfdist",
        metavar="NAME",
        help="(default: tfdist)",
    )
    parser.option(
        asks, "--output", default="slurm-%j.out", metavar="FILE", help="(default: slurm-%%j.out)"
    )
    roles = parser.add_argument_group("which tasks are no workers")
    parser.option(
        roles,
        "--ps",
        "the last N tasks are parameter servers (0)",
        type=command_line.count,
        default=0,
        metavar="N",
        help="the last N",
    )
    parser.option(roles, "--chief", action="store_true", help="the first")
    parser.option(roles, "--evaluator", action="store_true", help="the last one")
    how = parser.add_argument_group("how it ends, and goes on")
    parser.option(
        how,
        "--signal_before",
        type=_positive,
        default=120,
        metavar="SECONDS",
        help="when all save, before the time is up (default: 120)",
    )
    parser.option(
        how, "--no_requeue", dest="requeue", action="store_false", help="do not start it again"
    )
    parser.option(how, "--detach", True, action="store_true", help="do not wait for its end")
    parser.option(
        how, "--dry_run", True, action="store_true", help="show the batch script, and exit"
    )
    parser.option(
        how, "--python", default=sys.executable, metavar="PATH", help="(default: this Python)"
    )
    return parser


def _positive(text: str) -> int:
    value = command_line.count(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}; give 1 or more")
    return value
