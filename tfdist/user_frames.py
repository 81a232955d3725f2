"""Tells the frames of a user's program from those of libraries, and shows errors by the former.

What tfdist says of a mistake is one sentence; above it belong the user's own lines, not how tfdist
came to say it.
"""

from __future__ import annotations

import functools
import linecache
import os
import re
import sysconfig
import traceback
from collections.abc import Iterable
from types import TracebackType

__all__ = ["FULL_VARIABLE", "is_library", "last_own_line", "short_traceback"]

FULL_VARIABLE = "TFDIST_FULL_TRACEBACKS"
"""Set to anything, it has errors of tfdist be shown with all frames."""

_PACKAGES = (
    "tensorflow|keras|tf_keras|numpy|absl|h5py|optree|wrapt|google|grpc|cloudpickle|ray|jax|"
    "IPython|ipykernel|traitlets|tornado|tfdist|pytest|_pytest|pluggy"
)
"""Whose frames tell users nothing; other installed packages may be their own."""

_INSTALLED = re.compile(rf"[/\\](site|dist)-packages[/\\]({_PACKAGES})[/\\.]")
_STANDARD = re.compile(
    r"([/\\]lib(64)?[/\\]python3(\.\d+t?)?|[/\\]Lib)[/\\](?!.*(site|dist)-packages)"
)
_ROOMS = re.compile(
    r"[/\\]tfdist[/\\]((training|strategies|rendezvous|launch|cluster|environments|compat|callbacks|"
    r"machine|functions|optimize|pipeline)[/\\]|(process|exits|cli)\.py)"
)
_OWN = os.path.dirname(os.path.abspath(__file__)) + os.sep
_EXAMPLES = os.path.join(_OWN, "examples") + os.sep  # a user's program, as far as users see
_MADE = ("<frozen ", "<string>")


@functools.cache
def _standard() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple(os.path.abspath(paths[name]) + os.sep for name in ("stdlib", "platstdlib"))


def is_library(file: str) -> bool:
    """Whether a frame's file is no user's.

    Args:
        file: as a traceback gives it, of this machine or another one.
    """
    if file.startswith(_EXAMPLES):
        return False
    made = file.startswith(_MADE) or "__autograph_generated_file" in file
    if made or file.startswith(_OWN):
        return True
    if "site-packages" in file or "dist-packages" in file:
        return bool(_INSTALLED.search(file))
    known = _STANDARD.search(file) or _ROOMS.search(file)  # of another machine, perhaps
    return bool(known) or file.startswith(_standard())


def last_own_line(frames: Iterable[traceback.FrameSummary]) -> str:
    """The innermost line of a user's: "train.py, line 3: x = 1 / y"; "" where there is none.

    Args:
        frames: from the outermost.
    """
    own = [frame for frame in frames if not is_library(frame.filename)]
    if not own:
        return ""
    name, number = own[-1].filename, own[-1].lineno or 0
    line = linecache.getline(name, number).strip()
    told = f"{os.path.basename(name)}, line {number}"
    return f"{told}: {line}" if line else told


def short_traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> str:
    """An error as Python shows it, with the user's frames alone.

    What it came of is shown where the user's own lines have a part in it.

    Args:
        kind: its class.
        error: the error.
        trace: where it was raised.
    """
    told = traceback.TracebackException(kind, error, trace)
    one: traceback.TracebackException | None = told
    left_out = ""
    while one is not None:
        own = [frame for frame in one.stack if not is_library(frame.filename)]
        if own:
            one.stack = traceback.StackSummary.from_list(own)
        before = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
        if before is not None and all(is_library(frame.filename) for frame in before.stack):
            one.__cause__ = one.__context__ = before = None
            left_out = f"[tfdist] {FULL_VARIABLE}=1 shows what this came of, too:\n"
        one = before
    return left_out + "".join(told.format())
