"""What the bar draws, on terminals of any width, in any encoding, and what becomes of lines."""

from __future__ import annotations

import dataclasses
import io
import re

import pytest

from tfdist.launch.live.job_bar import JobBar, _Terminal, picture
from tfdist.launch.live.progress_wording import duration, job_line
from tfdist.launch.output import Console
from tfdist.progress import JobView, PhaseSeconds, Record, TaskView

RECORD = Record(1.0, fit=1, phase="compute", epoch=1, epochs=5, step=120, steps=200, batch=64,
                logs={"accuracy": 0.9, "loss": 0.31214})  # fmt: skip
SHARES = PhaseSeconds(2, 70, 20, 7, 1).shares()
TASKS = (
    TaskView("worker:0", "trains", "", SHARES, RECORD),
    TaskView("worker:1", "lags", "by its input", PhaseSeconds(60, 40).shares(), RECORD),
    TaskView("worker:2", "failed", "was ended by SIGKILL"),
    TaskView("worker:3", "starts"),
)
VIEW = JobView(RECORD, 320, 1000, 100.0, 6.8, TASKS)


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def console(width: int, out: io.StringIO | None = None) -> _Terminal:
    return _Terminal(
        file=out or Terminal(), width=width, height=24, force_terminal=True, color_system=None
    )


def drawn(view: JobView, width: int, is_plain: bool = False) -> list[str]:
    terminal = console(width)
    with terminal.capture() as captured:
        terminal.print(picture(view, width, is_plain))
    return [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in captured.get().splitlines()]


def test_the_job_is_over_its_tasks() -> None:
    head, *tasks = drawn(VIEW, 110)
    assert re.fullmatch(
        r"epoch 2/5 [━╺╸ ]+ step 120/200 · 6,400 examples/s · loss 0.3121, accuracy 0.9 · "
        r"0:07 left",
        head,
    )
    assert tasks == [
        "  worker:0 input 2 %, compute 70 %, exchange 20 %, callbacks 7 %, save 1 %",
        "! worker:1 lags by its input (input 60 %, compute 40 %)",
        "✗ worker:2 was ended by SIGKILL",
        "  worker:3 starts",
    ]


def test_epochs_of_one_step_are_not_told_twice() -> None:
    """As the iterations of L-BFGS, or of a dataset of one batch."""
    record = dataclasses.replace(RECORD, step=1, steps=1, epoch=11, epochs=50, batch=None)
    head, *_ = drawn(JobView(record, 12, 50, 0.5, 76.0, ()), 110)
    assert re.fullmatch(
        r"epoch 12/50 [━╺╸ ]+ 0\.5 steps/s · loss 0\.3121, accuracy 0\.9 · 1:16 left", head
    )


@pytest.mark.parametrize("width", [20, 40, 60])
def test_a_narrow_terminal_is_not_left(width: int) -> None:
    lines = drawn(VIEW, width)
    assert len(lines) == 5
    assert max(map(len, lines)) <= width
    assert lines[0].startswith("epoch 2/5")


def test_a_terminal_that_knows_ascii_alone_gets_that() -> None:
    tasks = "\n".join(drawn(VIEW, 110, is_plain=True)[1:])
    assert tasks.isascii()
    assert "! worker:2 was ended" in tasks


def test_of_many_tasks_the_odd_ones_are_shown() -> None:
    many = [TaskView(f"worker:{n}", "trains", "", SHARES, RECORD) for n in range(40)]
    many[33] = TaskView("worker:33", "silent", "says nothing for 9 s", SHARES, RECORD)
    lines = drawn(JobView(RECORD, 320, 1000, None, None, tuple(many)), 100)
    assert len(lines) == 10
    assert any(re.match("✗ worker:33 +says nothing for 9 s", line) for line in lines)
    assert lines[-1].strip() == "and 32 more"


def test_without_a_length_there_is_no_bar() -> None:
    record = Record(1.0, fit=1, phase="input", epoch=0, epochs=3, step=7)
    (line,) = drawn(JobView(record, 7, None, 3.5, None, ()), 80)
    assert line == "epoch 1/3 step 7 · 3.5 steps/s"


def test_lines_go_above_it() -> None:
    out = Terminal()
    bar = JobBar(out, console(80, out))
    shown = Console(
        ["worker:0"], live=None, out=out, err=out, foot=bar, terminal=True, colours=False
    )
    shown.feed("worker:0", b"before\n")
    bar.look(VIEW, 0.0)
    shown.refresh()
    text = out.getvalue()
    assert text.startswith("[worker:0] before\n")
    assert "epoch 2/5" in text
    bar._drawn_at = 0.0
    shown.feed("worker:0", b"after\n")
    after = out.getvalue()[len(text) :]
    assert after.index("\x1b[2K") < after.index("after\n") < after.index("epoch 2/5")
    assert after.count("epoch 2/5") == 1
    bar.close(VIEW, 0.0)
    shown.close()
    assert out.getvalue().endswith("\x1b[1A\x1b[2K")  # it is gone
    assert "\x1b[?25l" not in out.getvalue()


def test_before_any_training_the_chiefs_own_line_is_shown() -> None:
    out = Terminal()
    bar = JobBar(out, console(80, out))
    shown = Console(["worker:0"], live="worker:0", out=out, err=out, foot=bar, terminal=True)
    shown.feed("worker:0", b"loading 1/3")
    assert out.getvalue().endswith("loading 1/3")
    bar.look(VIEW, 0.0)
    shown.refresh()
    assert out.getvalue().count("loading") == 1
    assert "epoch 2/5" in out.getvalue()


def test_a_terminal_that_has_gone_ends_the_bar_alone() -> None:
    class Gone(Terminal):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    out = Gone()
    bar = JobBar(out, console(80, out))
    bar.look(VIEW, 0.0)
    bar.draw()
    assert not bar.is_there()
    bar.erase()


def test_a_line_says_it_all() -> None:
    assert job_line(VIEW) == (
        "epoch 2/5, step 120/200, 6,400 examples/s, loss 0.3121, accuracy 0.9, 0:07 left; "
        "worker:1 lags by its input (input 60 %, compute 40 %); worker:2 was ended by SIGKILL"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (6.8, "0:07"), (750, "12:30"), (10860, "3:01:00"), (400000, "4 days")],
)
def test_times_are_read_at_a_glance(seconds: float, text: str) -> None:
    assert duration(seconds) == text
