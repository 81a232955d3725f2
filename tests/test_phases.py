"""What a process does is told to whoever watches, and to nobody else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

PROGRAM = """
from tfdist import phases
phases.tell("training", epoch=1, step=4)
with phases.saving(), phases.during("tracing"):
    phases.tell("validation", step=0)
phases.tell(phases.BETWEEN, epoch=2)
print(phases.are_told())
"""


def run(folder: Path, **variables: str) -> str:
    environ = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    environ.pop("TF_CONFIG", None)
    if "TFDIST_TASK_CONFIG" in variables:
        environ["TF_CONFIG"] = variables["TFDIST_TASK_CONFIG"]
    command = [sys.executable, "-c", PROGRAM]
    return subprocess.run(
        command, env=environ, cwd=folder, check=True, capture_output=True, text=True, timeout=30
    ).stdout


def test_each_change_is_a_line_in_the_file_of_its_task(tmp_path: Path) -> None:
    config = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}
    told = run(tmp_path, TFDIST_PHASES=str(tmp_path), TFDIST_TASK_CONFIG=json.dumps(config))
    assert told == "True\n"
    lines = [line.split() for line in (tmp_path / "worker-1").read_text().splitlines()]
    assert [" ".join(line[1:]) for line in lines] == [
        "training 1 0 4 0",
        "training 1 0 4 1",
        "tracing 1 0 4 1",
        "validation 1 1 0 1",
        "training 1 0 0 1",
        "training 1 0 0 0",
        "between 2 0 0 0",
    ]
    assert [line[0] for line in lines] == sorted(line[0] for line in lines)


def test_without_the_variable_nothing_is_written(tmp_path: Path) -> None:
    assert run(tmp_path, TFDIST_PHASES="") == "False\n"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_disturbs_nobody(tmp_path: Path) -> None:
    assert run(tmp_path, TFDIST_PHASES=str(tmp_path / "none")) == "True\n"
