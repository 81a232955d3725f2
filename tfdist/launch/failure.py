"""Which task failed first, as the root cause, and what its log says of it.

When a task of a job dies, the others follow: their connections break (`UnavailableError`), tfdist
tells them that a task was lost (exit code 75), the launcher ends them. These deaths are
consequences. They can even come first, because a Python process with TensorFlow inside closes its
connections well before it has ended. So time decides only among deaths of the same rank:

    0  died by itself, with an error of its own
    1  was ended by the launcher, but its log ends with the traceback of an error of its own
    2  died by itself because another task was gone
    3  was ended by the launcher
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tfdist import errors
from tfdist.cluster import Task
from tfdist.errors import EXIT_CODES, TaskLost, TfdistError
from tfdist.launch.terminal import TerminalLine, is_premature_log
from tfdist.user_frames import is_library

__all__ = [
    "Failure",
    "TaskResult",
    "describe",
    "ended_well_before",
    "exit_code",
    "find_failure",
    "is_consequence",
    "last_lines",
    "lost_another",
]

_TAIL_BYTES = 1 << 16
_FRAME_LINES = 8
_MESSAGE_LINES = 12
_PLAIN_LINES = 12
_LAST_ERROR_LINES = 40
_TRACEBACK = "Traceback (most recent call last):"
_LOST_ANOTHER = frozenset({"UnavailableError", "AbortedError", "CancelledError", "TaskLost"})
_ENDED_BY_US = frozenset({"KeyboardInterrupt", "SystemExit"})
_EXPLAINED = (64, 69, 75)
_CODES = {
    kind.__name__: kind.exit_code
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, TfdistError)
}
# What native code, the C++ runtime, the C library and Python say of an end that they bring about.
_NATIVE_END = re.compile(
    r"F\d{4} |.*\bCheck fail(ed|ure): |.*Assertion .* failed|terminate called |  what\(\): "
    r"|Fatal Python error: |\*\*\* (stack smashing|buffer overflow|SIG\w+ received)"
    r"|(double free|free\(\)|malloc|munmap_chunk|realloc\(\)|corrupted )"
)
_NATIVE_LINES = 4
_NODE = re.compile(r"\s*\[\[\{\{node ")  # where in a graph it was, for who knows TensorFlow's
_HINTS: dict[int, str] = {
    signal.SIGKILL: "not by tfdist: often the machine has run out of memory",
    signal.SIGSEGV: "a crash in native code",
    signal.SIGABRT: "a check failed in native code",
}


@dataclass(frozen=True)
class TaskResult:
    """How one task ended.

    Attributes:
        task: Which task.
        returncode: Its exit code; -n where signal n ended it.
        log: The file with all its output.
        started: When it was started, seconds since the epoch.
        ended: When it ended, seconds since the epoch.
        stopped: Whether the launcher had sent it a signal before it ended.
        log_start: Where its output begins in the log, in bytes: after that of the process before
            it, where the task was started again.
        stood_still: For how many seconds it had been stopped (SIGSTOP) when the launcher ended it;
            0 where it was not.
        host: The name of its host; "" where it is the launcher's.
        lost: Why it is cut off, and has ended so or as nobody knows; "" where it is not.
    """

    task: Task
    returncode: int
    log: Path
    started: float
    ended: float
    stopped: bool = False
    log_start: int = 0
    stood_still: float = 0.0
    host: str = ""
    lost: str = ""

    @property
    def name(self) -> str:
        """The task, and its host where that is another one."""
        return f"{self.task} on {self.host}" if self.host else str(self.task)

    @property
    def seconds(self) -> float:
        """How long it ran."""
        return self.ended - self.started


@dataclass(frozen=True)
class Failure:
    """The first failure of a job.

    Attributes:
        result: The task that failed.
        excerpt: The last lines of its traceback, or of its log where there is none.
    """

    result: TaskResult
    excerpt: tuple[str, ...]

    @property
    def task(self) -> Task:
        """The task that failed."""
        return self.result.task


def exit_code(result: TaskResult) -> int:
    """A task's exit code as a shell counts: 128 + n for signal n.

    One that we ended while it was ending by an error of its own has that error's.
    """
    if result.returncode >= 0:
        return result.returncode
    if result.stood_still:
        return TaskLost.exit_code
    error = _own_error(result) if result.stopped else ""
    return _CODES.get(error, 1) if error else 128 - result.returncode


def lost_another(result: TaskResult) -> bool:
    """Whether a task ended because it had lost another one, whatever we sent it meanwhile."""
    return _rank(result) == 2 or (result.returncode == TaskLost.exit_code and not result.lost)


def ended_well_before(first: TaskResult, results: Sequence[TaskResult]) -> list[TaskResult]:
    """The tasks that had ended well when another one failed."""
    return [one for one in results if one.returncode == 0 and one.ended <= first.ended]


def describe(result: TaskResult, *, explained: bool = True) -> str:
    """How a task ended, in words: "ended with exit code 1", "was ended by SIGKILL ...".

    Args:
        result: How it ended.
        explained: Whether to say what tfdist's own exit codes mean.
    """
    code = result.returncode
    if result.lost:
        return f"was lost: {result.lost} (exit code {code})"
    if code < 0 and result.stood_still:
        return (
            f"was stopped (SIGSTOP) for {result.stood_still:.0f} s, and ended by tfdist "
            f"(exit code {exit_code(result)})"
        )
    if code < 0 and result.stopped and (error := _own_error(result)):
        return f"failed by {error} (exit code {exit_code(result)}; it took long to end)"
    if code >= 0:
        meaning = f" ({EXIT_CODES[code]})" if explained and code in _EXPLAINED else ""
        return f"ended with exit code {code}{meaning}"
    known = {int(signum): signum.name for signum in signal.Signals}
    hint = "" if result.stopped else _HINTS.get(-code, "")
    why = f", {hint}" if hint else ""
    return f"was ended by {known.get(-code, f'signal {-code}')} (exit code {128 - code}{why})"


def find_failure(results: Sequence[TaskResult]) -> Failure | None:
    """Finds the root cause among the tasks that have ended.

    Args:
        results: The tasks that have ended, in any order.

    Returns:
        The first failure; None where every one ended with 0.
    """
    failed = [result for result in results if result.returncode != 0]
    if not failed:
        return None
    first = min(failed, key=_order)
    return Failure(first, last_lines(first.log, first.log_start))


def is_consequence(result: TaskResult) -> bool:
    """Whether a task looks as if it had died because of another task, or because of us."""
    return _rank(result) > 0


def last_lines(log: Path, start: int = 0) -> tuple[str, ...]:
    """The last traceback of a log, shortened, or the log's last lines where it has none.

    Of an end in native code the lines that say why are shown: under them is a long stack.

    Args:
        log: The file.
        start: Where to begin in it, in bytes.
    """
    lines = _tail(log, start)
    trace = _last_traceback(lines)
    native = _native_end(lines, 0 if trace is None else trace)
    if trace is None and native:
        return native
    if trace is None:
        return tuple([line for line in lines if not is_premature_log(line)][-_PLAIN_LINES:])
    end = _exception_line(lines, trace)
    if end is None:  # cut off: the process was killed while it wrote
        return (_TRACEBACK, *lines[trace + 1 :][-_PLAIN_LINES:])
    frames = _telling_frames([line for line in lines[trace + 1 : end] if line.strip()])
    shown = [_TRACEBACK]
    message = [line for line in lines[end:] if line.strip() and not _NODE.match(line)]
    if native:
        message = [line for line in message if line not in native]
    shown += frames + message[:_MESSAGE_LINES]
    if len(message) > _MESSAGE_LINES:
        shown.append("...")
    return (*shown, *native)


def _telling_frames(lines: Sequence[str]) -> list[str]:
    """The last frames of a traceback, and the last one of the user's program."""
    if len(lines) <= _FRAME_LINES:
        return list(lines)
    frames: list[list[str]] = []
    for line in lines:
        if not frames or line.startswith('  File "'):
            frames.append([])
        frames[-1].append(line)
    own = [number for number, frame in enumerate(frames) if not is_library(_file_of(frame[0]))]
    shown, room = [own[-1]] if own else [], _FRAME_LINES
    room -= sum(len(frames[number]) for number in shown)
    for number in range(len(frames) - 1, -1, -1):
        if number in shown:
            continue
        room -= len(frames[number])
        if room < 0 and shown:
            break
        shown.append(number)
    told: list[str] = []
    last = -1
    for number in sorted(shown):
        told += ["  ..."] * (number > last + 1) + frames[number]
        last = number
    return told + ["  ..."] * (last < len(frames) - 1)


