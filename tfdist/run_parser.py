"""What `tfdist run` is given: its options, their help and their defaults."""

from __future__ import annotations

import argparse
import itertools
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tfdist import command_line, host_options, live_options
from tfdist.errors import EXIT_CODES
from tfdist.machine.signals import DEFAULT_GRACE

if TYPE_CHECKING:
    from tfdist.job_file import JobFile

__all__ = ["EXAMPLES", "RunParser", "run_parser"]

EXAMPLES = """\
examples:
  tfdist run --workers 2 train.py --epochs 5
      two workers on this machine; what follows the script is its own
  tfdist run --hosts a,b train.py
      a worker on each of two hosts, started over SSH
  tfdist run --config job.toml
      all of it from a file; --print_config shows one
"""

_MORE_EXAMPLES = """\
  tfdist run --workers 2 --ps 1 -m package.module
      a parameter-server job: a chief, two workers and one parameter server
  tfdist run --cluster spec.json --task worker:1 train.py
      this machine's task of a job that spans the machines of spec.json
"""


_SAYS_WHICH_JOB = frozenset({"--workers", "--ps", "--cluster", "--hosts", "--rendezvous", "--plug"})
_NOT_IN_A_FILE = ("config", "print_config", "help_all", "debug")


class RunParser(command_line.Parser):
    """What reads the command line of `tfdist run`, and the file that it names.

    Attributes:
        file: what --config has named; None before `split`, and without it.
    """

    file: JobFile | None = None
    _own: frozenset[str] | set[str] = frozenset()

    def option(
        self,
        group: argparse._ActionsContainer,
        name: str,
        brief: str | bool = "",
        **settings: Any,
    ) -> None:
        """Adds an option; a flag can be taken back by --no_flag, as where a file has set it."""
        super().option(group, name, brief, **settings)
        if settings.get("action") == "store_true":
            dest = self.actions[name].dest
            back = f"--no_{dest}"
            group.add_argument(back, dest=dest, action="store_false", help=argparse.SUPPRESS)
            self.takes_value[back] = False

    def split(self, given: Sequence[str]) -> tuple[list[str], list[str]]:
        """Cuts a command line; a file's words stand before it, so that the line's own count.

        Args:
            given: The arguments, options spelt with dashes or underscores.

        Returns:
            The launcher's own arguments, and the script's command, that of the file where the line
            has none.

        Raises:
            ClusterError: The line or the file is wrong.
        """
        own, command = super().split(given)
        own, path = self._without_config(own)
        self.file = None
        if path is None:
            return own, command
        from tfdist.job_file import JobFile

        kinds = {
            name[2:]: self.takes_value[name]
            for name in self.actions
            if name[2:] not in _NOT_IN_A_FILE
        }
        self._own = {word.partition("=")[0].removeprefix("--") for word in own}
        self.file = JobFile.read(path, kinds)
        return [*self.file.words, *own], command or list(self.file.command)

    def _without_config(self, own: list[str]) -> tuple[list[str], str | None]:
        left: list[str] = []
        paths: list[str] = []
        words = iter(own)
        for word in words:
            name, equals, value = word.partition("=")
            if name == "--config":
                path = value if equals else next(words, None)
                if not path:
                    self.error("argument --config: expected one argument")
                paths.append(path)
            else:
                left.append(word)
                if self.takes_value[name] and not equals:
                    left += [value for value in [next(words, None)] if value is not None]
        if len(paths) > 1:
            self.error(f"--config {' and '.join(paths)}; give one file")
        return left, paths[0] if paths else None

    def behind_the_script(self, own: Sequence[str], command: Sequence[str]) -> str:
        """What is to be said of options that stand behind the script, where they are its own.

        Args:
            own: The launcher's own arguments, as `split` gives them.
            command: The script's.

        Returns:
            A line; "" where nothing looks like an option of the launcher that it was not given.
        """
        given = {word.partition("=")[0] for word in own}
        if given.intersection(_SAYS_WHICH_JOB) or "TF_CONFIG" in os.environ:
            return ""
        script, *its_own = command[1:] if command[0] == "-m" else command
        for word in itertools.takewhile(lambda word: word != "--", its_own):
            name = word.partition("=")[0]
            if name.replace("-", "_").replace("__", "--", 1) in _SAYS_WHICH_JOB:
                return (
                    f"{name} stands behind {script}, which gets it: options of tfdist run "
                    "stand before the script"
                )
        return ""

    def with_origins(self, message: str) -> str:
        """Returns a message that tells which of its options the file has given.

        Args:
            message: it names options, as --workers.
        """
        if self.file is None:
            return message
        for name in dict.fromkeys(re.findall(r"--(\w+)", message)):
            if name in self._own:
                continue
            if name in self.file.options or name in self.file.flags:
                message += f"; {self.file.shown(name)}"
        return message


