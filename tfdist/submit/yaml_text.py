"""Plain data as YAML that people like to read, and that says nothing else than the data.

A word of letters, digits, and `._/-` stands as it is, if YAML cannot take it for a number, a date
or a truth value; every other string is quoted, with escapes, so that no text can become structure.

Source: YAML 1.2.2, 5.7 (escapes) and 7.3.1 (double quotes); the words that YAML 1.1 takes for more
than strings, which kubectl's reader still knows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from tfdist.errors import ClusterError

__all__ = ["Plain", "yaml_text"]

Plain: TypeAlias = "str | int | bool | Sequence[Plain] | Mapping[str, Plain]"
"""What there is in a manifest: strings, whole numbers, truth values, lists and mappings of them."""

_LEAVES = (str, int)  # a truth value is a whole number, too

_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]*([./-]+[A-Za-z0-9_]+)*", re.ASCII)
_NO_STRINGS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
_WIDTH = 100


def yaml_text(data: Mapping[str, Plain], comment: str = "") -> str:
    """Writes a mapping as one document.

    Args:
        data: what it holds; its order is kept.
        comment: a line above it.

    Returns:
        The text, without the line `---`.

    Raises:
        ClusterError: a string cannot be in any YAML: half of a surrogate pair.
    """
    lines = [f"# {comment}"] if comment else []
    return "\n".join([*lines, *_of_mapping(data), ""])


def _of_mapping(data: Mapping[str, Plain]) -> Iterator[str]:
    for key, value in data.items():
        name = _quoted(key)
        if isinstance(value, Mapping) and value:
            yield f"{name}:"
            yield from _indented(_of_mapping(value))
        elif isinstance(value, Sequence) and not isinstance(value, str) and not _is_short(value):
            yield f"{name}:"
            yield from _of_list(value)
        else:
            yield f"{name}: {_inline(value)}"


def _of_list(values: Sequence[Plain]) -> Iterator[str]:
    for value in values:
        if isinstance(value, Mapping) and value:
            block = _of_mapping(value)
        elif isinstance(value, Sequence) and not isinstance(value, str) and not _is_short(value):
            block = _of_list(value)
        else:
            block = iter([_inline(value)])
        yield f"- {next(block)}"
        yield from _indented(block)


def _is_short(values: Sequence[Plain]) -> bool:
    """Whether a list is one of leaves that fits into a line."""
    leaves = all(isinstance(value, _LEAVES) for value in values)
    return leaves and sum(len(_inline(value)) + 2 for value in values) < _WIDTH - 20


def _inline(value: Plain) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, Mapping):
        return "{}"
    return f"[{', '.join(map(_inline, value))}]"


def _quoted(text: str) -> str:
    if _WORD.fullmatch(text) and text.lower() not in _NO_STRINGS:
        return text
    return f'"{"".join(map(_escaped, text))}"'


def _escaped(letter: str) -> str:
    number = ord(letter)
    if 0xD800 <= number < 0xE000:
        raise ClusterError(f"{letter!r} in a manifest, which is no text; give it as UTF-8")
    if letter in _ESCAPES:
        return _ESCAPES[letter]
    if letter.isprintable():
        return letter
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _indented(lines: Iterator[str]) -> Iterator[str]:
    return (f"  {line}" for line in lines)
