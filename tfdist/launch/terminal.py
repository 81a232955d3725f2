"""What a terminal would show of one task's output, line by line.

A progress bar rewrites its line with carriage returns and backspaces. `TerminalLine` follows the
cursor as a terminal does, so that each finished line is known in its final state, whole.
"""

from __future__ import annotations

import codecs
import re
import unicodedata

__all__ = ["TerminalLine", "clip", "is_premature_log", "visible_width"]

_CONTROLS = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, erasing, moving about
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # OSC: titles, links
    r"|\x1b[^\[\]]"  # the other escapes
    r"|\x08+|[\r\n]"
    r"|[\x00-\x07\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f]"  # bells and the like; a tab (\x09) stays
)
_UNFINISHED = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b]*\x1b?)?\Z")
_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
_PREMATURE_LOG = re.compile(
    r"WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR"
    r"|[IW]0000 00:00:\d+\.\d+ +\d+ \S+:\d+\] "
    # What the CUDA libraries say on a machine without a GPU driver, where it is no error.
    r"|E0000 00:00:\d+\.\d+ +\d+ \S+:\d+\] failed call to cuInit: .*\(303\)"
)
_LONGEST_ESCAPE = 512
_LONGEST_LINE = 16384


class TerminalLine:
    r"""Turns one task's bytes into the lines that a terminal would show.

    Bytes that are not UTF-8 become U+FFFD; characters that the pipe cuts in two are put together. A
    line of more than 16,384 characters is cut, so that a task that never ends it fills no memory.

    Example:
        >>> line = TerminalLine()
        >>> line.feed(b"1/2\r2/2\ndo")
        ['2/2']
        >>> line.shown
        'do'
    """

    def __init__(self, *, colours: bool = False) -> None:
        """Starts with an empty line.

        Args:
            colours: Whether colours and bold are kept (for a terminal) or dropped (for a file).
        """
        self._colours = colours
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._unfinished = ""  # an escape sequence of which the end has not come yet
        self._cells: list[str] = []
        self._cursor = 0
        self._rewritten = False
        self._colour = ""  # comes before the next character

    @property
    def shown(self) -> str:
        """The line in the making, as it stands."""
        text = "".join(self._cells)
        if self._rewritten:
            text = text.rstrip(" ")  # bars wipe out their longer former selves with spaces
        if self._colours and (self._colour or "\x1b" in text):
            text += "\x1b[0m"
        return text

    def feed(self, data: bytes) -> list[str]:
        """Takes the next bytes; returns the lines that they complete, without line ends."""
        text = self._unfinished + self._decoder.decode(data)
        self._unfinished = ""
        cut = _UNFINISHED.search(text)
        if cut is not None and len(text) - cut.start() <= _LONGEST_ESCAPE:
            text, self._unfinished = text[: cut.start()], cut.group()
        lines: list[str] = []
        position = 0
        for match in _CONTROLS.finditer(text):
            self._write(text[position : match.start()], lines)
            self._obey(match.group(), lines)
            position = match.end()
        self._write(text[position:], lines)
        return lines

    def finish(self) -> list[str]:
        """The task has ended: returns its last line where that has no line end."""
        lines = self.feed(self._decoder.decode(b"", final=True).encode())
        if self._cells:
            self._end_line(lines)
        return lines

    def _write(self, text: str, lines: list[str]) -> None:
        if not text:
            return
        first = self._colour + text[0]
        self._colour = ""
        self._cells[self._cursor : self._cursor + len(text)] = [first, *text[1:]]
        self._cursor += len(text)
        while len(self._cells) > _LONGEST_LINE:
            rest = self._cells[_LONGEST_LINE:]
            del self._cells[_LONGEST_LINE:]
            self._end_line(lines)
            self._cells, self._cursor = rest, len(rest)

    def _obey(self, control: str, lines: list[str]) -> None:
        if control == "\n":
            self._end_line(lines)
        elif control == "\r":
            self._cursor = 0
            self._rewritten = True
        elif control[0] == "\x08":
            self._cursor = max(0, self._cursor - len(control))
            self._rewritten = True
        elif self._colours and _COLOUR.fullmatch(control):
            self._colour += control
        elif control[:2] == "\x1b[" and control[-1] == "K":
            self._erase(control[2:-1])
        # Everything else moves about the screen, rings or changes the title: not in a shared line.

    def _erase(self, what: str) -> None:
        self._rewritten = True
        if what in ("", "0"):
            del self._cells[self._cursor :]
        elif what == "1":
            self._cells[: self._cursor + 1] = " " * min(self._cursor + 1, len(self._cells))
        elif what == "2":
            self._cells = [" "] * self._cursor

    def _end_line(self, lines: list[str]) -> None:
        lines.append(self.shown)
        self._cells, self._cursor, self._rewritten, self._colour = [], 0, False, ""


def is_premature_log(line: str) -> bool:
    """Whether a line is of TensorFlow's native log before the log has been set up.

    Until then TensorFlow writes information and warnings even where TF_CPP_MIN_LOG_LEVEL says not
    to: half a dozen lines a process, on every import.
    """
    return _PREMATURE_LOG.match(line) is not None


def visible_width(text: str) -> int:
    """How many columns a text takes on a terminal; colours take none, wide characters two."""
    return sum(_character_width(character) for character in _COLOUR.sub("", text))


def clip(text: str, columns: int) -> str:
    """The beginning of a text that fits into so many columns, colours kept and ended."""
    text = text.expandtabs(8)
    if visible_width(text) <= columns:
        return text
    shown: list[str] = []
    left = columns
    position = 0
    while position < len(text):
        colour = _COLOUR.match(text, position)
        if colour is not None:
            shown.append(colour.group())
            position = colour.end()
            continue
        left -= _character_width(text[position])
        if left < 0:
            break
        shown.append(text[position])
        position += 1
    return "".join(shown) + ("\x1b[0m" if "\x1b" in text else "")


def _character_width(character: str) -> int:
    if character.isascii():
        return 1
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
