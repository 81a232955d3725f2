"""How the help of a command is laid out: for any width, and never in colours."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

__all__ = ["fitted", "paragraph", "table", "width"]

_WIDEST = 100
_NARROWEST = 30
_COMMAND = re.compile(r"\s+(\w+ )?tfdist ")


def width() -> int:
    """Returns how many columns a text may take: the terminal's or COLUMNS, from 30 to 100."""
    import shutil  # takes longer than all else that a command without help needs

    return max(_NARROWEST, min(shutil.get_terminal_size().columns, _WIDEST))


def paragraph(text: str, columns: int, hanging: str = "") -> str:
    """Returns a text as one paragraph.

    Args:
        text: its lines are joined first.
        columns: how many a line may take.
        hanging: what stands before all lines but the first.
    """
    return textwrap.fill(
        " ".join(text.split()),
        columns,
        subsequent_indent=hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )


def fitted(text: str, columns: int) -> str:
    """Returns a text with its lines kept, but for those that are too long.

    Args:
        text: lines, of which those with a command of tfdist are kept whole, to be copied.
        columns: how many a line may take.
    """
    return "\n".join(
        line if len(line) <= columns or _COMMAND.match(line) else _broken(line, columns)
        for line in text.split("\n")
    )


def _broken(line: str, columns: int) -> str:
    indent = line[: len(line) - len(line.lstrip())]
    # What stands in a second column goes on there.
    second = re.match(r"\s*\S+\s{2,}", line)
    hanging = " " * len(second[0]) if second and len(second[0]) < columns / 2 else indent
    return textwrap.fill(
        line,
        columns,
        subsequent_indent=hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )


def table(rows: Sequence[tuple[str, str]], columns: int) -> str:
    """Returns names with what they mean beside them; below them where there is no room.

    Args:
        rows: the names, and what is said of each.
        columns: how many a line may take.
    """
    longest = max((len(name) for name, _ in rows), default=0)
    if longest > columns // 2:
        return "\n".join(f"  {name}\n      {paragraph(what, columns - 6)}" for name, what in rows)
    at = longest + 4
    return "\n".join(
        f"  {name:{longest}}  " + paragraph(what, columns - at).replace("\n", "\n" + " " * at)
        for name, what in rows
    )
