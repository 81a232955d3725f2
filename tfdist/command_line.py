"""What the options of the command `tfdist` take, and how its command lines are cut."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from tfdist import help_text
from tfdist.errors import ClusterError
from tfdist.given_numbers import is_wait

if TYPE_CHECKING:
    from tfdist.cluster.crew_size import Size

__all__ = [
    "Parser",
    "count",
    "counts",
    "link",
    "number",
    "one_of",
    "port",
    "restarts",
    "seconds",
    "spelt",
    "threads",
    "tracebacks",
    "waiting",
    "workers",
]


class Tracebacks:
    """Whether errors are shown with their tracebacks: once --debug was read, in this process.

    Attributes:
        wanted: set where a command line is cut, so that what is wrong with its rest is shown, too.
    """

    wanted = False


tracebacks = Tracebacks()


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are tfdist's own errors, and which knows what its options take.

    `--help` fits a screen: it shows the options that have a `brief` text and the examples, where
    there are any, and `--help_all` everything.

    Args:
        examples: commands, each with what it does below it.
        settings: argparse's own.

    Attributes:
        general: the group of options that every command has.
        takes_value: whether each option takes a value, by its name with dashes.
        actions: argparse's, by the same names.
    """

    def __init__(self, *, examples: str = "", **settings: Any) -> None:
        super().__init__(
            formatter_class=_Formatter,
            allow_abbrev=False,
            add_help=False,
            **settings,
        )
        self.examples = examples
        self.takes_value: dict[str, bool] = {"-h": False, "--help": False}
        self.actions: dict[str, argparse.Action] = {}
        self._briefs: list[tuple[argparse.Action, str]] = []
        self.general = self.add_argument_group("options")
        self.general.add_argument("-h", "--help", action="help", help="show the help on one screen")
        self.option(self.general, "--help_all", action=_HelpAll, help="show every option")
        self.option(
            self.general,
            "--debug",
            action="store_true",
            help="show the traceback of an error of the command itself",
        )

    def option(
        self, group: argparse._ActionsContainer, name: str, brief: str | bool = "", **settings: Any
    ) -> None:
        """Adds an option.

        Args:
            group: the group that it is shown in, or the parser.
            name: with two dashes, and underscores for others.
            brief: what `--help` says of it, True for what `help` does; "" where `--help_all` alone
                shows it.
            settings: argparse's own.
        """
        if "choices" in settings and "type" not in settings:
            settings["type"] = one_of(settings["choices"])
        action = group.add_argument(name, **settings)
        self.takes_value[name] = action.nargs != 0
        self.actions[name] = action
        if brief:
            self._briefs.append((action, settings["help"] if brief is True else brief))

    def brief_of(self, name: str) -> str:
        """Returns a few words about an option, where a list of them is shown."""
        for action, brief in self._briefs:
            if action is self.actions[name]:
                return brief
        return re.split(r"[;:] | \(default", self.actions[name].help or "")[0]

    def format_help(self) -> str:
        """Returns the help on one screen."""
        if not self._briefs:
            return self.format_all()
        columns = help_text.width()
        rows = [(_shown(action), text % vars(action)) for action, text in self._briefs]
        rows.append(("--help_all", "show every option"))
        parts = [
            help_text.paragraph(f"usage: {self.usage}", columns, " " * 10),
            help_text.paragraph(self.description or "", columns),
            "options:\n" + help_text.table(rows, columns),
            help_text.fitted(self.examples.strip(), columns),
        ]
        return "\n\n".join(filter(None, parts)) + "\n"

    def format_all(self) -> str:
        """Returns the help with everything."""
        columns = help_text.width()
        kept = self.usage, self.description, self.epilog
        below = filter(None, (self.examples.rstrip(), self.epilog))
        self.usage = help_text.paragraph(self.usage or "", columns - 7, " " * 10)
        self.description = help_text.paragraph(self.description or "", columns)
        self.epilog = help_text.fitted("\n".join(below), columns)
        try:
            return super().format_help()
        finally:
            self.usage, self.description, self.epilog = kept

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Reads arguments as argparse does; the unknown ones are told with the nearest known."""
        words = spelt(sys.argv[1:] if args is None else args)
        if "--debug" in words:
            tracebacks.wanted = True
        options, left = self.parse_known_args(words, namespace)
        for word in left:
            if word.startswith("-"):
                self._refuse_option(word.partition("=")[0])
            self.error(f"unexpected {word!r}")
        return options

    def error(self, message: str) -> NoReturn:
        """Raises instead of printing the usage: `main` prints one line."""
        raise ClusterError(f"{message}; see {self.prog} --help")

    def check_script(self, command: Sequence[str], *, is_here: bool = True) -> None:
        """Refuses a command line without a script, or with one that is not there.

        Args:
            command: The script's, as `split` gives it.
            is_here: Whether a script's file has to be there.
        """
        if not command or list(command) == ["-m"]:
            self.error("no script; give script.py or -m package.module after the options")
        if is_here and command[0] != "-m" and not os.path.isfile(command[0]):
            self.error(f"no script {command[0]!r} here; give the path of a Python file")
        if is_here and command[0] == "-m" and not _is_importable(command[1].partition(".")[0]):
            self.error(
                f"no module {command[1]!r} here; give one that `python -m` finds from this folder"
            )

    def split(self, given: Sequence[str]) -> tuple[list[str], list[str]]:
        """Cuts a command line where the script, or `-m` and the module, begin.

        Only what comes before is for argparse, which would take the script's options for its own.

        Args:
            given: The arguments, options spelt with dashes or underscores.

        Returns:
            The launcher's own arguments, spelt with underscores, and the script's command.
        """
        own: list[str] = []
        left = list(given)
        while left:
            word = left[0]
            if word == "--":
                return own, left[1:]
            if word.startswith("-m") and word != "-m":  # `-mpackage`, as Python takes it too
                return own, ["-m", word[2:], *left[1:]]
            if word == "-m" or not word.startswith("-"):
                return own, left
            word = spelt([word])[0]
            name, equals, _ = word.partition("=")
            if name not in self.takes_value:
                self._refuse_option(name)
            if name == "--debug":
                tracebacks.wanted = True
            count = 2 if self.takes_value[name] and not equals else 1
            own += [word, *left[1:count]]
            left = left[count:]
        return own, []

    def _refuse_option(self, name: str) -> NoReturn:
        from tfdist.cluster.task import nearest

        self.error(f"unknown option {name!r}{nearest(name, self.takes_value)}")


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Keeps to the width of all that tfdist tells of itself."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=help_text.width() - 2)


class _HelpAll(argparse.Action):
    """Shows the help with everything, and exits."""

    def __init__(self, option_strings: Sequence[str], dest: str, **settings: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, **settings)

    def __call__(self, parser: argparse.ArgumentParser, *given: object) -> None:
        assert isinstance(parser, Parser)
        sys.stdout.write(parser.format_all())
        parser.exit()


def spelt(words: Sequence[str]) -> list[str]:
    """Returns a command line's words with the options' names spelt with underscores."""
    found = []
    for word in words:
        name, equals, value = word.partition("=")
        if name.startswith("--"):
            name = "--" + name[2:].replace("-", "_")
        found.append(name + equals + value)
    return found


def _shown(action: argparse.Action) -> str:
    """An option with what it takes."""
    name = action.option_strings[0] if action.option_strings else f"[{action.dest}]"
    if action.nargs == 0 or not action.option_strings:
        return name
    takes = action.metavar or f"{{{','.join(map(str, action.choices or ()))}}}"
    return f"{name} {takes}" if action.nargs is None else f"{name} [{takes}]"


def one_of(choices: Sequence[str]) -> Callable[[str], str]:
    """Returns what reads one of several words."""

    def read(text: str) -> str:
        if text not in choices:
            from tfdist.cluster.task import nearest

            raise argparse.ArgumentTypeError(
                f"{text!r} is none of {', '.join(choices)}{nearest(text, choices)}"
            )
        return text

    return read


def _is_importable(package: str) -> bool:
    """Whether there is such a module or package, as `python -m` would look for it."""
    import importlib.util

    sys.path.insert(0, os.getcwd())
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError, AttributeError):
        return True  # a hook of somebody's: Python itself will tell
    finally:
        sys.path.remove(os.getcwd())


def count(text: str) -> int:
    """Reads a number of tasks."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of tasks; give 0, 1, 2, ...")
    return int(text)


