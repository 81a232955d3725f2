"""The bar of a job, its tasks' lines, and what the launcher says in Python's words."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType

from tfdist.cluster import Task
from tfdist.functions.job_steps import Rate, StepsOfChief
from tfdist.functions.screens import find_screen
from tfdist.functions.view import View, in_python
from tfdist.launch import JobResult, TaskResult
from tfdist.steps_told import Steps


class Told:
    """What tasks would have told."""

    def __init__(self) -> None:
        self.steps: dict[str, Steps] = {}

    def newest(self) -> dict[str, Steps]:
        return self.steps


class Paper:
    """A screen that keeps its last picture as text."""

    text = ""

    def show(self, picture: RenderableType) -> None:
        console = Console(file=io.StringIO(), width=100, record=True, color_system=None)
        console.print(picture)
        self.text = console.export_text()

    def close(self) -> None:
        self.text += "closed"

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.text.splitlines()]


def make(**options: Any) -> tuple[View, Told, Paper]:
    told, paper = Told(), Paper()
    steps = StepsOfChief(told, "worker:0")  # type: ignore[arg-type]
    view = View(["worker:0", "worker:1"], "worker:0", steps, paper, **options)
    return view, told, paper


def look(view: View) -> None:
    time.sleep(0.21)
    view.refresh()


def result(*codes: int) -> JobResult:
    tasks = [
        TaskResult(Task("worker", n), code, Path("log"), 0.0, 1.0) for n, code in enumerate(codes)
    ]
    return JobResult(tuple(tasks), max(codes), Path("logs"))


def test_the_bar_counts_the_chiefs_steps_over_all_epochs() -> None:
    view, told, paper = make()
    told.steps["worker:0"] = Steps(9.0, epoch=1, epochs=2, step=10, steps=40, rows=32)
    look(view)
    told.steps["worker:0"] = Steps(
        10.0, epoch=1, epochs=2, step=20, steps=40, rows=32, logs={"loss": 0.25, "other": 1.0}
    )
    told.steps["worker:1"] = Steps(10.0, epoch=0, epochs=2, step=1, steps=40)
    look(view)
    assert paper.lines[0].startswith("epoch 2/2 ━")
    assert "20/40 320 examples/s, loss 0.2500" in paper.lines[0]
    assert paper.lines[0].count("━") == 30  # of 40
    assert view._progress.tasks[0].percentage == 75


def test_an_epoch_of_unknown_length_shows_its_steps() -> None:
    view, told, paper = make()
    told.steps["worker:0"] = Steps(1.0, step=7)
    look(view)
    assert "7/?" in paper.lines[0]


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
    view.end(result(0, 1))
    assert paper.lines[1:3] == ["✓ worker:0 second", "✗ worker:1 2/2 half a line"]
    assert paper.lines[-1] == "closed"


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


def test_the_rate_leaves_out_what_is_no_training() -> None:
    rate = Rate()
    for at, epoch, step in [(0, 0, 0), (8, 0, 1), (9, 0, 11), (20, 1, 10), (21, 1, 30)]:
        rate.take(Steps(float(at), epoch=epoch, step=step, steps=40, rows=10))
    assert rate.examples == 200


def test_the_launchers_words_are_those_of_python() -> None:
    said = in_python("or run it with --plug; give --isolate on (--isolate off leaves it so)")
    assert said == 'or run it with plug=True; give isolate="on" (isolate="off" leaves it so)'


def test_a_stream_that_is_no_terminal_has_no_screen() -> None:
    assert find_screen() is None
    assert find_screen(asked_for=True) is not None
