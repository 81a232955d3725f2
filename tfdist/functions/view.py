"""One bar for a job, and each task's last line, drawn by rich wherever the caller looks.

a task's bytes  ──► TerminalLine ──► View ──► a Screen: a terminal or a notebook
its records ──► LiveView ──► LastLook ─┘
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from tfdist.launch.live import Watcher
from tfdist.launch.live.progress_wording import figures, place
from tfdist.launch.output import Display
from tfdist.launch.result import JobResult
from tfdist.launch.terminal import TerminalLine, is_premature_log
from tfdist.progress import JobView

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["InPython", "LastLook", "Screen", "Silence", "View", "in_python"]

_DRAW_SECONDS = 0.2
_LONGEST_BAR = 40
_MARKS = {
    "runs": ("●", "cyan"),
    "gone": ("○", "dim"),
    "ended": ("✓", "green"),
    "failed": ("✗", "red"),
}


class Screen(Protocol):
    """Where a view is drawn."""

    def show(self, picture: RenderableType) -> None:
        """Puts a picture in the place of the one before."""

    def close(self) -> None:
        """The last picture stays."""


class Silence:
    """A `launch.output.Display` that shows nothing; the logs have it all."""

    def feed(self, task: str, data: bytes) -> None:
        """Drops it."""

    def finish(self, task: str) -> None:
        """Nothing is held back."""

    def say(self, text: str) -> None:
        """Drops it."""

    def refresh(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing is left to show."""


class InPython:
    """A display to which the launcher's options are spelt as `tfdist.run` takes them.

    Example:
        >>> in_python("run it with --plug, or --isolate off")
        'run it with plug=True, or isolate="off"'
    """

    def __init__(self, display: Display) -> None:
        self._display = display

    def feed(self, task: str, data: bytes) -> None:
        """See `Display`."""
        self._display.feed(task, data)

    def finish(self, task: str) -> None:
        """See `Display`."""
        self._display.finish(task)

    def say(self, text: str) -> None:
        """See `Display`."""
        self._display.say(in_python(text))

    def refresh(self) -> None:
        """See `Display`."""
        self._display.refresh()

    def close(self) -> None:
        """See `Display`."""
        self._display.close()


def in_python(text: str) -> str:
    """What the launcher says, with the options of `tfdist run` spelt as those of `tfdist.run`."""
    text = text.replace("has run the whole script by itself", "has called the function by itself")
    text = text.replace("make tfdist.strategy() at its top", "make tfdist.strategy() in it")
    text = text.replace("--plug", "plug=True")
    return re.sub(r"--([a-z_]+) (on|off)\b", r'\1="\2"', text)


class LastLook(Watcher):
    """Keeps what there is to see of a job.

    Attributes:
        job: The newest; None before the first look.
    """

    job: JobView | None = None

    def look(self, view: JobView, now: float) -> None:
        """See `Watcher`."""
        self.job = view

    def close(self, view: JobView, now: float) -> None:
        """See `Watcher`."""
        self.job = view


class View:
    """A `launch.output.Display` that shows how far a job has come."""

    def __init__(
        self,
        tasks: Sequence[str],
        chief: str,
        seen: LastLook,
        screen: Screen,
        *,
        prints: bool = False,
    ) -> None:
        """Prepares it.

        Args:
            tasks: The tasks' names.
            chief: Whose lines may be printed.
            seen: Knows how far the job has come.
            screen: Where it is drawn.
            prints: Whether the chief's lines are printed, too, as they come.
        """
        self._chief, self._seen, self._screen, self._prints = chief, seen, screen, prints
        self._now = {task: TerminalLine() for task in tasks}
        self._last = dict.fromkeys(tasks, "")
        self._marks = dict.fromkeys(tasks, "runs")
        self._said = ""
        self._warnings: list[str] = []
        self._drawn = 0.0
        self._outcome = ""  # of a job that has ended

    def feed(self, task: str, data: bytes) -> None:
        """Takes the next bytes of a task, which may have been started again."""
        self._marks[task] = "runs"
        self._take(task, self._now[task].feed(data))

    def finish(self, task: str) -> None:
        """A task has ended."""
        self._take(task, self._now[task].finish())
        self._marks[task] = "gone"

    def say(self, text: str) -> None:
        """Keeps the launcher's last word, and its warnings, which begin with a word in capitals."""
        first = text.partition("\n")[0]
        if first.partition(" ")[0].isupper():
            self._warnings.append(first)
        else:
            self._said = first
        self._draw()

    def refresh(self) -> None:
        """Draws what has changed, a few times a second."""
        if time.monotonic() >= self._drawn + _DRAW_SECONDS:
            self._draw()

    def close(self) -> None:
        """The job has ended; `end` will tell how."""

    def end(self, result: JobResult | None) -> None:
        """Draws it as it ended, for good.

        Args:
            result: How; None where nobody knows.
        """
        for one in result.tasks if result else ():
            self._marks[str(one.task)] = "failed" if one.returncode else "ended"
        self._outcome = "stopped" if result is None else "failed" if result.returncode else "done"
        self._draw()
        self._screen.close()

    def _take(self, task: str, lines: Sequence[str]) -> None:
        for line in lines:
            if line.strip() and not is_premature_log(line):
                self._last[task] = line.strip()
                if self._prints and task == self._chief:
                    sys.stdout.write(f"{line}\n")

    def _bar(self) -> RenderableType:
        from rich.progress_bar import ProgressBar
        from rich.table import Column, Table
        from rich.text import Text

        job = self._seen.job or JobView(None, 0, None, None, None, ())
        where = self._outcome or place(job) or "running"
        total = job.total
        if total is None and self._outcome:
            total = 1  # a bar without an end would move for ever
        line = Table.grid(
            Column(no_wrap=True, min_width=len(where)),
            Column(max_width=_LONGEST_BAR),  # of what the words leave
            Column(no_wrap=True),
            padding=(0, 1),
        )
        bar = ProgressBar(total=total, completed=job.done)
        line.add_row(where, bar, Text(", ".join(figures(job)), style="dim"))
        return line

    def _draw(self) -> None:
        from rich.console import Group
        from rich.text import Text

        self._drawn = time.monotonic()
        widest = max(map(len, self._marks))
        lines = []
        for task, state in self._marks.items():
            mark, style = _MARKS[state]
            last = self._now[task].shown.strip() or self._last[task]
            line = Text.assemble((mark, style), f" {task:<{widest}} ", (last, "dim"))
            line.no_wrap, line.overflow = True, "ellipsis"
            lines.append(line)
        warnings = [Text(one, style="yellow") for one in self._warnings]
        said = Text(self._said, style="dim", no_wrap=True, overflow="ellipsis")
        self._screen.show(Group(self._bar(), *lines, *warnings, said))
