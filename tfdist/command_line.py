"""What the options of the command `tfdist` take, and how its command lines are cut."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from tfdist.errors import ClusterError

if TYPE_CHECKING:
    from tfdist.launch.crew.crew_size import Size

__all__ = [
    "Parser",
    "count",
    "counts",
    "number",
    "port",
    "restarts",
    "seconds",
    "threads",
    "workers",
]


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are tfdist's own errors, and which knows what its options take."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(
            formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **settings
        )
        self.takes_value: dict[str, bool] = {"-h": False, "--help": False}

    def option(self, group: argparse._ArgumentGroup, name: str, **settings: Any) -> None:
        """Adds an option to a group."""
        self.takes_value[name] = group.add_argument(name, **settings).nargs != 0

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
            name, equals, value = word.partition("=")
            if name.startswith("--"):
                name = "--" + name[2:].replace("-", "_")
            if name not in self.takes_value:
                self._refuse_option(name)
            count = 2 if self.takes_value[name] and not equals else 1
            own += [name + equals + value, *left[1:count]]
            left = left[count:]
        return own, []

    def _refuse_option(self, name: str) -> NoReturn:
        from tfdist.cluster.task import nearest

        self.error(f"unknown option {name!r}{nearest(name, self.takes_value)}")


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
    if ":" not in text:
        return count(text)
    from tfdist.launch.crew.crew_size import Size

    words = text.split(":")
    if len(words) != 2 or not all(word.isdecimal() for word in words):
        raise argparse.ArgumentTypeError(f"{text!r} is no range of workers; give 1:4, say")
    try:
        return Size(*map(int, words))
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


def seconds(text: str) -> float:
    """Reads a number of seconds."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds; give 0 or more")
    return value
