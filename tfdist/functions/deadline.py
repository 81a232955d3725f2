"""Where each task was when its time had passed, in words."""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from tfdist.cluster import Task

__all__ = ["STACKS_SUFFIX", "positions"]

STACKS_SUFFIX = ".deadline.txt"
"""At the end of the name of the file in which a task tells where it is."""

_FRAME = re.compile(r'^  File "(?P<file>.+)", line (?P<line>\d+) in (?P<name>.+)$', re.MULTILINE)
_LIBRARIES = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib"))


def positions(folder: Path, tasks: Sequence[Task]) -> str:
    """Where the main thread of each task was: ": worker:0 in train (<cell>, line 3), ...".

    Args:
        folder: That of the job's files.
        tasks: Which.

    Returns:
        "" where no task has told.
    """
    told = []
    for task in tasks:
        path = folder / f"{task.type}-{task.index}{STACKS_SUFFIX}"
        found = path.read_text(errors="replace") if path.exists() else ""
        if place := position(found):
            told.append(f"{task} {place}")
    return f": {', '.join(told)}" if told else ""


def position(stacks: str) -> str:
    """The innermost line of the user's own, or the innermost one, of the main thread.

    Args:
        stacks: As `faulthandler` writes them, innermost first, the main thread last.
    """
    frames = list(_FRAME.finditer(stacks.rpartition("(most recent call first):")[2]))
    own = [one for one in frames if not _is_of_a_library(one["file"])]
    for one in own[:1] or frames[:1]:
        return f"in {one['name']} ({Path(one['file']).name}, line {one['line']})"
    return ""


def _is_of_a_library(file: str) -> bool:
    here = str(Path(__file__).parent.parent)
    return file.startswith((*_LIBRARIES, here, "<frozen"))
