"""What `tfdist run --print_config` shows: each option, and where it comes from."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tfdist.job_file import ITEMS

if TYPE_CHECKING:
    from tfdist.run_parser import RunParser

__all__ = ["told_options"]

_NUMBER = re.compile(r"0|-?[1-9]\d*|-?\d+\.\d+")
_COMMAND_LINE = "the command line"


def told_options(parser: RunParser, own: Sequence[str], command: Sequence[str]) -> str:
    """Returns a file for --config that says what a command line and its file say.

    Args:
        parser: what has read them.
        own: the launcher's own arguments, as `RunParser.split` gives them, the file's first.
        command: the script's.
    """
    file = parser.file
    from_file = len(file.words) if file is not None else 0
    name_of_file = file.path if file is not None else ""
    given: dict[str, list[tuple[str, str]]] = {}
    words = list(own)
    at = 0
    while at < len(words):
        source = name_of_file if at < from_file else _COMMAND_LINE
        name, equals, value = words[at].partition("=")
        at += 1
        if not parser.takes_value[name]:
            given[name.replace("--no_", "--", 1)] = [(_truth(not name.startswith("--no_")), source)]
            continue
        if not equals:
            value = words[at]
            at += 1
        earlier = given.get(name, []) if _is_list(parser, name) else []
        given[name] = [*earlier, (value, source)]
    lines = [_line(parser, name, given.get(name)) for name in parser.actions]
    script = [*_script(command)]
    source = _COMMAND_LINE
    if file is not None and list(file.command) == list(command):
        source = name_of_file
    rows = [row for row in lines if row is not None]
    rows += [(text, source) for text in script]
    longest = max(len(text) for text, _ in rows)
    wide = min(longest, 60)
    return "".join(f"{text:{wide}}  # {source}\n" for text, source in rows)


def _line(
    parser: RunParser, name: str, given: list[tuple[str, str]] | None
) -> tuple[str, str] | None:
    """An option's line and where it comes from; None where there is nothing to tell."""
    key, action = name[2:], parser.actions[name]
    if key in ("help_all", "print_config", "dry_run", "config", "debug"):
        return None
    if given is None:
        if action.default in (None, "", []) or action.default is False:
            return None
        return f"{key} = {_value(str(action.default), action.type is not None)}", "default"
    sources = " and ".join(dict.fromkeys(source for _, source in given))
    if not parser.takes_value[name]:
        return f"{key} = {given[-1][0]}", sources
    values = [_value(value, action.type is not None) for value, _ in given]
    text = f"[{', '.join(values)}]" if _is_list(parser, name) else values[-1]
    return f"{key} = {text}", sources


def _script(command: Sequence[str]) -> list[str]:
    if command[0] == "-m":
        lines, own = [f"module = {_quoted(command[1])}"], command[2:]
    else:
        lines, own = [f"script = {_quoted(command[0])}"], command[1:]
    return [*lines, f"args = [{', '.join(map(_quoted, own))}]"] if own else lines


def _is_list(parser: RunParser, name: str) -> bool:
    return ITEMS.get(name[2:]) == "" and parser.takes_value[name]


def _truth(value: bool) -> str:
    return str(value).lower()


def _value(text: str, is_read: bool) -> str:
    """A value as TOML has it: a number bare where the option reads numbers."""
    return text if is_read and _NUMBER.fullmatch(text) else _quoted(text)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
