"""Which task failed first, whatever order they ended in, and what its log shows of it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tfdist.cluster import Task
from tfdist.launch.failure import (
    TaskResult,
    describe,
    ended_well_before,
    exit_code,
    find_failure,
    last_lines,
    lost_another,
)

FRAME = '  File "train.py", line 3, in <module>\n    train()\n'


def traceback(error: str) -> str:
    return f"Traceback (most recent call last):\n{FRAME}{error}\n"


OWN = traceback("ValueError: shapes (3,) and (4,) differ")
UNAVAILABLE = traceback(
    "tensorflow.python.framework.errors_impl.UnavailableError: {{function_node f}} Socket closed"
)
LOST = traceback("tfdist.errors.TaskLost: worker:1 (127.0.0.1:1) went away")
INTERRUPT = traceback("KeyboardInterrupt")


class Results:
    """Makes results one after the other, each a tenth of a second later."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.all: list[TaskResult] = []

    def add(self, returncode: int, log: str = "", stopped: bool = False) -> TaskResult:
        number = len(self.all)
        path = self.folder / f"worker-{number}.log"
        path.write_text(log)
        ended = 1.0 + number / 10
        self.all.append(TaskResult(Task("worker", number), returncode, path, 0.0, ended, stopped))
        return self.all[-1]

    def first(self) -> TaskResult | None:
        found = [find_failure(some) for some in (self.all, self.all[::-1])]
        assert found[0] == found[1]
        return found[0].result if found[0] else None


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path)


def test_tasks_that_ended_well_are_no_failure(results: Results) -> None:
    results.add(0, OWN)
    assert results.first() is None


def test_of_two_failures_the_earlier_one_is_the_first(results: Results) -> None:
    first = results.add(1, OWN)
    results.add(2, OWN)
    assert results.first() is first


@pytest.mark.parametrize(
    ("returncode", "log"),
    [(75, LOST), (75, ""), (1, UNAVAILABLE), (1, LOST)],
)
def test_a_task_that_lost_another_is_not_the_cause_though_it_ended_earlier(
    results: Results, returncode: int, log: str
) -> None:
    results.add(returncode, log)
    cause = results.add(1, OWN)
    assert results.first() is cause


def test_a_task_killed_from_outside_is_the_cause(results: Results) -> None:
    results.add(1, UNAVAILABLE)
    cause = results.add(-signal.SIGKILL, "epoch 1\n")
    results.add(-signal.SIGKILL, "epoch 1\n", stopped=True)
    assert results.first() is cause


def test_a_task_that_we_ended_is_not_the_cause(results: Results) -> None:
    results.add(-signal.SIGTERM, stopped=True)
    results.add(1, INTERRUPT, stopped=True)
    cause = results.add(3)
    assert results.first() is cause


def test_a_task_that_we_ended_while_it_was_failing_is_the_cause_rather_than_those_that_lost_it(
    results: Results,
) -> None:
    results.add(75, LOST)
    cause = results.add(-signal.SIGKILL, OWN, stopped=True)
    results.add(-signal.SIGKILL, "epoch 1\n", stopped=True)
    assert results.first() is cause


def test_an_error_that_a_task_survived_does_not_make_it_the_cause(results: Results) -> None:
    lost = results.add(75, LOST)
    results.add(-signal.SIGKILL, OWN + "went on\n" * 100, stopped=True)
    assert results.first() is lost


def test_if_all_lost_another_the_first_of_them_is_named(results: Results) -> None:
    first = results.add(75, LOST)
    results.add(1, UNAVAILABLE)
    assert results.first() is first


@pytest.mark.parametrize(
    ("returncode", "stopped", "words"),
    [
        (1, False, "ended with exit code 1"),
        (69, False, "ended with exit code 69 (the tasks did not come together"),
        (-15, False, "was ended by SIGTERM (exit code 143)"),
        (-9, False, "was ended by SIGKILL (exit code 137, not by tfdist: often the machine"),
        (-9, True, "was ended by SIGKILL (exit code 137)"),
        (-11, False, "was ended by SIGSEGV (exit code 139, a crash in native code)"),
        (-64, False, "(exit code 192)"),
        (-50, False, "was ended by signal 50 (exit code 178)"),
    ],
)
def test_an_end_is_told_in_words(
    results: Results, returncode: int, stopped: bool, words: str
) -> None:
    assert words in describe(results.add(returncode, stopped=stopped))


def test_a_signal_is_an_exit_code_as_shells_count(results: Results) -> None:
    ends = [results.add(code, OWN) for code in (0, 3, -9, -15)]
    assert [exit_code(end) for end in ends] == [0, 3, 137, 143]


@pytest.mark.parametrize(
    ("log", "code"),
    [
        (OWN, 1),
        (traceback("tfdist.errors.StrategyError: no option"), 64),
        (LOST, 143),
        (INTERRUPT, 143),
        ("epoch 1\n", 143),
    ],
)
def test_a_task_that_we_ended_while_it_was_failing_has_its_errors_exit_code(
    results: Results, log: str, code: int
) -> None:
    end = results.add(-signal.SIGTERM, log, stopped=True)
    assert exit_code(end) == code
    failed = "failed by ValueError (exit code 1; it took long to end)"
    assert (describe(end) == failed) == (log == OWN)


def test_who_ended_well_before_a_task_lost_it_is_known(results: Results) -> None:
    before = results.add(0, "done\n")
    lost = results.add(75, LOST)
    results.add(0, "done later\n")
    assert ended_well_before(lost, results.all) == [before]
    assert [lost_another(one) for one in results.all] == [False, True, False]
    assert lost_another(results.add(75, LOST, stopped=True))


