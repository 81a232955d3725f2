"""The command `tfdist chaos`."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tfdist import command_line
from tfdist.diagnose.chaos import Chaos
from tfdist.diagnose.fault_plan import FAULTS, draw_faults

__all__ = ["main"]

_EPILOG = (
    "faults:\n"
    + "\n".join(f"  {name:14} {what}" for name, what in FAULTS.items())
    + "\n\nThe job must train with tfdist.callbacks.Checkpoint, in a folder below its working "
    "directory,\nwhich is a new one in each run, and seed what it draws. It runs on this machine; "
    "cut\nnetworks and full disks are not among the faults."
)


def main(given: Sequence[str]) -> int:
    """Runs the command.

    Args:
        given: what follows `tfdist chaos`.

    Returns:
        0 where every round ended as it should, else 1.
    """
    parser = command_line.Parser(
        prog="tfdist chaos",
        usage="tfdist chaos [options] -- run [options of tfdist run] script.py ...",
        description="Run a job again and again, with one fault in each run; start it again until "
        "it ends well;\ncompare weights, optimizer and history with an undisturbed run, to the "
        "last bit.",
        epilog=_EPILOG,
    )
    parser.add_argument("--rounds", type=int, default=10, metavar="N", help="(default: 10)")
    parser.add_argument(
        "--seed", type=int, default=1, metavar="N", help="the same one draws the same faults"
    )
    parser.add_argument(
        "--faults", default=",".join(FAULTS), metavar="LIST", help="some of those below"
    )
    parser.add_argument(
        "--limit",
        type=command_line.seconds,
        default=300.0,
        metavar="SECONDS",
        help="for one run of the job (default: 300)",
    )
    parser.add_argument(
        "--counts",
        action="store_true",
        help="the same number of steps will do, as on parameter servers with several workers",
    )
    parser.add_argument("--folder", metavar="DIR", help="keep the runs here (default: a scratch)")
    words = list(given)
    own, job = (
        (words[: words.index("--")], words[words.index("--") + 1 :])
        if "--" in words
        else (
            words,
            [],
        )
    )
    options = parser.parse_args(own)
    if job[:1] != ["run"]:
        parser.error("give the job after --: tfdist chaos --rounds 5 -- run --workers 2 train.py")
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds}: give at least 1")
    kinds = [kind for kind in options.faults.split(",") if kind]
    draw_faults(1, 1, ["worker:0"], kinds)  # wrong names are told before anything runs
    with tempfile.TemporaryDirectory(prefix="tfdist-chaos-") as scratch:
        chaos = Chaos(
            job[1:],
            Path(options.folder or scratch),
            limit=options.limit,
            counts_will_do=options.counts,
            say=_say,
        )
        done = chaos.run(options.rounds, options.seed, kinds)
    bad = [one for one in done if not chaos.is_good(one)]
    struck = sum(one.struck for one in done)
    _say(f"\n{len(done) - len(bad)} of {len(done)} rounds ended as they should; {struck} struck")
    return 1 if bad else 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
