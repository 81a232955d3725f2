"""The command `tfdist plan`."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from tfdist import command_line
from tfdist.machine import capacities

__all__ = ["main", "plan_parser"]

_EXAMPLES = """\
example:
  tfdist plan --memory 16GB --figure plan.svg train.py
"""
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def main(given: Sequence[str]) -> int:
    """Runs the command.

    Args:
        given: what follows `tfdist plan`.

    Returns:
        0 once the plan is told; 1 where nothing fits.
    """
    parser = plan_parser()
    own, command = parser.split(given)
    options = parser.parse_args(own)
    parser.check_script(command)
    if options.workers < 2:
        parser.error(
            f"--workers {options.workers}; give 2 or more, up to which it is to be planned"
        )
    limit = options.memory or capacities.memory()
    if limit < 1:
        parser.error("this system does not tell how much memory there is; give --memory 16GB")

    from tfdist.planning.plan_figure import check_figure, draw_plan
    from tfdist.planning.plan_report import as_json, as_text
    from tfdist.planning.plan_runner import make_plan_of
    from tfdist.planning.recommendation import recommend

    if options.figure is not None:
        check_figure(options.figure)
    plan = make_plan_of(
        command, options.seconds, options.deadline, options.workers, limit, plug=options.plug
    )
    sys.stdout.write(as_json(plan) + "\n" if options.json else as_text(plan))
    if options.figure is not None:
        draw_plan(plan, options.figure)
    return 0 if recommend(plan).command else 1


def plan_parser() -> command_line.Parser:
    """Returns the parser of `tfdist plan`."""
    parser = command_line.Parser(
        prog="tfdist plan",
        usage="tfdist plan [options] (script.py | -m module) [its own arguments]",
        description="Run a script's first fit on one worker of this machine and on two, for a few "
        "seconds each,\nand end it; tell what memory a task takes, how long a step, and what to "
        "take.",
        examples=_EXAMPLES,
    )
    what = parser.add_argument_group("what is planned")
    parser.option(
        what,
        "--workers",
        "plan up to so many (16)",
        type=command_line.count,
        default=16,
        metavar="N",
        help="plan for 1 to so many workers (default: 16)",
    )
    parser.option(
        what,
        "--memory",
        "what a task may take, as 16GB (what is free here)",
        type=size,
        metavar="SIZE",
        help="what a task may take, as 16GB or 16GiB (default: what is free on this machine)",
    )
    parser.option(
        what, "--plug", True, action="store_true", help="plug every model, as tfdist run --plug"
    )
    parser.option(
        what,
        "--seconds",
        "how long each of the two jobs trains (5)",
        type=command_line.seconds,
        default=5.0,
        metavar="SECONDS",
        help="how long each of the two jobs trains (default: 5)",
    )
    parser.option(
        what,
        "--deadline",
        type=command_line.seconds,
        default=300.0,
        metavar="SECONDS",
        help="end a job whose fit has not begun by then (default: 300)",
    )
    parser.option(what, "--json", True, action="store_true", help="print the numbers as JSON")
    parser.option(
        what,
        "--figure",
        "draw it, too, into an .svg, .png or .pdf",
        type=Path,
        metavar="FILE",
        help="draw it, too: a file that ends in .svg, .png or .pdf",
    )
    return parser


def size(text: str) -> int:
    """Reads a number of bytes, as 16GB, 16GiB or 16000000000."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]i?)?B?", text)
    value = float(found[1]) * {**_UNITS, **_BINARY}[found[2] or ""] if found else 0.0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; give 16GB or 16GiB, say")
    return int(value)
