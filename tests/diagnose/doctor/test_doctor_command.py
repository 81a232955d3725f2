"""`tfdist doctor` as a command: its exit codes, its JSON, and that it starts no TensorFlow."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.diagnose.doctor.company import a_spec
from tfdist import cli

IMPORTS = """
import sys
from tfdist import cli
code = cli.main(["doctor", "--json", sys.argv[1]])
heavy = {"tensorflow", "keras", "numpy"} & set(sys.modules)
sys.exit(code or f"imported: {heavy}" if heavy else code)
"""


def test_it_imports_no_tensorflow(tmp_path: Path) -> None:
    with a_spec(tmp_path) as (path, _):
        ran = subprocess.run(
            [sys.executable, "-c", IMPORTS, path], capture_output=True, text=True, timeout=60
        )
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told.keys() == {"well", "counts", "findings"}
    assert {frozenset(one) for one in told["findings"]} == {
        frozenset({"level", "check", "tasks", "text", "todo"})
    }


def test_the_command_line_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--task", "worker:1"]) == 64
    assert "--task without a spec" in capsys.readouterr().err
    assert cli.main(["doctor", "--wait", "soon"]) == 64


def test_what_is_good_may_be_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--quiet", "--folder", "/proc/self/task"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("bad        folder      ")
    assert any(re.match(r" {23}-> ", line) for line in lines)
    assert lines[-1].startswith("mend what is bad before you start the job (")


@pytest.mark.thorough
@pytest.mark.timeout(200)
def test_an_exchange_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with a_spec(tmp_path) as (path, _):
        assert cli.main(["doctor", "--exchange", "4", str(path)]) == 0
    assert re.search(r"between 2 tasks a number is summed in [\d.]+ ms", capsys.readouterr().out)