def run_parser() -> RunParser:
    """Returns the parser of `tfdist run`."""
    codes = "".join(f"  {code:>3}  {meaning}\n" for code, meaning in EXIT_CODES.items())
    parser = RunParser(
        prog="tfdist run",
        usage="tfdist run [options] (script.py | -m module) [its own arguments...]",
        description="Start a process for each task of a job, show their output, end them together.",
        examples=EXAMPLES,
        epilog=f"{_MORE_EXAMPLES}\nOptions may be spelt with dashes, too.\n\nexit codes: 128 + n "
        f"where signal n ended a task; its own code where a task failed; and\n{codes}",
    )
    here = parser.add_argument_group("a job on this machine")
    parser.option(
        here,
        "--workers",
        "how many workers (1); MIN:MAX goes on with those there are",
        type=command_line.workers,
        metavar="N",
        help="how many workers (default: 1); MIN:MAX, as 1:4, goes on with those that there are, "
        "with --cluster and --task, too",
    )
    parser.option(
        here,
        "--ps",
        "how many parameter servers (0); they bring a chief; MIN:MAX",
        type=command_line.servers,
        default=0,
        metavar="N",
        help="how many parameter servers; they bring a chief with them (default: 0); MIN:MAX as "
        "for the workers",
    )
    parser.option(here, "--chief", action="store_true", help="a chief beside the workers")
    parser.option(here, "--evaluator", action="store_true", help="an evaluator beside them all")
    file = parser.add_argument_group("a job from a file")
    parser.option(
        file,
        "--cluster",
        True,
        metavar="FILE",
        help="a JSON file with the addresses of all tasks",
    )
    parser.option(
        file,
        "--task",
        metavar="JOB:INDEX",
        help="run this task alone, in the foreground (default: the file's own task, else all "
        "tasks, if all have addresses of this machine)",
    )
    parser.option(
        file,
        "--config",
        "a TOML or YAML file with options, script and args",
        metavar="FILE",
        help="a TOML or YAML file with any of these options as keys, script or module, and args; "
        "options of the command line count more, and --no_plug, say, takes a flag back",
    )
    host_options.add_options(parser)
    how = parser.add_argument_group("how it runs")
    parser.option(
        how,
        "--plug",
        "for a script that does not know tfdist",
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
        "GPUs of each task; 0 for the CPU (shared out)",
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
        type=command_line.waiting,
        metavar="SECONDS",
        help="how long the tasks wait for each other at the start",
    )
    parser.option(
        how,
        "--stall_timeout",
        type=command_line.waiting,
        metavar="SECONDS",
        help="how long a task waits for one that does not answer (default: 60)",
    )
    parser.option(
        how,
        "--grace",
        type=command_line.seconds,
        default=DEFAULT_GRACE,
        metavar="SECONDS",
        help=f"from asking a task to end to killing it (default: {DEFAULT_GRACE:g})",
    )
    parser.option(
        how,
        "--max_restarts",
        "how often what has failed is started again",
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
        help="with --workers or --ps MIN:MAX: how long these are waited for at the start, and "
        "when one that was lost, or has come, is taken in (default: 10)",
    )
    live_options.add_options(parser)
    parser.option(
        how,
        "--log_dir",
        "where the logs go (./tfdist_logs)",
        metavar="DIR",
        help="where the logs go (default: a new folder in ./tfdist_logs)",
    )
    parser.option(
        how,
        "--dry_run",
        "show what would be started, and exit",
        action="store_true",
        help="show each task's TF_CONFIG, environment and command, for a shell, and exit",
    )
    parser.option(
        how,
        "--print_config",
        action="store_true",
        help="show all options and where each comes from, as a file for --config, and exit",
    )
    return parser
