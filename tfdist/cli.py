"""The command `tfdist`: a thin reading of arguments; the other rooms do the work.

They are imported when their command runs: `tfdist --help` takes as long as Python and argparse do.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tfdist import command_line, host_options
from tfdist.errors import EXIT_CODES, TfdistError

if TYPE_CHECKING:
    from tfdist.cluster import Cluster, Task

__all__ = ["main"]

_EXAMPLES = """\
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
_COUNTS = ("workers", "ps", "chief", "evaluator")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: What follows `tfdist` on the command line; None for this process's own.

    Returns:
        The exit code, one of `tfdist.errors.EXIT_CODES` or a failing task's own.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if given and given[0] in _COMMANDS:
            return _COMMANDS[given[0]](given[1:])
        return _top(given)
    except TfdistError as error:
        print(f"tfdist: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def _top(given: list[str]) -> int:
    """`tfdist` without a command: help, version or an error."""
    parser = command_line.Parser(
        prog="tfdist",
        usage="tfdist [--help | --version] COMMAND ...",
        description="Train Keras 3 models on many machines with TensorFlow.",
        epilog="commands:\n"
        "  run        start one process per task of a job, watch them, end them together\n"
        "  submit     hand a job in to Slurm or Kubernetes, and follow it\n"
        "  bench      measure a script on 1, 2, ... workers, and predict it on more\n"
        "  chaos      run a job with a fault in each run, and compare how it ends\n"
        "  doctor     tell what would keep a job from running, before anybody waits\n\n"
        "`tfdist COMMAND --help` tells more about a command.",
    )
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    if given and not given[0].startswith("-"):
        parser.error(f"unknown command {given[0]!r}; the commands are {', '.join(_COMMANDS)}")
    if parser.parse_args(given).version:
        from tfdist.version import __version__

        print(f"tfdist {__version__}")
    else:
        parser.print_help()
    return 0


def _run(given: list[str]) -> int:
    """`tfdist run`."""
    parser = _run_parser()
    own, command = parser.split(given)
    options = parser.parse_args(own)
    _check_combination(parser, options, command)

    from tfdist.launch import GpuSupply, Job, ThisMachine, check_jobs, held_ports, make_plan
    from tfdist.launch.crew.crew_options import CrewOptions

    make = functools.partial(
        make_plan,
        command,
        plug=options.plug or bool(options.plug_options),
        plug_options=options.plug_options,
        threads=options.threads,
        rendezvous_timeout=options.rendezvous_timeout,
        stall_timeout=options.stall_timeout,
    )
    crew = CrewOptions(
        None if isinstance(options.workers, int) else options.workers,
        options.max_restarts,
        options.settle,
        options.crew_port,
        options.rendezvous_timeout,
    )

    def check(cluster: Cluster) -> None:
        check_jobs(cluster)
        _check_plug_options(options.plug_options, cluster)

    if options.hosts is not None:
        from tfdist.launch.hosts.hosts_command import run_on_hosts

        _check_alone(options)
        return run_on_hosts(options, command, make, check, crew)
    if options.rendezvous is not None:
        from tfdist.launch.nodes.nodes_command import run_as_node

        return run_as_node(options, command, make, check, crew)
    with contextlib.ExitStack() as stack:
        cluster, tasks, alone = _tasks_here(options, stack)
        check(cluster)
        supply = GpuSupply.here(os.environ, options.gpus_per_task, options.gpu_memory)
        make = functools.partial(make, gpus=supply)
        plan = make(cluster, tasks=tasks)
        if options.dry_run:
            print(plan.shell(), end="")
            return 0
        if options.cluster is not None or alone:
            stack.enter_context(held_ports(cluster, tasks))
        how = {
            "log_dir": options.log_dir,
            "grace": options.grace,
            "prefix": not alone,
            "ground": ThisMachine(options.isolate),
        }
        if not crew.are_needed(cluster, tasks):
            return Job(plan, max_restarts=options.max_restarts, **how).run().returncode
        return crew.job(cluster, tasks, lambda at, own: make(at, tasks=own), **how).run().returncode


def _check_plug_options(text: str, cluster: Cluster) -> None:
    """Refuses options of plug that there are not, or that mean nothing in this job."""
    if not text:
        return
    from tfdist.errors import ClusterError, PlugError
    from tfdist.training.plug_options import TrainingOptions, keywords_from

    try:
        options = TrainingOptions.from_keywords(keywords_from(text))
        options.check_for("parameter_server" if "ps" in cluster.jobs else "synchronous")
    except PlugError as error:
        raise ClusterError(f"--plug_options: {error}; see tfdist run --help") from None


def _tasks_here(
    options: argparse.Namespace, stack: contextlib.ExitStack
) -> tuple[Cluster, tuple[Task, ...], bool]:
    """Finds the cluster and the tasks that this machine runs, and whether it is one of several."""
    from tfdist.cluster import Cluster, Task
    from tfdist.launch import check_all_here, local_cluster

    cluster: Cluster | None
    if options.cluster is not None:
        cluster = Cluster.from_file(options.cluster)
        if options.task is not None:
            cluster = cluster.with_task(options.task)
        if cluster.task is None:
            check_all_here(cluster)
    elif any(getattr(options, name) for name in _COUNTS) or options.workers == 0:
        _check_alone(options)
        cluster = None
    else:
        from tfdist.environments import detect_cluster

        cluster = detect_cluster(os.environ)  # a platform has said it already
    if cluster is None:
        workers = (
            1 if options.workers is None else getattr(options.workers, "most", options.workers)
        )
        # An evaluator of a parameter-server job works beside the cluster, not in it.
        beside = (Task("evaluator", 0),) if options.ps and options.evaluator else ()
        inside = options.evaluator and not beside
        cluster = stack.enter_context(local_cluster(workers, options.ps, options.chief, inside))
        return cluster, cluster.tasks + beside, False
    if cluster.task is None:
        return cluster, cluster.tasks, False
    return cluster, (cluster.task,), True


def _check_alone(options: argparse.Namespace) -> None:
    """Refuses several launchers that would start the same job each."""
    from tfdist.environments import scheduler_of
    from tfdist.errors import ClusterError

    if scheduler := scheduler_of(os.environ):
        given = " ".join(f"--{name}" for name in ("hosts", *_COUNTS) if getattr(options, name))
        raise ClusterError(
            f"{given} starts a job of its own, but {scheduler.name} has started several of these "
            f"launchers: leave {given} out, and each starts its task of one job; or set "
            "TFDIST_ENVIRONMENT=alone for a job each"
        )


def _check_combination(
    parser: command_line.Parser, options: argparse.Namespace, command: Sequence[str]
) -> None:
    """Refuses options that do not go together, and a script that is not there."""
    for name in _COUNTS:
        given = getattr(options, name)
        if options.cluster is not None and isinstance(given, int) and given:
            parser.error(
                f"--{name} with --cluster, whose file says which tasks there are; give one of them"
            )
    if options.task is not None and options.cluster is None:
        parser.error("--task without --cluster; give the file with the addresses of all tasks")
    host_options.check_options(parser, options)
    parser.check_script(command, is_here=not options.dry_run)


def _run_parser() -> command_line.Parser:
    codes = "".join(f"  {code:>3}  {meaning}\n" for code, meaning in EXIT_CODES.items())
    parser = command_line.Parser(
        prog="tfdist run",
        usage="tfdist run [options] (script.py | -m package.module) [its own arguments...]",
        description="Start one process per task of a job, show their output together, and end "
        "them together.\nOptions may be spelt with dashes, too.",
        epilog=f"{_EXAMPLES}\nexit codes: 128 + n where signal n ended a task; its own code where "
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
        "--settle",
        type=command_line.seconds,
        default=10.0,
        metavar="SECONDS",
        help="with --workers MIN:MAX: how long workers are waited for at the start, and when one "
        "that was lost, or has come, is taken in (default: 10)",
    )
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


def _bench(given: list[str]) -> int:
    """`tfdist bench`."""
    from tfdist.bench import bench_command

    return bench_command.main(given)


def _chaos(given: list[str]) -> int:
    """`tfdist chaos`."""
    from tfdist.diagnose import chaos_command

    return chaos_command.main(given, _run_parser())


def _doctor(given: list[str]) -> int:
    """`tfdist doctor`."""
    from tfdist.diagnose import doctor_command

    return doctor_command.main(given)


def _submit(given: list[str]) -> int:
    """`tfdist submit`."""
    from tfdist.submit import submit_command

    return submit_command.main(given, _run_parser())


_COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "run": _run,
    "submit": _submit,
    "bench": _bench,
    "chaos": _chaos,
    "doctor": _doctor,
}
