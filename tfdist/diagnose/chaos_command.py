"""The command `tfdist chaos`."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tfdist import command_line
from tfdist.diagnose.chaos import Chaos
from tfdist.diagnose.disturbed_job import DisturbedJob, spread
from tfdist.diagnose.fault_plan import FAULTS, OVER_HOSTS, draw_faults
from tfdist.diagnose.namespace_hosts import Hosts, reason_against, remove_abandoned
from tfdist.diagnose.round import Round
from tfdist.diagnose.small_disk import no_small_disk
from tfdist.errors import LaunchError
from tfdist.machine.signals import caught, exit_by

__all__ = ["chaos_parser", "main"]

_EXAMPLES = """\
examples:
  tfdist chaos --rounds 5 -- run --workers 2 train.py
      the job must train with tfdist.callbacks.Checkpoint, and seed what it draws
"""

_EPILOG = (
    "faults:\n"
    + "\n".join(f"  {name:14} {what}" for name, what in FAULTS.items())
    + "\n\nEach strikes at start-up, tracing, mid-step, mid-save, validation and the last step, in "
    "turn.\nThe job must train with tfdist.callbacks.Checkpoint, in a folder below its working "
    "directory,\nwhich is a new one in each run, and seed what it draws. It needs Linux. Without "
    "root it runs on\nthis machine alone (--hosts and the cuts need root), and disk-full needs "
    "user\nnamespaces for everybody."
)


def main(given: Sequence[str], run: command_line.Parser) -> int:
    """Runs the command.

    Args:
        given: what follows `tfdist chaos`.
        run: reads the options of `tfdist run`.

    Returns:
        0 where every round ended as it should, else 1.
    """
    parser = chaos_parser()
    words = list(given)
    cut = words.index("--") if "--" in words else len(words)
    options, job = parser.parse_args(words[:cut]), words[cut + 1 :]
    if job[:1] != ["run"]:
        parser.error("give the job after --: tfdist chaos --rounds 5 -- run --workers 2 train.py")
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds}: give at least 1")
    own, command = run.split(job[1:])
    if not command or command == ["-m"]:
        parser.error("no script; give script.py or -m package.module after the options of run")
    tasks: list[str] = []
    if options.hosts is not None:
        tasks, own = spread(run, own, options.hosts)
    kinds = _kinds(parser, options)
    # SIGTERM ends it in order, as Ctrl-C does: nothing of a job is left.
    with caught(exit_by, [signal.SIGTERM]), contextlib.ExitStack() as stack:
        folder = options.folder or stack.enter_context(
            tempfile.TemporaryDirectory(prefix="tfdist-chaos-")
        )
        hosts = None
        if options.hosts is not None:
            remove_abandoned()
            hosts = stack.enter_context(Hosts(options.hosts))
        chaos = Chaos(
            DisturbedJob(tuple(_found(own)), tuple(_found(command)), hosts, tuple(tasks)),
            Path(folder),
            limit=options.limit,
            counts_will_do=options.counts,
            say=_say,
        )
        done = chaos.run(options.rounds, options.seed, kinds)
        good = [chaos.is_good(one) for one in done]
    left = 0 if hosts is None else hosts.left
    return _conclude(done, good, left)


def _conclude(done: Sequence[Round], good: Sequence[bool], left: int) -> int:
    struck = sum(bool(one.struck) for one in done)
    _say(f"\n{sum(good)} of {len(done)} rounds ended as they should; {struck} struck")
    if left:
        _say(f"{left} network namespaces are left over")
    return 0 if all(good) and not left else 1


def _kinds(parser: command_line.Parser, options: argparse.Namespace) -> list[str]:
    """The faults that can be, of those that were asked for; the others are told."""
    asked = [kind for kind in (options.faults or ",".join(FAULTS)).split(",") if kind]
    draw_faults(1, 1, ["worker:0"], asked)  # wrong names are told before anything runs
    over_hosts = [kind for kind in asked if kind in OVER_HOSTS]
    if options.hosts is None and over_hosts and options.faults:
        parser.error(f"{', '.join(over_hosts)} without --hosts; give --hosts 2 or more")
    if options.hosts is not None and (why := reason_against()):
        raise LaunchError(
            f"--hosts: {why}; without --hosts the job runs on this machine, with all faults but "
            f"{' and '.join(OVER_HOSTS)}"
        )
    kinds = [kind for kind in asked if options.hosts is not None or kind not in OVER_HOSTS]
    if len(kinds) < len(asked):
        _say(f"{' and '.join(over_hosts)} are left out: they need --hosts")
    if "disk-full" in kinds and (why := no_small_disk()):
        if options.faults:
            raise LaunchError(f"disk-full: {why}")
        _say(f"disk-full is left out: {why}")
        kinds.remove("disk-full")
    return kinds


def chaos_parser() -> command_line.Parser:
    """Returns the parser of `tfdist chaos`."""
    parser = command_line.Parser(
        prog="tfdist chaos",
        usage="tfdist chaos [options] -- run [options of tfdist run] script.py ...",
        description="Run a job again and again, with one fault in each run; start it again until "
        "it ends well;\ncompare weights, optimizer and history with an undisturbed run, to the "
        "last bit.",
        examples=_EXAMPLES,
        epilog=_EPILOG,
    )
    how = parser.add_argument_group("how it is disturbed")
    parser.option(
        how,
        "--rounds",
        "runs with a fault each (10)",
        type=int,
        default=10,
        metavar="N",
        help="runs with a fault each (default: 10)",
    )
    parser.option(
        how,
        "--seed",
        "the same one draws the same faults (1)",
        type=int,
        default=1,
        metavar="N",
        help="the same one draws the same faults (default: 1)",
    )
    parser.option(
        how,
        "--faults",
        "some of those that --help_all lists",
        metavar="LIST",
        help="some of those below (default: all that can be here)",
    )
    parser.option(
        how,
        "--hosts",
        "spread the job over so many hosts, made as root",
        type=command_line.count,
        metavar="N",
        help="make so many hosts (network namespaces, as root), and spread the job's tasks over "
        "them, each with a launcher of its own, which is started again where it fails",
    )
    parser.option(
        how,
        "--limit",
        "for one run of the job (300)",
        type=command_line.seconds,
        default=300.0,
        metavar="SECONDS",
        help="for one run of the job (default: 300)",
    )
    parser.option(
        how,
        "--counts",
        "the same epochs and updates will do",
        action="store_true",
        help="the same epochs and updates will do, as on parameter servers with several workers",
    )
    parser.option(
        how,
        "--folder",
        "keep the runs here",
        metavar="DIR",
        help="keep the runs here (default: a scratch)",
    )
    return parser


def _found(words: Sequence[str]) -> list[str]:
    """Words with paths that are found from another working directory."""
    return [str(Path(word).resolve()) if Path(word).is_file() else word for word in words]


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