def shown(folder: Path, text: str | bytes) -> list[str]:
    log = folder / "task.log"
    log.write_bytes(text.encode() if isinstance(text, str) else text)
    return list(last_lines(log))


def test_of_a_log_the_last_traceback_is_shown(tmp_path: Path) -> None:
    lines = shown(tmp_path, f"start\n{LOST}on\n{OWN}W1 at exit\n")
    assert lines == [*OWN.splitlines(), "W1 at exit"]


def test_an_error_that_ends_nothing_hides_none_that_does(tmp_path: Path) -> None:
    path = tmp_path / "log"
    ignored = "Exception ignored in: <function Stream.__del__ at 0x7f>\n" + traceback(
        "TypeError: x"
    )
    path.write_text(OWN + ignored + ignored)
    assert last_lines(path)[-1] == "ValueError: shapes (3,) and (4,) differ"
    path.write_text("Exception ignored in: half of it\n")
    assert last_lines(path) == ("Exception ignored in: half of it",)


def test_a_long_traceback_keeps_its_last_frames_and_its_message(tmp_path: Path) -> None:
    frames = "".join(f'  File "f.py", line {n}, in f\n    f()\n' for n in range(50))
    message = "ValueError: it\n" + "more\n" * 50
    lines = shown(tmp_path, f"Traceback (most recent call last):\n{frames}{message}")
    assert lines[:2] == ["Traceback (most recent call last):", "  ..."]
    assert lines[-14:-11] == ["    f()", "ValueError: it", "more"]
    assert len(lines) == 23


def test_a_long_traceback_keeps_the_last_line_of_the_users_program(tmp_path: Path) -> None:
    """However deep in a library the error was, and without what is cut in the middle."""
    library = "/venv/lib/python3.11/site-packages/keras/src/layer.py"
    frames = [
        '  File "/home/me/train.py", line 1, in <module>\n    main()\n    ^^^^^^\n',
        '  File "/home/me/train.py", line 9, in main\n    model.fit(x)\n    ^^^^^^^^^^^^\n',
        *(f'  File "{library}", line {n}, in g\n    g()\n    ^^^\n\n' for n in range(9)),
    ]
    end = "ValueError: it\n\n\t [[{{node PyFunc}}]] [Op:Get]\n"
    lines = shown(tmp_path, "Traceback (most recent call last):\n" + "".join(frames) + end)
    assert lines == [
        "Traceback (most recent call last):",
        "  ...",
        '  File "/home/me/train.py", line 9, in main',
        "    model.fit(x)",
        "    ^^^^^^^^^^^^",
        "  ...",
        f'  File "{library}", line 8, in g',
        "    g()",
        "    ^^^",
        "ValueError: it",
    ]


def test_without_a_traceback_the_last_lines_are_shown(tmp_path: Path) -> None:
    assert shown(tmp_path, "".join(f"{n}\n" for n in range(99)) + "\n\n")[-2:] == ["97", "98"]


def test_a_traceback_that_was_cut_off_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    lines = shown(tmp_path, f"x\nTraceback (most recent call last):\n{FRAME}")
    assert lines == ["Traceback (most recent call last):", *FRAME.splitlines()]


def test_a_traceback_behind_an_unfinished_progress_bar_is_found(tmp_path: Path) -> None:
    assert shown(tmp_path, "\r1/9\r2/9 - loss: 0.5" + OWN) == OWN.splitlines()


def test_a_huge_log_and_one_that_is_not_text_are_read_all_the_same(tmp_path: Path) -> None:
    assert shown(tmp_path, b"\xff\x00" * 1_000_000 + b"\n" + OWN.encode()) == OWN.splitlines()
    assert last_lines(tmp_path / "nowhere.log") == ()


ABORT = """\
F0000 00:00:1795714715.753158    2770 tensor_shape.cc:186] Check failed: 0 <= dim (-1 vs. 0)
*** Check failure stack trace: ***
"""
STACK = "".join(f"    @     0x7f4cd82{n:05}  tsl::f()\n" for n in range(40))
PYTHON = """\
Fatal Python error: Aborted

Thread 0x00007f (most recent call first):
  File "threading.py", line 1, in wait

Current thread 0x00007f (most recent call first):
  File "train.py", line 3, in f
  File "train.py", line 9, in <module>

Extension modules: numpy._core
"""


def test_of_an_end_in_native_code_the_line_that_says_why_is_shown(tmp_path: Path) -> None:
    lines = shown(tmp_path, f"epoch 1\n{ABORT}{STACK}{PYTHON}")
    assert lines[0].endswith("Check failed: 0 <= dim (-1 vs. 0)")
    assert "Fatal Python error: Aborted" in lines
    assert '  File "train.py", line 3, in f' in lines
    assert len(lines) < 10
    assert not any("0x7f4cd" in line for line in lines)


@pytest.mark.parametrize(
    "why",
    [
        "terminate called after throwing an instance of 'std::bad_alloc'",
        "python: ring.cc:12: void f(): Assertion `n > 0' failed.",
        "double free or corruption (!prev)",
        "*** stack smashing detected ***: terminated",
    ],
)
def test_what_the_runtime_says_of_an_abort_is_shown(tmp_path: Path, why: str) -> None:
    assert shown(tmp_path, f"epoch 1\n{why}\n{STACK}")[0] == why


def test_an_error_before_an_abort_is_shown_with_it(tmp_path: Path) -> None:
    lines = shown(tmp_path, f"{OWN}{ABORT}{STACK}")
    assert lines[:4] == OWN.splitlines()
    assert ABORT.splitlines()[0] in lines
    assert lines[-1] != STACK.splitlines()[-1]
