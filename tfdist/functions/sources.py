"""The lines of functions that lie in no file: a traceback in a task shows them all the same."""

from __future__ import annotations

import linecache
import os
import sys
from collections.abc import Mapping

__all__ = ["lines_of", "remember", "shown_name"]


def shown_name(filename: str) -> str:
    """What a file is called in a task: a notebook's cell by its number, "<cell In[3]>".

    Args:
        filename: As the code has it.
    """
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is not None and not os.path.exists(filename):
        found = shell.compile.format_code_name(filename)
        if found:
            return f"<{found[0].lower()} {found[1]}>"
    return filename


def lines_of(filename: str) -> list[str]:
    """The lines of what lies in no file; none where there is a file, or nobody knows."""
    return [] if os.path.exists(filename) else linecache.getlines(filename)


def remember(sources: Mapping[str, list[str]]) -> None:
    """Has tracebacks of this process show these lines.

    Args:
        sources: The lines of each file, by the name that its code has here.
    """
    for name, lines in sources.items():
        linecache.cache[name] = (sum(map(len, lines)), None, lines, name)
