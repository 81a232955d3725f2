"""Everything in the README that can be run, is run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_DATA = """
import numpy as np, tensorflow as tf
x, y = np.ones((600, 8), "float32"), np.ones((600, 1), "float32")
"""


def blocks(language: str) -> list[str]:
    return [text for found, text in _BLOCK.findall(README) if found == language]


def commands() -> list[str]:
    lines = "\n".join(blocks("")).splitlines()
    return [line.split("  #")[0].strip() for line in lines if line.startswith("tfdist ")]


def run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("TF_CONFIG", None)
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_snippets_run_one_after_the_other(tmp_path: Path) -> None:
    script = tmp_path / "readme.py"
    script.write_text(_DATA + "\n".join(blocks("python")))
    ran = run([str(script)], tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "run" / "epoch-00005.keras").is_file()


def test_the_snippets_run_on_two_workers(tmp_path: Path) -> None:
    script = tmp_path / "readme.py"
    script.write_text(_DATA + "\n".join(blocks("python")))
    ran = run(["-m", "tfdist", "run", "--workers", "2", str(script)], tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "global batch 256 = 2 replicas x 128" in ran.stdout + ran.stderr


@pytest.mark.parametrize("command", commands())
def test_a_command_line_is_accepted(command: str, tmp_path: Path) -> None:
    for name in ("train.py", "someone_elses_script.py"):
        (tmp_path / name).write_text("")
    (tmp_path / "spec.json").write_text(
        '{"cluster": {"worker": ["127.0.0.1:29871", "127.0.0.1:29872"]}}'
    )
    words = shlex.split(command)
    assert words[:2] == ["tfdist", "run"]
    ran = run(["-m", "tfdist", "run", "--dry-run", *words[2:]], tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "TF_CONFIG=" in ran.stdout


def test_the_two_commands_are_those_of_ci() -> None:
    ci = (Path(__file__).parents[1] / ".ci" / "run").read_text()
    for script in ("scripts/train", "scripts/test"):
        assert f"\n{script}\n" in README
        assert script in ci


def test_the_files_it_names_are_there() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (Path(__file__).parents[1] / target).exists(), target
