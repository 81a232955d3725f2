"""The command `tfdist completion`: what has a shell complete commands, options and files.

shtab writes it, once: a shell that completes starts no Python.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from tfdist import command_line
from tfdist.errors import ClusterError

__all__ = ["SHELLS", "completion_parser", "main"]

SHELLS = ("bash", "zsh", "fish")

_EXAMPLES = """\
examples:
  tfdist completion bash > ~/.local/share/bash-completion/completions/tfdist
  tfdist completion zsh > ~/.zfunc/_tfdist
      with `fpath+=~/.zfunc` in ~/.zshrc, before its compinit
  tfdist completion fish > ~/.config/fish/completions/tfdist.fish
"""

_FILES = ("cluster", "config", "hosts", "python", "requirements", "output")
_FOLDERS = ("log_dir", "folder")

Commands = Mapping[str, tuple[str, Mapping[str, str]]]
"""What each command does, and where its parsers are made, by the subcommand's name."""


def main(given: Sequence[str], commands: Commands) -> int:
    """Runs the command.

    Args:
        given: what follows `tfdist completion`.
        commands: all of tfdist's.

    Returns:
        0 once the script is shown.
    """
    parser = completion_parser()
    shell = parser.parse_args(given).shell
    if shell is None:
        parser.error(f"no shell; give {', '.join(SHELLS)}")
    try:
        import shtab
    except ImportError as error:
        raise ClusterError(
            f"completion needs shtab ({error}): pip install 'tfdist[completion]'"
        ) from error
    sys.stdout.write(shtab.complete(_tree(commands, shtab), shell))
    return 0


def completion_parser() -> command_line.Parser:
    """Returns the parser of `tfdist completion`."""
    parser = command_line.Parser(
        prog="tfdist completion",
        usage="tfdist completion {bash,zsh,fish}",
        description="Show a script that has a shell complete commands, options and files.",
        examples=_EXAMPLES,
    )
    parser.add_argument(
        "shell", nargs="?", choices=SHELLS, help="which shell", type=command_line.one_of(SHELLS)
    )
    return parser


def _tree(commands: Commands, shtab: Any) -> argparse.ArgumentParser:
    """All commands in one parser, as shtab takes it."""
    top = argparse.ArgumentParser("tfdist")
    top.add_argument("--version", action="store_true", help="show the version")
    top.add_argument("--debug", action="store_true", help="show tracebacks")
    below = top.add_subparsers()
    for name, (what, parsers) in commands.items():
        one = below.add_parser(name, help=what)
        subcommands = None
        for subcommand, place in parsers.items():
            module, _, make = place.partition(":")
            parser = getattr(import_module(module), make)()
            if not subcommand:
                _copy(parser, one, shtab)
                continue
            subcommands = subcommands or one.add_subparsers()
            first = (parser.description or "").partition(".")[0]
            _copy(parser, subcommands.add_parser(subcommand, help=first), shtab)
    return top


def _copy(parser: command_line.Parser, to: argparse.ArgumentParser, shtab: Any) -> None:
    for name, action in parser.actions.items():
        kind: dict[str, Any] = {"action": "store_true"}
        if parser.takes_value[name]:
            kind = {"choices": action.choices, "nargs": action.nargs}
        added = to.add_argument(name, help=parser.brief_of(name), **kind)
        if name[2:] in _FILES:
            added.complete = shtab.FILE  # type: ignore[attr-defined]
        elif name[2:] in _FOLDERS:
            added.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    positional = to.add_argument("file", nargs="*", help="a script, or what the command takes")
    if parser.prog == "tfdist completion":
        positional.choices = SHELLS
    elif parser.prog != "tfdist version":
        positional.complete = shtab.FILE  # type: ignore[attr-defined]
