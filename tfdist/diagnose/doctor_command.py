"""The command `tfdist doctor`."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence

from tfdist import command_line

__all__ = ["doctor_parser", "main"]

_EXAMPLES = """\
examples:
  tfdist doctor
      this machine, and the job that TF_CONFIG, Slurm or the like tell of
  tfdist doctor spec.json
      what can be seen of that job from here
  tfdist doctor --task worker:1 spec.json
      on each host with its own task: the doctors meet, and the chief's says all
  srun tfdist doctor
      the same under Slurm
"""

_EPILOG = """\
exit codes:
    0  nothing that was found keeps the job from running
    1  something is bad: each such line says what to do
   64  the command line is wrong
"""


def main(given: Sequence[str]) -> int:
    """Runs the command.

    Args:
        given: What follows `tfdist doctor`.

    Returns:
        0 where nothing is bad, else 1.
    """
    parser = doctor_parser()
    options = parser.parse_args(given)
    if options.task is not None and options.spec is None:
        parser.error("--task without a spec; give the file with the addresses of all tasks")

    from tfdist.diagnose.doctor.examination import Examination
    from tfdist.diagnose.doctor.finding import LEVELS
    from tfdist.machine.signals import caught, exit_by

    examination = Examination(
        os.environ, options.spec, options.task, options.folder, options.wait, options.exchange
    )
    # SIGTERM ends it in order, as Ctrl-C does: nothing of an exchange is left.
    with caught(exit_by, [signal.SIGTERM]):
        report = examination.run()
    if options.json:
        sys.stdout.write(f"{json.dumps(report.to_json(), indent=2)}\n")
    else:
        sys.stdout.write(report.text(LEVELS[:-1] if options.quiet else LEVELS))
    return report.exit_code


def doctor_parser() -> command_line.Parser:
    """Returns the parser of `tfdist doctor`."""
    parser = command_line.Parser(
        prog="tfdist doctor",
        usage="tfdist doctor [options] [spec.json]",
        description="Tell what would keep a job from running, before anybody waits: names, ports, "
        "who reaches\nwhom, versions, clocks, cores, memory, the run folder, cards. Starts no "
        "TensorFlow.",
        examples=_EXAMPLES,
        epilog=_EPILOG,
    )
    parser.add_argument(
        "spec",
        nargs="?",
        help="a JSON file with the addresses of all tasks (default: what the environment tells)",
    )
    how = parser.add_argument_group("what is examined")
    parser.option(
        how,
        "--task",
        True,
        metavar="JOB:INDEX",
        help="the task that this machine runs",
    )
    parser.option(
        how,
        "--folder",
        "where checkpoints and logs go (.)",
        default=".",
        metavar="DIR",
        help="where checkpoints and logs go (default: the working directory)",
    )
    parser.option(
        how,
        "--wait",
        "how long the doctors wait for each other (20)",
        type=command_line.seconds,
        default=20.0,
        metavar="SECONDS",
        help="how long the doctors of all tasks wait for each other (default: 20)",
    )
    parser.option(
        how,
        "--exchange",
        "measure all-reduces, too (120)",
        type=command_line.seconds,
        nargs="?",
        const=120.0,
        metavar="SECONDS",
        help="measure all-reduces, too, with TensorFlow (default: 120, without a number)",
    )
    parser.option(
        how,
        "--quiet",
        True,
        action="store_true",
        help="leave out what is good",
    )
    parser.option(
        how,
        "--json",
        True,
        action="store_true",
        help="for programs: the keys stay",
    )
    return parser