def _file_of(line: str) -> str:
    return line.partition('"')[2].partition('"')[0]


def _native_end(lines: Sequence[str], begin: int) -> tuple[str, ...]:
    """What is said of an end in native code, after a line; and where in Python it was."""
    says = [number for number in range(begin, len(lines)) if _NATIVE_END.match(lines[number])]
    shown = [lines[number] for number in says[:_NATIVE_LINES]]
    for number in range(says[0] if says else len(lines), len(lines)):
        if lines[number].startswith(("Current thread ", "Stack (most recent call first)")):
            return (*shown, *lines[number : number + _NATIVE_LINES])
    return tuple(shown)


def _order(result: TaskResult) -> tuple[int, bool, float]:
    rank = _rank(result)
    # Servers end by the chief's last word, just before the chief itself has ended.
    return rank, rank > 1 and result.task.type != "chief", result.ended


def _rank(result: TaskResult) -> int:
    if result.lost:
        return 0
    if result.returncode == TaskLost.exit_code:
        return 3 if result.stopped else 2
    if result.stopped:
        return 1 if _own_error(result) else 3
    error = _last_error(result)
    return 2 if result.returncode > 0 and error in _LOST_ANOTHER else 0


def _own_error(result: TaskResult) -> str:
    """The class of the error that ended the log, where no other task and nobody else caused it."""
    error = _last_error(result)
    return "" if error in _LOST_ANOTHER | _ENDED_BY_US else error


