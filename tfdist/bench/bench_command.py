"""The command `tfdist bench`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tfdist import command_line

__all__ = ["bench_parser", "main"]

_EXAMPLES = """\
examples:
  tfdist bench --workers 1,2 train.py
      your own script, on one worker and on two
  tfdist bench --model cnn
      this machine, with a model that is built in
"""


def main(given: Sequence[str]) -> int:
    """Runs the command.

    Args:
        given: what follows `tfdist bench`.

    Returns:
        0 once the results are written.
    """
    parser = bench_parser()
    own, command = parser.split(given)
    options = parser.parse_args(own)
    if bool(options.model) == bool(command):
        parser.error("give a script of your own, or --model tiny, mlp, cnn or lstm")
    if command:
        parser.check_script(command)

    from tfdist.bench.other_ways import Hosts
    from tfdist.bench.runner import bench
    from tfdist.scaling.link import Link

    what = f"the built-in model {options.model}" if options.model else " ".join(command)
    chosen = ["-m", "tfdist.bench.builtin", options.model] if options.model else command
    hosts = Hosts(options.tasks_per_host, options.link and Link(*options.link))
    report = bench(chosen, what, options.workers, options.seconds, Path(options.output), hosts)
    sys.stdout.write(f"{report}\nwritten to {options.output}/: bench.json, bench.txt, bench.png\n")
    return 0


def bench_parser() -> command_line.Parser:
    """Returns the parser of `tfdist bench`."""
    parser = command_line.Parser(
        prog="tfdist bench",
        usage="tfdist bench [options] (--model NAME | script.py | -m module) [its own arguments]",
        description="Run a script's first fit on 1, 2, ... worker processes of this machine for a "
        "few seconds each;\nshow steps/s, examples/s, efficiency and where a step's time goes; "
        "measure the all-reduce, and\npredict from it the efficiency on 4 to 512 workers, by "
        "several ways to train, and which\noptions would pay.",
        examples=_EXAMPLES,
    )
    what = parser.add_argument_group("what is measured")
    parser.option(
        what,
        "--workers",
        "numbers of workers to measure (1,2)",
        type=command_line.counts,
        default=(1, 2),
        metavar="N,N",
        help="the numbers of workers to measure (default: 1,2)",
    )
    parser.option(
        what,
        "--model",
        True,
        choices=("tiny", "mlp", "cnn", "lstm"),
        help="a model that is built in",
    )
    parser.option(
        what,
        "--seconds",
        "how long each job trains (10)",
        type=command_line.seconds,
        default=10.0,
        metavar="SECONDS",
        help="how long each job trains (default: 10)",
    )
    more = parser.add_argument_group("the hosts that more workers would be on")
    parser.option(
        more,
        "--tasks_per_host",
        "tasks on each of many hosts (4)",
        type=command_line.count,
        default=4,
        metavar="K",
        help="tasks on each host (default: 4)",
    )
    parser.option(
        more,
        "--link",
        "the network between them: 125,0.1",
        type=command_line.link,
        metavar="MB/S,MS",
        help="the network between two hosts: megabytes a second, and milliseconds of latency, as "
        "in 125,0.1 (default: as measured here, which no wire makes faster)",
    )
    parser.option(
        what,
        "--output",
        "where the results go (tfdist_bench)",
        metavar="DIR",
        default="tfdist_bench",
        help="where the results go (default: tfdist_bench)",
    )
    return parser