def number(text: str) -> int:
    """Reads a whole number."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number; give 0, 1, 2, ...")
    return int(text)


def workers(text: str) -> int | Size:
    """Reads a number of workers, or the fewest and the most, as in 1:4."""
    return _count_or_size(text, "worker")


def servers(text: str) -> int | Size:
    """Reads a number of parameter servers, or the fewest and the most, as in 1:4."""
    return _count_or_size(text, "ps")


def _count_or_size(text: str, job: str) -> int | Size:
    if ":" not in text:
        return count(text)
    from tfdist.cluster.crew_size import Size, nouns_of

    nouns, words = nouns_of(job), text.split(":")
    if len(words) != 2 or not all(word.isdecimal() for word in words):
        raise argparse.ArgumentTypeError(f"{text!r} is no range of {nouns}; give 1:4, say")
    try:
        return Size(int(words[0]), int(words[1]), nouns)
    except ClusterError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def port(text: str) -> int:
    """Reads a port."""
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; give 1 to 65535")
    return int(text)


def counts(text: str) -> tuple[int, ...]:
    """Reads numbers of workers, as in 1,2,4."""
    words = text.split(",")
    if not all(word.isdecimal() and int(word) for word in words):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers of workers; give 1,2,4")
    return tuple(int(word) for word in words)


def link(text: str) -> tuple[float, float]:
    """Reads a link as MB/s,ms; returns seconds of latency, and bytes a second."""
    try:
        megabytes, milliseconds = map(float, text.split(","))
    except ValueError:
        megabytes = milliseconds = -1.0
    if not (0 < megabytes < float("inf") and 0 <= milliseconds < float("inf")):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no link; give megabytes a second and milliseconds, as in 125,0.1"
        )
    return milliseconds / 1e3, megabytes * 1e6


def restarts(text: str) -> int:
    """Reads a number of restarts."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of restarts; give 0, 1, 2, ...")
    return int(text)


def threads(text: str) -> int | Literal["auto"]:
    """Reads a number of threads, or auto."""
    if text == "auto":
        return "auto"
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of threads; give 1, 2, ...")
    return int(text)


def waiting(text: str) -> float:
    """Reads how many seconds somebody waits."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not is_wait(value):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a time to wait; give seconds above 0 and below 1e9"
        )
    return value


def seconds(text: str) -> float:
    """Reads a number of seconds."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds; give 0 or more")
    return value
