"""The tasks' output: readable together on the console, whole in the logs."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest

from tfdist.launch.output import Console, Passthrough, TaskLog, fresh_log_dir, wants_colours

TASKS = ("worker:0", "worker:1")


class Screen(io.StringIO):
    """A terminal's screen: knows line ends, "erase this line", and colours that take no room."""

    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        text = re.sub(r"\x1b\[[0-9;]*m", "", self.getvalue())
        return [line.rpartition("\r\x1b[K")[2] for line in text.split("\n")]


def console(out: io.StringIO, err: io.StringIO | None = None, **options: Any) -> Console:
    return Console(TASKS, live="worker:0", out=out, err=err or out, **options)


@pytest.fixture(autouse=True)
def _a_terminal_of_forty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("tfdist.launch.output._REDRAW_SECONDS", 0.0)


def test_each_line_names_its_task() -> None:
    out = io.StringIO()
    shown = console(out)
    shown.feed("worker:1", b"one\ntwo\n")
    shown.feed("worker:0", b"three\n")
    assert out.getvalue() == "[worker:1] one\n[worker:1] two\n[worker:0] three\n"


def test_lines_of_two_tasks_never_mix() -> None:
    out = io.StringIO()
    shown = console(out)
    shown.feed("worker:0", b"begun ")
    shown.feed("worker:1", b"other\n")
    shown.feed("worker:0", b"ended\n")
    assert out.getvalue() == "[worker:1] other\n[worker:0] begun ended\n"


def test_off_a_terminal_a_progress_bar_is_one_line() -> None:
    out = io.StringIO()
    shown = console(out)
    for step in range(1, 4):
        shown.feed("worker:0", f"\r{step}/3".encode())
    shown.feed("worker:0", b"\n")
    assert out.getvalue() == "[worker:0] 3/3\n"


def test_a_last_line_without_an_end_is_shown_when_the_task_has_ended() -> None:
    out = io.StringIO()
    shown = console(out)
    shown.feed("worker:0", b"no end")
    shown.finish("worker:0")
    assert out.getvalue() == "[worker:0] no end\n"


def test_on_a_terminal_the_chiefs_bar_moves_in_place() -> None:
    screen = Screen()
    shown = console(screen)
    shown.feed("worker:0", b"\r1/3")
    assert screen.lines() == ["[worker:0] 1/3"]
    shown.feed("worker:0", b"\r2/3")
    assert screen.lines() == ["[worker:0] 2/3"]
    shown.feed("worker:0", b"\r3/3\n")
    assert screen.lines() == ["[worker:0] 3/3", ""]


def test_on_a_terminal_other_lines_go_above_the_chiefs_bar() -> None:
    screen = Screen()
    shown = console(screen)
    shown.feed("worker:0", b"\r1/3")
    shown.feed("worker:1", b"hello\n\r1/3")
    shown.say("two words")
    assert screen.lines() == ["[worker:1] hello", "[tfdist] two words", "[worker:0] 1/3"]


def test_a_bar_wider_than_the_terminal_is_clipped_while_it_moves_and_whole_at_its_end() -> None:
    screen = Screen()
    shown = console(screen)
    shown.feed("worker:0", b"=" * 60)
    assert screen.lines() == ["[worker:0] " + "=" * 28]  # one column less than there are
    shown.feed("worker:0", b"\n")
    assert screen.lines() == ["[worker:0] " + "=" * 60, ""]


def test_the_bar_is_not_drawn_more_often_than_one_can_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tfdist.launch.output._REDRAW_SECONDS", 60.0)
    screen = Screen()
    shown = console(screen)
    for step in range(100):
        shown.feed("worker:0", f"\r{step}".encode())
    assert screen.getvalue().count("\r") == 1


def test_each_task_has_its_colour_on_a_terminal() -> None:
    screen = Screen()
    shown = console(screen)
    shown.feed("worker:0", b"a\n")
    shown.feed("worker:1", b"b\n")
    assert screen.getvalue() == "\x1b[36m[worker:0]\x1b[0m a\n\x1b[33m[worker:1]\x1b[0m b\n"


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    screen = Screen()
    shown = console(screen)
    shown.feed("worker:0", b"a\n")
    assert screen.getvalue() == "[worker:0] a\n"


def test_an_empty_no_color_is_none() -> None:
    assert wants_colours(Screen(), {"NO_COLOR": ""})
    assert not wants_colours(io.StringIO(), {})


def test_a_dumb_terminal_gets_whole_lines_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    screen = Screen()
    shown = console(screen)
    shown.feed("worker:0", b"\r1/3\r2/3\n")
    assert screen.getvalue() == "[worker:0] 2/3\n"


NOISE = """\
WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1795418780.013308   14509 port.cc:153] oneDNN custom operations are on.
W0000 00:00:1795418780.013308   14509 cudart_stub.cc:31] Could not find cuda drivers
E0000 00:00:1795418780.013308   14509 cuda_platform.cc:52] failed call to cuInit
"""


@pytest.mark.parametrize(("quiet", "shown"), [(True, 1), (False, 4)])
def test_what_tensorflow_was_asked_not_to_log_can_be_left_out(quiet: bool, shown: int) -> None:
    out = io.StringIO()
    console(out, quiet=quiet).feed("worker:0", NOISE.encode())
    assert out.getvalue().count("\n") == shown
    assert "cuda_platform" in out.getvalue()


def test_a_console_that_cannot_write_a_character_writes_its_number() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    shown = Console(TASKS, live=None, out=out, err=out)
    shown.feed("worker:0", "größe\n".encode())
    assert raw.getvalue() == b"[worker:0] gr\\xf6\\xdfe\n"


def test_a_reader_that_has_gone_does_not_disturb_the_job() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    shown = console(Gone())
    shown.feed("worker:0", b"a\nb\n")
    shown.say("more")


def test_a_task_alone_is_shown_as_it_is() -> None:
    out, err = io.StringIO(), io.StringIO()
    shown = Passthrough(out=out, err=err)
    whole = "\r1/2 ━\r2/2 ━".encode()
    shown.feed("worker:0", whole[:6])
    shown.feed("worker:0", whole[6:])
    shown.finish("worker:0")
    shown.say("done")
    assert out.getvalue() == "\r1/2 ━\r2/2 ━"
    assert err.getvalue() == "\n[tfdist] done\n"


def test_a_log_has_every_byte(tmp_path: Path) -> None:
    log = TaskLog(tmp_path / "worker-0.log")
    log.write(b"1/2\r2/2\n\xff")
    log.write(b"\x00")
    log.close()
    assert log.path.read_bytes() == b"1/2\r2/2\n\xff\x00"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_ends_the_log_and_not_the_job() -> None:
    log = TaskLog(Path("/dev/full"))
    log.write(b"lost")
    log.write(b"lost too")
    log.close()
    assert log.error == "No space left on device"


def test_two_jobs_of_one_second_get_two_folders(tmp_path: Path) -> None:
    first = fresh_log_dir(tmp_path / "logs", now=0.0)
    second = fresh_log_dir(tmp_path / "logs", now=0.0)
    assert first.parent == second.parent == tmp_path / "logs"
    assert second.name == first.name + "_2"
