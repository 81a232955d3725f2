"""How a process ends: with the exit code of the tfdist error that nobody caught, and well or badly.

A scheduler can then tell a wrong cluster spec (64: do not try again) from a lost machine (75: try
again). Tracebacks are printed as ever, but for tfdist's own errors.
"""

from __future__ import annotations

import atexit
import contextlib
import dis
import functools
import os
import sys
import threading
import traceback
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import NoReturn

from tfdist.errors import TfdistError
from tfdist.user_frames import FULL_VARIABLE, short_traceback

__all__ = [
    "add_hint",
    "at_the_end",
    "end_by",
    "failure",
    "skip_the_teardown",
    "tell_by_exit_code",
    "watch_the_end",
]

_program: FrameType | None = None
_exit_status: object = None
_status_at_once: int | None = None
_at_the_end: list[Callable[[str], None]] = []
_hints: list[Callable[[BaseException], str]] = []


def tell_by_exit_code() -> None:
    """Has an uncaught `TfdistError` end this process with its `exit_code`, not with 1.

    It is shown with the frames of the user's program alone; one that only hands on what another
    task has said (its `told` is True) without any.
    """
    before = sys.excepthook
    if getattr(before, "tells_exit_codes", False):
        return

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        with contextlib.suppress(Exception):  # nobody reads it: the exit code tells it all the same
            if getattr(error, "told", False):
                sys.stderr.write("".join(traceback.format_exception_only(kind, error)))
            elif isinstance(error, TfdistError) and not os.environ.get(FULL_VARIABLE):
                sys.stderr.write(short_traceback(kind, error, trace))
            else:
                before(kind, error, trace)
            for hint in filter(None, (why(error) for why in _hints)):
                sys.stderr.write(f"[tfdist] {hint}\n")
        if isinstance(error, TfdistError):
            _end(error)  # Python gives a hook no other way to choose the code

    hook.tells_exit_codes = True  # type: ignore[attr-defined]
    sys.excepthook = hook


def add_hint(why: Callable[[BaseException], str]) -> None:
    """Has a line be shown under the traceback of an uncaught error.

    Args:
        why: from the error to the line; "" for none.
    """
    _hints.append(why)


def end_by(error: TfdistError) -> NoReturn:
    """Ends this process at once as if nobody caught an error, from any thread.

    For one whose main thread waits inside of TensorFlow for what will never come.
    """
    sys.stderr.write("".join(traceback.format_exception_only(type(error), error)))
    _end(error)


def _end(error: TfdistError) -> NoReturn:
    _call_all(_in_words(error))
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # its reader has gone
            stream.flush()
    os._exit(error.exit_code)


def at_the_end(tell: Callable[[str], None]) -> None:
    """Has a function called when this process ends, with why it ends badly, or "" if well.

    Args:
        tell: Called once, before the exit code is given; not where a signal or `os._exit` ends the
            process.
    """
    watch_the_end()
    if not _at_the_end:
        atexit.register(lambda: _call_all(failure()))
    _at_the_end.append(tell)


def _call_all(reason: str) -> None:
    while _at_the_end:
        _at_the_end.pop()(reason)


def skip_the_teardown(status: int) -> None:
    """Has this process, when it ends, end at once after its atexit handlers.

    For one whose native threads cannot be stopped, and would run into what Python takes down.

    Args:
        status: The exit code.
    """
    global _status_at_once
    _status_at_once = status


@atexit.register  # so early that nearly all other handlers come before it
def _end_at_once() -> None:
    if _status_at_once is None:
        return
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # its reader has gone
            stream.flush()
    os._exit(_status_at_once)


def watch_the_end() -> None:
    """Has `failure` tell, in an atexit handler, how this process is ending.

    Python tells its atexit handlers nothing of it. So this keeps the frame in which the program
    runs: its last instruction was a return unless an exception went through it. And it notes what
    `sys.exit` is called with.
    """
    global _program
    _program = sys._current_frames().get(threading.main_thread().ident or 0)
    while _program is not None and _program.f_back is not None:
        _program = _program.f_back
    exit_before = sys.exit
    if getattr(exit_before, "notes_the_status", False):
        return

    @functools.wraps(exit_before)
    def note_and_exit(status: object = None, /) -> NoReturn:
        global _exit_status
        if threading.current_thread() is threading.main_thread():
            _exit_status = status
        exit_before(status)  # type: ignore[arg-type]

    note_and_exit.notes_the_status = True  # type: ignore[attr-defined]
    sys.exit = note_and_exit


def failure() -> str:
    """Says in a few words why this process ends badly; "" where it ends well.

    For atexit handlers, after `watch_the_end`. A notebook and an interactive Python go on after an
    error, so their end is a good one. So is one by `raise SystemExit(code)`: the code cannot be
    known, `sys.exit(code)` is.
    """
    if hasattr(sys, "ps1") or sys.flags.interactive or "ipykernel" in sys.modules:
        return ""
    if _program is not None:
        instruction = dis.opname[_program.f_code.co_code[_program.f_lasti]]
        if instruction.startswith("RETURN"):
            return ""
    error = getattr(sys, "last_value", None)  # set where Python has shown an uncaught exception
    if error is not None:
        return _in_words(error)
    if _exit_status in (None, 0):
        return ""
    return f"exit code {_exit_status}" if isinstance(_exit_status, int) else str(_exit_status)


def _in_words(error: BaseException) -> str:
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
