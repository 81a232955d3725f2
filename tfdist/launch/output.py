"""Where the tasks' output goes: whole and raw to a log each, readable together to the console.

    a task's bytes ──► TaskLog       everything, byte by byte
                  └──► Console       off a terminal: "[worker:1] " before each finished line;
                       (or           on a terminal: the chief's unfinished line too, at the bottom
                       Passthrough)

Lines of two tasks never mix: a line is printed when it is finished. Only the task shown live (the
chief) may rewrite its line in place, and it makes room when another task, or the launcher, has one.
"""

from __future__ import annotations

import codecs
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, TextIO

from tfdist.errors import LaunchError
from tfdist.launch.plan import JobPlan
from tfdist.launch.terminal import TerminalLine, clip, is_premature_log, visible_width

__all__ = [
    "Console",
    "Display",
    "Foot",
    "Passthrough",
    "TaskLog",
    "display_for",
    "fresh_log_dir",
    "log_folder",
    "wants_colours",
]

_COLOURS = (36, 33, 35, 32, 34, 96, 93, 95, 92, 94)  # cyan, yellow, ...; then bright
_REDRAW_SECONDS = 0.05
_ERASE_LINE = "\r\x1b[K"


def display_for(
    plan: JobPlan,
    environ: Mapping[str, str],
    out: TextIO,
    err: TextIO,
    prefix: bool,
    foot: Foot | None,
) -> Display:
    """Makes what shows a job.

    Args:
        plan: Its tasks here.
        environ: The variables that theirs come on top of.
        out: Where the tasks' output goes.
        err: Where the launcher's own lines go.
        prefix: Whether each line names its task.
        foot: What stands below all lines of a terminal.
    """
    if not prefix:
        return Passthrough(out=out, err=err)
    names = [str(task.task) for task in plan.tasks]
    level = plan.tasks[0].environ(environ).get("TF_CPP_MIN_LOG_LEVEL", "0")
    live = chief if (chief := str(plan.cluster.chief)) in names else names[0]
    quiet = level not in ("0", "1")
    return Console(names, live=live, out=out, err=err, quiet=quiet, foot=foot)


def is_terminal(stream: TextIO) -> bool:
    """Whether a stream is a terminal that can rewrite its line."""
    # A notebook gives its commands a terminal, and then keeps all that was ever on it.
    return _understands_escapes(stream) and "JPY_PARENT_PID" not in os.environ


def _understands_escapes(stream: TextIO) -> bool:
    try:
        return stream.isatty() and os.environ.get("TERM", "") != "dumb"
    except (AttributeError, ValueError):  # a notebook's stream; a closed one
        return False


def wants_colours(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether to colour what goes to a stream: a terminal, and NO_COLOR is not set."""
    return _understands_escapes(stream) and not environ.get("NO_COLOR")


def fresh_log_dir(parent: Path, now: float | None = None) -> Path:
    """Makes a new folder named by the time; two jobs of the same second get two folders.

    Args:
        parent: The folder that holds the logs of all jobs; made where it is missing.
        now: Seconds since the epoch.
    """
    own_folder(parent)
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(now))
    number = 1
    while True:
        folder = parent / (stamp if number == 1 else f"{stamp}_{number}")
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            number += 1
        else:
            return folder


def own_folder(path: Path) -> None:
    """Makes a folder, where it is missing, that only its owner can enter."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)


def log_folder(given: Path | None, parent: Path) -> Path:
    """Makes the folder for a job's logs.

    Args:
        given: Which; None for a fresh one.
        parent: Where a fresh one is made.

    Raises:
        LaunchError: It cannot be made.
    """
    try:
        if given is None:
            return fresh_log_dir(parent)
        own_folder(given)
    except OSError as error:
        raise LaunchError(
            f"log folder {given or Path.cwd() / parent} that cannot be made "
            f"({(error.strerror or str(error)).lower()}); give another one with --log_dir"
        ) from None
    return given


class TaskLog:
    """One task's log: a file with every byte that it wrote, standard error included, in order.

    Attributes:
        path: The file.
        error: Why the log was cut short; "" where it was not.
        start: Where the output of this process begins in the file, in bytes.
    """

    def __init__(self, path: Path, *, append: bool = False) -> None:
        """Opens the log.

        Args:
            path: The file.
            append: Whether to go on after what is there, as for a task that is started again, with
                a line between. Else what an earlier job left there is overwritten.
        """
        self.path = path
        self.error = ""
        self.start = 0
        how = os.O_APPEND if append else os.O_TRUNC
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | how, 0o600)
        self._file = os.fdopen(descriptor, "ab" if append else "wb", buffering=0)
        if append:
            self.write(b"\n[tfdist] started again\n")
            self.start = self._file.tell()

    def write(self, data: bytes) -> None:
        """Appends bytes. A disk that is full ends the log, not the job: see `error`."""
        if self.error:
            return
        view = memoryview(data)
        try:
            while view:
                view = view[self._file.write(view) or 0 :]
        except OSError as error:
            self.error = error.strerror or str(error)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class Display(Protocol):
    """What the job needs of whatever shows it."""

    def feed(self, task: str, data: bytes) -> None:
        """Takes the next bytes of a task."""

    def finish(self, task: str) -> None:
        """A task has ended: its last line may have no line end."""

    def say(self, text: str) -> None:
        """Shows the launcher's own words, a line or several."""

    def refresh(self) -> None:
        """Called often: shows what was held back to not flicker."""

    def close(self) -> None:
        """The job has ended."""


