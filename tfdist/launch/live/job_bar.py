"""The bar of a job at the foot of a terminal, and a line for each of its tasks; drawn by rich."""

from __future__ import annotations

import math
import time
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tfdist.launch.failure import TaskResult
from tfdist.launch.live.live_view import Watcher
from tfdist.launch.live.progress_wording import figures, place, shares_text, task_text
from tfdist.progress import JobView, TaskView

__all__ = ["JobBar", "picture"]

_MOST_TASKS = 8
_SHORTEST_BAR, _LONGEST_BAR = 8, 30
_STYLES = {
    "lags": "yellow",
    "waits": "yellow",
    "busy": "yellow",
    "silent": "bold red",
    "failed": "bold red",
}
_MARKS = {"lags": "!", "waits": "!", "busy": "!", "silent": "✗", "failed": "✗", "ended": "✓"}
_REDRAW_SECONDS = 0.1


class _Terminal(Console):
    """Leaves the cursor alone: a launcher that is killed could not show it again."""

    def show_cursor(self, show: bool = True) -> bool:
        return False


class JobBar(Watcher):
    """Draws a job at the foot of a terminal, from its first training on.

    Args:
        out: the terminal.
        console: rich's, for it.
    """

    def __init__(self, out: TextIO, console: Console | None = None) -> None:
        self._console = console or _Terminal(file=out, highlight=False, markup=False, emoji=False)
        self._view: JobView | None = None
        self._drawn: JobView | None = None
        self._drawn_at = 0.0
        self._live: Live | None = None
        self._is_broken = False

    def ended(self, task: str, result: TaskResult) -> None:
        """What has become of a task is drawn at once: the job may end, too; see `Watcher`."""
        self._drawn_at = -math.inf

    def look(self, view: JobView, now: float) -> None:
        """See `Watcher`."""
        self._view = view if view.record is not None else None
        if self._drawn_at == -math.inf and self.is_there():
            self.draw()

    def close(self, view: JobView, now: float) -> None:
        """Leaves nothing behind; see `Watcher`."""
        self._view = None
        self.erase()

    # ------------------------------------------------------------ at the foot of the console

    def is_there(self) -> bool:
        """Whether any task has begun to train."""
        return self._view is not None and not self._is_broken

    def draw(self) -> None:
        """Draws it, where it has changed, some times a second."""
        now = time.monotonic()
        if self._view is self._drawn or now < self._drawn_at + _REDRAW_SECONDS:
            return
        assert self._view is not None
        self._drawn, self._drawn_at = self._view, now
        try:
            if self._live is None:
                self._live = Live(
                    console=self._console,
                    auto_refresh=False,
                    transient=True,
                    redirect_stdout=False,
                    redirect_stderr=False,
                )
                self._live.start()
            is_plain = not self._console.encoding.lower().startswith("utf")
            view = picture(self._view, self._console.width, is_plain)
            self._live.update(view, refresh=True)
        except (OSError, ValueError):  # the terminal has gone: the job goes on without
            self._is_broken = True

    def erase(self) -> None:
        """Makes room for lines."""
        live, self._live, self._drawn = self._live, None, None
        if live is not None:
            try:
                live.update(Text(""))  # it draws once more
                live.stop()
            except (OSError, ValueError):
                self._is_broken = True


def picture(view: JobView, width: int, is_plain: bool = False) -> RenderableType:
    """The job's line over those of its tasks.

    Args:
        view: what there is to see.
        width: columns of the terminal.
        is_plain: whether it has ASCII's characters alone.
    """
    marks = dict.fromkeys(_MARKS, "!") if is_plain else _MARKS
    where, numbers = place(view), (", " if is_plain else " · ").join(figures(view))
    left = min(_LONGEST_BAR, width - len(where) - len(numbers) - 2)
    lines: list[RenderableType] = [_line(where, f" {numbers}", "bold")]
    if view.total and left >= _SHORTEST_BAR:
        head = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=view.total, completed=view.done, width=left)
        head.add_row(Text(where, style="bold"), bar, numbers)
        lines = [head]
    shown = _most_telling(view.tasks)
    wide = max((len(one.name) for one in shown), default=0)
    for task in shown:
        start = f"{marks.get(task.state, ' ')} {task.name:{wide}} "
        lines.append(_line(start, _about(task), _STYLES.get(task.state, ""), is_whole=True))
    if more := len(view.tasks) - len(shown):
        lines.append(_line(f"  and {more} more", "", ""))
    return Group(*lines)


def _about(task: TaskView) -> str:
    text = task_text(task)
    if not task.shares or task.state in ("lags", "failed", "ended"):
        return text
    return shares_text(task) if task.state == "trains" else f"{text} ({shares_text(task)})"


def _line(start: str, rest: str, style: str, is_whole: bool = False) -> Text:
    """One line, cut where the terminal ends; the style is its start's or all of it."""
    line = Text(no_wrap=True, overflow="ellipsis")
    return line.append(start, style).append(rest, style if is_whole else "")


def _most_telling(tasks: tuple[TaskView, ...]) -> list[TaskView]:
    """Those that there is room for, in their order: odd ones before others."""
    if len(tasks) <= _MOST_TASKS:
        return list(tasks)
    odd = sorted(tasks, key=lambda one: one.state not in _STYLES)[:_MOST_TASKS]
    return [one for one in tasks if one in odd]
