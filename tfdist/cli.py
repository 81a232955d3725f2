"""The command `tfdist`: a thin reading of arguments; the other rooms do the work.

They are imported when their command runs: `tfdist --help` takes as long as Python and argparse do.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from tfdist import command_line, help_text, host_options
from tfdist.errors import INTERNAL_FAULT, ClusterError, TfdistError
from tfdist.machine import standard_streams
from tfdist.run_parser import RunParser, run_parser

if TYPE_CHECKING:
    from tfdist.cluster import Cluster, Task

__all__ = ["COMMANDS", "main"]

_COUNTS = ("workers", "ps", "chief", "evaluator")

_EXAMPLES = """\
example:
  tfdist run --workers 2 train.py --epochs 5

`tfdist COMMAND --help` tells more about a command."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: What follows `tfdist` on the command line; None for this process's own.

    Returns:
        The exit code, one of `tfdist.errors.EXIT_CODES` or a failing task's own.
    """
    standard_streams.open_closed()
    given = list(sys.argv[1:] if arguments is None else arguments)
    command_line.tracebacks.wanted = given[:1] == ["--debug"]
    try:
        return _answer(given[command_line.tracebacks.wanted :])
    except TfdistError as error:
        return _tell(str(error), error.exit_code)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # as `tfdist doctor | head -n 1` has it
        return 128 + 13
    except (OSError, MemoryError) as error:
        return _tell(f"{_in_words(error)}; `tfdist --debug ...` shows where", 1)
    except Exception as error:
        return _tell(
            f"a fault of tfdist itself: {_in_words(error)}; `tfdist --debug ...` shows where, and "
            "`tfdist version --json` what a report of it needs",
            INTERNAL_FAULT,
        )
    finally:
        standard_streams.flush()


def _answer(given: list[str]) -> int:
    if given and given[0] in COMMANDS:
        return COMMANDS[given[0]].run(given[1:])
    return _top(given)


def _tell(message: str, code: int) -> int:
    """Shows one line of an error, below its traceback where that is wanted."""
    with contextlib.suppress(OSError):  # its reader has gone
        if command_line.tracebacks.wanted:
            traceback.print_exc()
        print(f"tfdist: {message}", file=sys.stderr)
    return code


def _in_words(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, OSError):
        return text or type(error).__name__
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _top(given: list[str]) -> int:
    """`tfdist` without a command: help, version or an error."""
    rows = [(name, command.what) for name, command in COMMANDS.items()]
    parser = command_line.Parser(
        prog="tfdist",
        usage="tfdist [--version | --debug] COMMAND ...",
        description="Train Keras 3 models on many machines with TensorFlow.",
        examples=f"commands:\n{help_text.table(rows, help_text.width())}\n\n{_EXAMPLES}",
    )
    parser.option(
        parser.general,
        "--version",
        True,
        action="store_true",
        help="show the version and exit",
    )
    if given and not given[0].startswith("-"):
        from tfdist.cluster.task import nearest

        parser.error(
            f"unknown command {given[0]!r}{nearest(given[0], COMMANDS)}; the commands are "
            f"{', '.join(COMMANDS)}"
        )
    if parser.parse_args(given).version:
        from tfdist.version import __version__

        print(f"tfdist {__version__}")
    else:
        parser.print_help()
    return 0


def _run(given: list[str]) -> int:
    """`tfdist run`."""
    parser = run_parser()
    try:
        return _run_job(parser, given)
    except ClusterError as error:
        error.args = (parser.with_origins(str(error)),)
        raise


def _run_job(parser: RunParser, given: list[str]) -> int:
    own, command = parser.split(given)
    options = parser.parse_args(own)
    if options.plug_options and not options.plug and "--no_plug" in own:
        parser.error("--no_plug with --plug_options, which are for --plug; leave one of them out")
    _check_combination(parser, options, command)
    if note := parser.behind_the_script(own, command):
        print(f"[tfdist] {note}", file=sys.stderr)
    if options.print_config:
        from tfdist.told_options import told_options

        print(told_options(parser, own, command), end="")
        return 0

    from tfdist.cluster.crew_size import Size
    from tfdist.launch import GpuSupply, ThisMachine, check_jobs, held_ports, make_plan
    from tfdist.launch.crew.crew_options import CrewOptions
    from tfdist.launch.crew.strength import Strength
    from tfdist.launch.live.chosen_view import live_view
    from tfdist.launch.secure import SecureMachine

    make = functools.partial(
        make_plan,
        command,
        plug=options.plug or bool(options.plug_options),
        plug_options=options.plug_options,
        threads=options.threads,
        rendezvous_timeout=options.rendezvous_timeout,
        stall_timeout=options.stall_timeout,
    )
    counts = {"worker": options.workers, "ps": options.ps}
    crew = CrewOptions(
        {job: size for job, size in counts.items() if isinstance(size, Size)},
        options.max_restarts,
        options.settle,
        options.crew_port,
        options.rendezvous_timeout,
    )

    def check(cluster: Cluster) -> None:
        check_jobs(cluster)
        Strength(cluster, crew.ranges)  # refuses ranges that do not fit
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
            print(host_options.NOT_SECURE * options.secure + plan.shell(), end="")
            return 0
        if options.cluster is not None or alone:
            stack.enter_context(held_ports(cluster, tasks))
        how = {
            "log_dir": options.log_dir,
            "grace": options.grace,
            "prefix": not alone,
            "ground": SecureMachine() if options.secure else ThisMachine(options.isolate),
            "live": live_view(options, cluster, tasks, prefix=not alone),
        }
        job = crew.job(plan, cluster, tasks, lambda at, own: make(at, tasks=own), **how)
        return job.run().returncode


def _check_plug_options(text: str, cluster: Cluster) -> None:
    """Refuses options of plug that there are not, or that mean nothing in this job."""
    if not text:
        return
    from tfdist.errors import PlugError
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
    from tfdist.cluster.crew_size import most_of
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
        workers, ps = most_of(options.workers), most_of(options.ps)
        # An evaluator of a parameter-server job works beside the cluster, not in it.
        beside = (Task("evaluator", 0),) if ps and options.evaluator else ()
        inside = options.evaluator and not beside
        cluster = stack.enter_context(local_cluster(workers, ps, options.chief, inside))
        return cluster, cluster.tasks + beside, False
    if cluster.task is None:
        return cluster, cluster.tasks, False
    return cluster, (cluster.task,), True


def _check_alone(options: argparse.Namespace) -> None:
    """Refuses several launchers that would start the same job each."""
    from tfdist.environments import scheduler_of

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
    if options.secure and options.isolate != "auto":
        parser.error("--isolate with --secure, whose tasks have a network of their own; give one")
    host_options.check_options(parser, options)
    parser.check_script(command, is_here=not (options.dry_run or options.print_config))


def _its_own(module: str) -> Callable[[list[str]], int]:
    """Returns what runs a command that stands in a module of its own, imported then."""

    def run(given: list[str]) -> int:
        code: int = importlib.import_module(module).main(given)
        return code

    return run


def _plan(given: list[str]) -> int:
    """`tfdist plan`."""
    from tfdist.planning import plan_command

    return plan_command.main(given)


def _chaos(given: list[str]) -> int:
    """`tfdist chaos`."""
    from tfdist.diagnose import chaos_command

    return chaos_command.main(given, run_parser())


def _submit(given: list[str]) -> int:
    """`tfdist submit`."""
    from tfdist.submit import submit_command

    return submit_command.main(given, run_parser())


def _completion(given: list[str]) -> int:
    """`tfdist completion`."""
    from tfdist import completion_command

    return completion_command.main(
        given, {name: (command.what, command.parsers) for name, command in COMMANDS.items()}
    )


class Command(NamedTuple):  # `dataclasses` takes longer to import than all of this
    """A command of `tfdist`.

    Attributes:
        what: what it does, in a line of the help.
        run: what is given its arguments, and returns its exit code.
        parsers: where its parsers are made, as "module:function", by the subcommand's name; "" is
            the command's own.
    """

    what: str
    run: Callable[[list[str]], int]
    parsers: Mapping[str, str]


COMMANDS: dict[str, Command] = {
    "run": Command(
        "start one process per task of a job, watch them, end them together",
        _run,
        {"": "tfdist.run_parser:run_parser"},
    ),
    "submit": Command(
        "hand a job in to Slurm or Kubernetes, and follow it",
        _submit,
        {
            "slurm": "tfdist.submit.slurm_command:slurm_parser",
            "kubernetes": "tfdist.submit.kubernetes_command:kubernetes_parser",
        },
    ),
    "plan": Command(
        "tell what a script would need and gain on more workers",
        _plan,
        {"": "tfdist.planning.plan_command:plan_parser"},
    ),
    "bench": Command(
        "measure a script on 1, 2, ... workers, and predict it on more",
        _its_own("tfdist.bench.bench_command"),
        {"": "tfdist.bench.bench_command:bench_parser"},
    ),
    "chaos": Command(
        "run a job with a fault in each run, and compare how it ends",
        _chaos,
        {"": "tfdist.diagnose.chaos_command:chaos_parser"},
    ),
    "doctor": Command(
        "tell what would keep a job from running, before anybody waits",
        _its_own("tfdist.diagnose.doctor_command"),
        {"": "tfdist.diagnose.doctor_command:doctor_parser"},
    ),
    "verify": Command(
        "tell whether a script trains on N workers as in one process",
        _its_own("tfdist.diagnose.verify.verify_command"),
        {"": "tfdist.diagnose.verify.verify_command:verify_parser"},
    ),
    "version": Command(
        "tell which tfdist this is; with --json, all that a report needs",
        _its_own("tfdist.diagnose.version_command"),
        {"": "tfdist.diagnose.version_command:version_parser"},
    ),
    "completion": Command(
        "show what has bash, zsh or fish complete commands and options",
        _completion,
        {"": "tfdist.completion_command:completion_parser"},
    ),
}
