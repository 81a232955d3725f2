"""How a command ends that fails: one line, its exit code, and a traceback with --debug alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tfdist import cli
from tfdist.errors import INTERNAL_FAULT, ClusterError

MORE = "; `tfdist --debug ...` shows where, and `tfdist version --json` what a report of it needs"
PLACES = [["--debug", "doctor"], ["doctor", "--debug"]]


def failing_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(given: object) -> int:
        raise error

    monkeypatch.setattr("tfdist.diagnose.doctor.examination.Examination.run", fail)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ClusterError("no such task"), 64, "tfdist: no such task"),
        (
            KeyError("place\nof"),
            INTERNAL_FAULT,
            rf"tfdist: a fault of tfdist itself: KeyError: 'place\nof'{MORE}",
        ),
        (
            AssertionError(),
            INTERNAL_FAULT,
            f"tfdist: a fault of tfdist itself: AssertionError{MORE}",
        ),
        (
            OSError(28, "No space left on device", "/x"),
            1,
            "tfdist: [Errno 28] No space left on device: '/x'; `tfdist --debug ...` shows where",
        ),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    error: Exception,
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failing_with(monkeypatch, error)
    assert cli.main(["doctor"]) == code
    assert capsys.readouterr().err == f"{message}\n"
    for words in PLACES:
        assert cli.main(words) == code
        told = capsys.readouterr().err
        assert told.startswith("Traceback (most recent call last):\n")
        assert told.endswith(f"\n{message}\n")
    assert cli.main(["doctor"]) == code  # it is forgotten
    assert "Traceback" not in capsys.readouterr().err


def test_debug_shows_where_a_wrong_command_line_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for words in (["--debug", "run", "--wrokers"], ["run", "--debug", "--wrokers"]):
        assert cli.main(words) == 64
        told = capsys.readouterr().err
        assert "Traceback" in told
        assert "did you mean '--workers'?" in told.splitlines()[-1]


def test_debug_after_the_script_is_the_scripts_own(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["run", "--grace", "no", "nowhere.py", "--debug"]) == 64
    assert "Traceback" not in capsys.readouterr().err


def test_ctrl_c_is_told_by_the_exit_code_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_with(monkeypatch, KeyboardInterrupt())
    assert cli.main(["doctor"]) == 130
    assert capsys.readouterr().err == ""


def test_a_folder_that_nobody_may_write_is_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ran = subprocess.run(
        [sys.executable, "-m", "tfdist", "run", "--log_dir", "file/logs", "file"],
        cwd=tmp_path,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1].startswith("tfdist: ")
    assert "Traceback" not in ran.stderr