def _last_error(result: TaskResult) -> str:
    """The class of the exception that ended the log, without its module; "" where there is none."""
    lines = _tail(result.log, result.log_start)
    start = _last_traceback(lines)
    end = None if start is None else _exception_line(lines, start)
    if end is None or len(lines) - end > _LAST_ERROR_LINES:  # it went on after that
        return ""
    return lines[end].partition(":")[0].strip().rpartition(".")[2]


def _last_traceback(lines: Sequence[str]) -> int | None:
    # It may stand behind a progress bar that had not ended its line.
    starts = [number for number, line in enumerate(lines) if line.endswith(_TRACEBACK)]
    return starts[-1] if starts else None


def _exception_line(lines: Sequence[str], start: int) -> int | None:
    """The line after the frames: `package.Error: message`."""
    for number in range(start + 1, len(lines)):
        if re.match(r"[A-Za-z_][\w.]*(:|$)", lines[number]):
            return number
    return None


def _tail(log: Path, start: int = 0) -> list[str]:
    """The log's last lines as a terminal would show them, empty ones at the end left out."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(start, size - _TAIL_BYTES))
            data = file.read()
    except OSError:
        return []
    line = TerminalLine()
    lines = _without_ignored(line.feed(data) + line.finish())
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def _without_ignored(lines: list[str]) -> list[str]:
    """Leaves out what Python says of errors that end nothing, in a destructor as it shuts down."""
    kept: list[str] = []
    number = 0
    while number < len(lines):
        follows = number + 1 < len(lines) and lines[number + 1] == _TRACEBACK
        end = _exception_line(lines, number + 1) if follows else None
        if end is not None and lines[number].startswith("Exception ignored in"):
            number = end
        else:
            kept.append(lines[number])
        number += 1
    return kept
