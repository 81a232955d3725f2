"""One bar for a job, and each task's last line, drawn by rich wherever the caller looks.

a task's bytes ──► TerminalLine ──► View ──► a Screen: a terminal or a notebook
a StepsSource  ─────────────────────┘
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from tfdist.functions.job_steps import StepsSource
from tfdist.launch.output import Display
from tfdist.launch.result import JobResult
from tfdist.launch.terminal import TerminalLine, is_premature_log

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["InPython", "Screen", "Silence", "View", "in_python"]

_LOOK_SECONDS = 0.2
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


class View:
    """A `launch.output.Display` that shows how far a job has come."""

    def __init__(
        self,
        tasks: Sequence[str],
        chief: str,
        steps: StepsSource,
        screen: Screen,
        *,
        prints: bool = False,
    ) -> None:
        """Prepares it.

        Args:
            tasks: The tasks' names.
            chief: Whose lines may be printed.
            steps: Knows how far the job has come.
            screen: Where it is drawn.
            prints: Whether the chief's lines are printed, too, as they come.
        """
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._chief, self._steps, self._screen, self._prints = chief, steps, screen, prints
        self._now = {task: TerminalLine() for task in tasks}
        self._last = dict.fromkeys(tasks, "")
        self._marks = dict.fromkeys(tasks, "runs")
        self._said = ""
        self._warnings: list[str] = []
        self._looked = 0.0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[done]}"),
            TextColumn("{task.fields[told]}", style="dim"),
            TimeRemainingColumn(compact=True),
            auto_refresh=False,
        )
        self._bar = self._progress.add_task("running", total=None, done="", told="")

    def feed(self, task: str, data: bytes) -> None:
        """Takes the next bytes of a task."""
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
        if time.monotonic() >= self._looked + _LOOK_SECONDS:
            self._look()
            self._draw()

    def close(self) -> None:
        """The job has ended; `end` will tell how."""
        self._look()

    def end(self, result: JobResult | None) -> None:
        """Draws it as it ended, for good.

        Args:
            result: How; None where nobody knows.
        """
        for one in result.tasks if result else ():
            self._marks[str(one.task)] = "failed" if one.returncode else "ended"
        if result is not None and result.returncode == 0:
            self._progress.update(self._bar, description="done")
        self._draw()
        self._screen.close()

    def _take(self, task: str, lines: Sequence[str]) -> None:
        for line in lines:
            if line.strip() and not is_premature_log(line):
                self._last[task] = line.strip()
                if self._prints and task == self._chief:
                    sys.stdout.write(f"{line}\n")

    def _look(self) -> None:
        self._looked = time.monotonic()
        steps = self._steps.newest()
        if steps is None:
            return
        rate = steps.examples_per_second
        told = [f"{rate:,.0f} examples/s"] if rate else []
        told += [f"{name} {value:.4f}" for name, value in steps.metrics.items()]
        self._progress.update(
            self._bar,
            description=steps.doing,
            total=steps.total,
            completed=steps.done,
            done=steps.epoch_done,
            told=", ".join(told),
        )

    def _draw(self) -> None:
        from rich.console import Group
        from rich.text import Text

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
        self._screen.show(Group(self._progress.get_renderable(), *lines, *warnings, said))
