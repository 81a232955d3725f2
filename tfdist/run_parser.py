"""What `tfdist run` is given: its options, their help and their defaults."""

from __future__ import annotations

from tfdist import command_line, host_options, live_options
from tfdist.errors import EXIT_CODES

__all__ = ["EXAMPLES", "run_parser"]

EXAMPLES = """\
examples:
  tfdist run --workers 2 train.py --epochs 5
      two worker processes on this machine; what follows the script is the script's own
  tfdist run --workers 2 --ps 1 -m package.module
      a parameter-server job: a chief, two workers and one parameter server
  tfdist run --cluster spec.json --task worker:1 train.py
      this machine's task of a job that spans the machines of spec.json
  tfdist run --hosts a,b train.py
      a worker on each of two hosts, started over SSH
"""


def run_parser() -> command_line.Parser:
    """Returns the parser of `tfdist run`."""
    codes = "".join(f"  {code:>3}  {meaning}\n" for code, meaning in EXIT_CODES.items())
    parser = command_line.Parser(
        prog="tfdist run",
        usage="tfdist run [options] (script.py | -m package.module) [its own arguments...]",
        description="Start one process per task of a job, show their output together, and end "
        "them together.\nOptions may be spelt with dashes, too.",
        epilog=f"{EXAMPLES}\nexit codes: 128 + n where signal n ended a task; its own code where "
        f"a task failed; and\n{codes}",
    )
    here = parser.add_argument_group("a job on this machine")
    parser.option(
        here,
        "--workers",
        type=command_line.workers,
        metavar="N",
        help="how many workers (default: 1); MIN:MAX, as 1:4, goes on with those that there are, "
        "with --cluster and --task, too",
    )
    parser.option(
        here,
        "--ps",
        type=command_line.count,
        default=0,
        metavar="N",
        help="how many parameter servers; they bring a chief with them (default: 0)",
    )
    parser.option(here, "--chief", action="store_true", help="a chief beside the workers")
    parser.option(here, "--evaluator", action="store_true", help="an evaluator beside them all")
    file = parser.add_argument_group("a job from a file")
    parser.option(
        file, "--cluster", metavar="FILE", help="a JSON file with the addresses of all tasks"
    )
    parser.option(
        file,
        "--task",
        metavar="JOB:INDEX",
        help="run this task alone, in the foreground (default: the file's own task, else all "
        "tasks, if all have addresses of this machine)",
    )
    host_options.add_options(parser)
    how = parser.add_argument_group("how it runs")
    parser.option(
        how,
        "--plug",
        action="store_true",
        help="for a script that does not know tfdist: all tasks train its models together, in "
        "the scope of its own strategy or, where it has none for several machines, of the job's",
    )
    parser.option(
        how,
        "--plug_options",
        default="",
        metavar="NAME=VALUE,...",
        help="with --plug: what tfdist.plug takes, as gradient_dtype=bfloat16 or "
        "local_steps=4,outer_momentum=0.9",
    )
    parser.option(
        how,
        "--threads",
        type=command_line.threads,
        default="auto",
        metavar="N",
        help="threads of each chief and worker (default: auto, the cores shared out)",
    )
    parser.option(
        how,
        "--gpus_per_task",
        type=command_line.number,
        metavar="N",
        help="GPUs of each task that computes; 0: the CPU alone (default: those that there are, "
        "shared out)",
    )
    parser.option(
        how,
        "--gpu_memory",
        type=command_line.number,
        metavar="MIB",
        help="what a task may take of each of its GPUs (default: all, or as it needs it where "
        "tasks share one)",
    )
    parser.option(
        how,
        "--rendezvous_timeout",
        type=command_line.seconds,
        metavar="SECONDS",
        help="how long the tasks wait for each other at the start",
    )
    parser.option(
        how,
        "--stall_timeout",
        type=command_line.seconds,
        metavar="SECONDS",
        help="how long a task waits for one that does not answer (default: 60)",
    )
    parser.option(
        how,
        "--grace",
        type=command_line.seconds,
        default=5.0,
        metavar="SECONDS",
        help="from asking a task to end to killing it (default: 5)",
    )
    parser.option(
        how,
        "--max_restarts",
        type=command_line.restarts,
        metavar="N",
        help="how many times a failed worker of a parameter-server job is started again (default: "
        "3), or all tasks of a job, to resume from a checkpoint (default: 0)",
    )
    parser.option(
        how,
        "--isolate",
        choices=("auto", "on", "off"),
        default="auto",
        help="a network of its own for a job on this machine, which no other host reaches: on, "
        "without a way out; auto, where pasta or slirp4netns keeps one (default: auto)",
    )
    parser.option(
        how,
        "--secure",
        action="store_true",
        help="tasks are reached by TLS with the job's secret alone, through stunnel, on several "
        "hosts, too; they reach nothing else",
    )
    parser.option(
        how,
        "--settle",
        type=command_line.seconds,
        default=10.0,
        metavar="SECONDS",
        help="with --workers MIN:MAX: how long workers are waited for at the start, and when one "
        "that was lost, or has come, is taken in (default: 10)",
    )
    live_options.add_options(parser)
    parser.option(
        how,
        "--log_dir",
        metavar="DIR",
        help="where the logs go (default: a new folder in ./tfdist_logs)",
    )
    parser.option(
        how,
        "--dry_run",
        action="store_true",
        help="show each task's TF_CONFIG, environment and command, for a shell, and exit",
    )
    return parser