class _Stream:
    """A text stream that survives its reader and its encoding."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._broken = False

    def write(self, text: str) -> None:
        if self._broken or not text:
            return
        try:
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                encoding = self._stream.encoding or "ascii"
                self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
            self._stream.flush()
        except (OSError, ValueError):
            # `| head` has gone, or the terminal: the job and its logs go on without them.
            self._broken = True


class Foot(Protocol):
    """What stands below the lines of a terminal, and makes room for them."""

    def is_there(self) -> bool:
        """Whether there is anything to draw."""

    def draw(self) -> None:
        """Draws it, where it has changed; called often."""

    def erase(self) -> None:
        """Leaves nothing of it, and the cursor where it began."""


class Console:
    """Shows several tasks together, each line with its task in front."""

    def __init__(
        self,
        tasks: Sequence[str],
        *,
        live: str | None,
        out: TextIO,
        err: TextIO,
        quiet: bool = False,
        terminal: bool | None = None,
        colours: bool | None = None,
        foot: Foot | None = None,
    ) -> None:
        """Prepares the lines of all tasks.

        Args:
            tasks: The tasks' names.
            live: The task whose unfinished line is shown in place on a terminal: the chief.
            out: Where the tasks' lines go.
            err: Where the launcher's own lines go.
            quiet: Whether to leave out what TensorFlow was asked not to log (`is_premature_log`).
            foot: What stands below all lines of a terminal while there is anything, and then in
                place of the unfinished line.
            terminal: Whether `out` is a terminal; None asks it.
            colours: Whether the prefixes are coloured; None asks `out` and NO_COLOR.
        """
        self._terminal = is_terminal(out) if terminal is None else terminal
        coloured = wants_colours(out) if colours is None else colours
        self._out, self._err = _Stream(out), _Stream(err)
        self._lines = {task: TerminalLine(colours=self._terminal) for task in tasks}
        self._prefixes = {
            task: f"{_colour(number)}[{task}]\x1b[0m " if coloured else f"[{task}] "
            for number, task in enumerate(tasks)
        }
        self._quiet = quiet
        self._live = live if self._terminal else None
        self._foot = foot
        self._drawn = ""  # what stands in the live line now
        self._drawn_at = 0.0

    def feed(self, task: str, data: bytes) -> None:
        """Takes the next bytes of a task; prints the lines that they complete."""
        self._print(task, self._lines[task].feed(data))

    def finish(self, task: str) -> None:
        """A task has ended: prints its last line where that has no line end."""
        self._print(task, self._lines[task].finish())

    def say(self, text: str) -> None:
        """Prints the launcher's own lines, "[tfdist] " before each."""
        self._clear()
        self._err.write("".join(f"[tfdist] {line}\n" for line in text.split("\n")))
        self.refresh()

    def refresh(self) -> None:
        """Draws the live line anew where it has changed, at most 20 times a second."""
        if self._foot is not None and self._foot.is_there():
            self._erase_line()
            self._foot.draw()
            return
        if self._live is None or time.monotonic() < self._drawn_at + _REDRAW_SECONDS:
            return
        shown = self._lines[self._live].shown
        if not shown:
            self._erase_line()
            return
        prefix = self._prefixes[self._live]
        columns = shutil.get_terminal_size().columns - 1  # the last column would wrap on some
        line = prefix + clip(shown, max(1, columns - visible_width(prefix)))
        if line != self._drawn:
            self._out.write(_ERASE_LINE + line)
            self._drawn, self._drawn_at = line, time.monotonic()

    def close(self) -> None:
        """Leaves the cursor at the beginning of a line."""
        self._clear()

    def _print(self, task: str, lines: list[str]) -> None:
        if self._quiet:
            lines = [line for line in lines if not is_premature_log(line)]
        if lines:
            prefix = self._prefixes[task]
            self._clear()
            self._out.write("".join(f"{prefix}{line}\n" for line in lines))
        self.refresh()

    def _clear(self) -> None:
        if self._foot is not None:
            self._foot.erase()
        self._erase_line()

    def _erase_line(self) -> None:
        if self._drawn:
            self._out.write(_ERASE_LINE)
            self._drawn, self._drawn_at = "", 0.0


def _colour(number: int) -> str:
    return f"\x1b[{_COLOURS[number % len(_COLOURS)]}m"


class Passthrough:
    """Shows one task as it is, without a prefix: `tfdist run --task`, a machine's only task."""

    def __init__(self, *, out: TextIO, err: TextIO) -> None:
        """Prepares the streams.

        Args:
            out: Where the task's output goes.
            err: Where the launcher's own lines go.
        """
        self._out, self._err = _Stream(out), _Stream(err)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._at_line_start = True

    def feed(self, task: str, data: bytes) -> None:
        """Shows the next bytes at once."""
        text = self._decoder.decode(data)
        if text:
            self._out.write(text)
            self._at_line_start = text.endswith("\n")

    def finish(self, task: str) -> None:
        """Shows what is left of a character that was cut in two."""
        self._out.write(self._decoder.decode(b"", final=True))

    def say(self, text: str) -> None:
        """Prints the launcher's own lines, "[tfdist] " before each, each on a line of its own."""
        start = "" if self._at_line_start else "\n"
        self._at_line_start = True
        self._err.write(start + "".join(f"[tfdist] {line}\n" for line in text.split("\n")))

    def refresh(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing is left to show."""
