"""Which line of the user's own program has called, read from frames."""

from __future__ import annotations

import functools
import inspect
import sys
import sysconfig
import traceback
from pathlib import Path
from types import FrameType, TracebackType

import tfdist

__all__ = ["asker", "line_of", "line_of_error", "line_of_object"]

_OWN = Path(tfdist.__file__).parent
_LIBRARIES = tuple({Path(path).resolve() for path in sysconfig.get_paths().values()})
_PASSED_ON = ("<frozen os>", "<frozen _collections_abc>")
_STANDARD = sysconfig.get_paths()["stdlib"]
_PASSED_FILES = tuple(f"{_STANDARD}/{name}.py" for name in ("os", "_collections_abc", "random"))


@functools.lru_cache(maxsize=4096)
def is_users(filename: str) -> bool:
    """Whether a file of code is the user's: not Python's, not installed, not tfdist's own."""
    if filename.startswith("<"):
        return False
    path = Path(filename)
    if "__autograph_generated" in path.name:
        return False
    path = path.resolve()
    if not path.is_file():
        return False
    if _OWN in path.parents:
        return _OWN / "examples" in path.parents
    return not any(library in path.parents for library in _LIBRARIES)


def line_of(frame: FrameType | None = None) -> str:
    """The innermost line of the user's program, and of which other file it was called.

    Args:
        frame: from which to look outwards; the caller's by default.

    Returns:
        As "data.py, line 41, in augment, called in train.py, line 9, in main"; "" for none.
    """
    frame = frame or sys._getframe(1)
    inner: FrameType | None = None
    while frame is not None:
        name = frame.f_code.co_filename
        if is_users(name):
            if inner is None:
                inner = frame
            elif name != inner.f_code.co_filename and frame.f_code.co_name != "<module>":
                return f"{_of_frame(inner)}, called in {_of_frame(frame)}"
        frame = frame.f_back
    return "" if inner is None else _of_frame(inner)


def _of_frame(frame: FrameType) -> str:
    return _told(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)


def asker(skip: int = 2, beside: tuple[str, ...] = ()) -> str:
    """The line that asks for something itself; "" where a library does, for whomever.

    Args:
        skip: how many frames out from this one's caller the question was put.
        beside: ends of the names of files that only pass questions on.
    """
    frame: FrameType | None = sys._getframe(skip)
    while frame is not None:
        name = frame.f_code.co_filename
        if name in _PASSED_ON or name.endswith((*_PASSED_FILES, *beside)):
            frame = frame.f_back
            continue
        users = is_users(name) or "__autograph_generated" in name
        return line_of(frame) if users else ""
    return ""


def line_of_error(trace: TracebackType | None) -> str:
    """The innermost line of the user's program in a traceback; "" for none."""
    for frame in reversed(traceback.extract_tb(trace)):
        if is_users(frame.filename):
            return _told(frame.filename, frame.lineno or 0, frame.name)
    return ""


def line_of_object(thing: object) -> str:
    """Where a function or a class of the user's is written; "" for others'."""
    thing = inspect.unwrap(thing) if callable(thing) else thing
    try:
        name = inspect.getsourcefile(thing)  # type: ignore[arg-type]
        line = inspect.getsourcelines(thing)[1]  # type: ignore[arg-type]
    except (TypeError, OSError):
        return ""
    if name is None or not is_users(name):
        return ""
    return _told(name, line, getattr(thing, "__qualname__", ""))


def _told(filename: str, line: int, name: str) -> str:
    inside = "" if name in ("", "<module>") else f", in {name}"
    return f"{Path(filename).name}, line {line}{inside}"
