"""How a process that ends is told from inside: its atexit handlers, its exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BEGIN = """
import atexit, sys
from tfdist import exits
exits.tell_by_exit_code()
exits.watch_the_end()
atexit.register(lambda: print("ended:", repr(exits.failure()), flush=True))
"""


def run(folder: Path, body: str, *options: str) -> tuple[int, str]:
    (folder / "program.py").write_text(BEGIN + body)
    done = subprocess.run(
        [sys.executable, *(options or ("program.py",))],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("body", "code", "failure"),
    [
        ("", 0, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit(0)", 0, ""),
        ("sys.exit(3)", 3, "exit code 3"),
        ("sys.exit('no data')", 1, "no data"),
        ("from absl import app; app.run(lambda argv: None)", 0, ""),
        ("from absl import app; app.run(lambda argv: 4)", 4, "exit code 4"),
        ("raise ValueError('shapes differ\\n(3,)')", 1, "ValueError: shapes differ"),
        ("raise KeyboardInterrupt", 130, "KeyboardInterrupt"),
        ("import threading; threading.Thread(target=lambda: sys.exit(3)).start()", 0, ""),
        ("sys.excepthook = lambda *error: None\n1 / 0", 1, "ZeroDivisionError: division by zero"),
    ],
)
def test_the_end_of_a_program_is_known_to_its_atexit_handlers(
    tmp_path: Path, body: str, code: int, failure: str
) -> None:
    returncode, said = run(tmp_path, body)
    assert returncode in (code, code - 132)  # Python ends itself by SIGINT after Ctrl-C: -2
    assert said == f"ended: {failure!r}\n"


@pytest.mark.parametrize("caught", ["sys.exit(3)", "raise SystemExit(3)", "1 / 0"])
def test_what_the_program_has_caught_is_no_failure(tmp_path: Path, caught: str) -> None:
    body = f"""
try:
    {caught}
except BaseException:
    pass
"""
    assert run(tmp_path, body) == (0, "ended: ''\n")


def test_a_module_is_watched_as_a_script_is(tmp_path: Path) -> None:
    assert run(tmp_path, "", "-m", "program") == (0, "ended: ''\n")
    assert run(tmp_path, "sys.exit(3)", "-m", "program") == (3, "ended: 'exit code 3'\n")


def test_an_uncaught_error_of_tfdist_ends_the_process_with_its_exit_code(tmp_path: Path) -> None:
    body = "from tfdist.errors import TaskLost\nraise TaskLost('gone')"
    assert run(tmp_path, body) == (75, "")


@pytest.mark.parametrize(
    ("end", "code", "told"),
    [
        ("raise errors.PlugError('no scope\\nand more')", 1, "PlugError: no scope"),
        ("raise errors.TaskLost('gone')", 75, "TaskLost: gone"),
        ("raise ValueError('shapes')", 1, "ValueError: shapes"),
        ("sys.exit(3)", 3, "exit code 3"),
        ("", 0, ""),
    ],
)
def test_whoever_asked_is_told_once_of_every_end_in_order(
    tmp_path: Path, end: str, code: int, told: str
) -> None:
    body = "from tfdist import errors\n"
    body += 'exits.at_the_end(lambda reason: print("told:", repr(reason), flush=True))\n'
    returncode, said = run(tmp_path, body + end)
    assert returncode == code
    assert said.count("told:") == 1
    assert f"told: {told!r}\n" in said


def test_an_error_that_another_task_has_told_is_shown_without_frames(tmp_path: Path) -> None:
    body = (
        "from tfdist.errors import TaskLost\nsys.stderr = sys.stdout\n"
        "error = TaskLost('chief:0 has failed')\nerror.told = True\nraise error"
    )
    assert run(tmp_path, body) == (75, "tfdist.errors.TaskLost: chief:0 has failed\n")


def test_the_teardown_can_be_skipped_after_the_atexit_handlers(tmp_path: Path) -> None:
    body = """
class Stuck:
    def __del__(self):
        print("torn down", flush=True)
stuck = Stuck()
stuck.itself = stuck
exits.skip_the_teardown(0)
print("last line, no flush", end="")
sys.exit(9)
"""
    assert run(tmp_path, body) == (0, "last line, no flush" + "ended: 'exit code 9'\n")
