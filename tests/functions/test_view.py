"""The bar of a job, its tasks' lines, and what the launcher says in Python's words."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType

from tfdist.cluster import Task
from tfdist.functions.screens import find_screen
from tfdist.functions.view import LastLook, View, in_python
from tfdist.launch import JobResult, TaskResult
from tfdist.launch.live import LiveView
from tfdist.progress import JobProgress, Record

TASKS = ("worker:0", "worker:1")


class Told:
    """What tasks tell, as a job hears it, by a clock of its own."""

    def __init__(self, seen: LastLook) -> None:
        self.now = 100.0
        self._live = LiveView([seen], now=lambda: self.now)
        self._live.progress = JobProgress(TASKS, "worker:0")
        for task in TASKS:
            self._live.began(task)

    def tell(self, task: str, after: float = 1.0, **about: Any) -> None:
        self.now += after
        known = {"fit": 1, "phase": "compute", "epochs": 2, "steps": 40, "batch": 32}
        line = Record(self.now, **{**known, **about}).to_line()
        self._live.hear(task, line, here=True)
        self._live.look()


class Paper:
    """A screen that keeps its last picture as text."""

    text, width = "", 100

    def show(self, picture: RenderableType) -> None:
        console = Console(file=io.StringIO(), width=self.width, record=True, color_system=None)
        console.print(picture)
        self.text = console.export_text()

    def close(self) -> None:
        self.text += "closed"

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.text.splitlines()]


def make(**options: Any) -> tuple[View, Told, Paper]:
    seen, paper = LastLook(), Paper()
    view = View(TASKS, "worker:0", seen, paper, **options)
    return view, Told(seen), paper


def result(*codes: int) -> JobResult:
    tasks = [
        TaskResult(Task("worker", n), code, Path("log"), 0.0, 1.0) for n, code in enumerate(codes)
    ]
    return JobResult(tuple(tasks), max(codes), Path("logs"))


def test_the_bar_counts_the_chiefs_steps_over_all_epochs() -> None:
    view, told, paper = make()
    told.tell("worker:0", epoch=1, step=10)
    told.tell("worker:0", epoch=1, step=20, logs={"loss": 0.25, "accuracy": 1.0})
    told.tell("worker:1", after=0.0, epoch=0, step=1)
    view.refresh()
    assert paper.lines[0].startswith("epoch 2/2 ━")
    assert "step 20/40, 320 examples/s, loss 0.25, accuracy 1, 0:02 left" in paper.lines[0]
    assert len(paper.lines[0]) == 100  # the bar has what the words leave
    assert paper.lines[0].count("━") == 21  # of 29


def test_a_narrow_screen_shows_where_it_is_before_all_else() -> None:
    view, told, paper = make()
    told.tell("worker:0", epoch=1, step=20, logs={"loss": 0.25, "accuracy": 1.0})
    paper.width = 40
    view.refresh()
    assert paper.lines[0].startswith("epoch 2/2 step 20/40, loss 0.25, accura")


def test_nothing_of_one_training_is_shown_of_the_next() -> None:
    view, told, paper = make()
    told.tell("worker:0", epoch=1, step=40)
    told.tell("worker:0", fit=2, epochs=1, steps=None, batch=None, step=7)
    view.refresh()
    assert paper.lines[0].startswith("epoch 1/1 ━")
    assert paper.lines[0].endswith("step 7")
    assert paper.lines[0].count("━") == 40  # of an unknown length: it moves


def test_the_last_word_of_the_tasks_stays() -> None:
    view, told, paper = make()
    told.tell("worker:0", phase="", epoch=1, step=40)
    view.end(result(0, 0))
    assert paper.lines[0] == "done " + "━" * 40 + " step 40/40"


def test_each_task_shows_its_last_line_and_how_it_ended() -> None:
    view, _, paper = make()
    view.feed("worker:0", b"first\nsecond\n")
    view.feed("worker:1", b"1/2\r2/2 half a line")
    view.say("starting worker:0, worker:1\nmore")
    assert paper.lines[1:4] == [
        "● worker:0 second",
        "● worker:1 2/2 half a line",
        "starting worker:0, worker:1",
    ]
    view.finish("worker:1")
    view.say("again")
    assert paper.lines[2].startswith("○ worker:1")
    view.feed("worker:1", b"\n")
    view.say("again")
    assert paper.lines[2].startswith("● worker:1")
    view.end(result(0, 1))
    assert paper.lines[1:3] == ["✓ worker:0 second", "✗ worker:1 2/2 half a line"]
    assert paper.lines[-1] == "closed"


@pytest.mark.parametrize(
    ("codes", "word"), [((0, 0), "done"), ((0, 1), "failed"), ((1, 1), "failed"), (None, "stopped")]
)
def test_a_job_that_has_ended_does_not_run(codes: tuple[int, int] | None, word: str) -> None:
    view, _, paper = make()
    view.end(codes and result(*codes))
    assert paper.lines[0].startswith(word)
    assert "running" not in paper.text


def test_a_warning_of_the_launchers_stays() -> None:
    view, _, paper = make()
    view.say("OTHER HOSTS can reach this job")
    view.say("NO STRATEGY was made by worker:0")
    view.say("all tasks ended well")
    assert paper.lines[3:] == [
        "OTHER HOSTS can reach this job",
        "NO STRATEGY was made by worker:0",
        "all tasks ended well",
    ]


def test_the_chiefs_lines_are_printed_where_asked(capsys: pytest.CaptureFixture[str]) -> None:
    view, _, _ = make(prints=True)
    view.feed("worker:0", b"a line\n")
    view.feed("worker:1", b"another\n")
    assert capsys.readouterr().out == "a line\n"


def test_a_long_line_is_cut_and_never_its_tasks_name() -> None:
    view, _, paper = make()
    view.feed("worker:0", b"x" * 300)
    view.say("done")
    assert paper.lines[1] == "● worker:0 " + "x" * 88 + "…"


def test_a_markup_in_a_line_is_shown_as_it_is() -> None:
    view, _, paper = make()
    view.feed("worker:0", b"[red]loss[/red] [0, 1]\n")
    view.say("done")
    assert paper.lines[1] == "● worker:0 [red]loss[/red] [0, 1]"


def test_the_launchers_words_are_those_of_python() -> None:
    said = in_python("or run it with --plug; give --isolate on (--isolate off leaves it so)")
    assert said == 'or run it with plug=True; give isolate="on" (isolate="off" leaves it so)'


def test_a_stream_that_is_no_terminal_has_no_screen() -> None:
    assert find_screen() is None
    assert find_screen(asked_for=True) is not None
