"""Which lines of a traceback are the user's, and what is shown of an error of tfdist."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import tfdist
from tests.conftest import ROOT
from tfdist.user_frames import FULL_VARIABLE, is_library

PROGRAM = """
import json
import tfdist


def read(text):
    return json.loads(text)


def main(how):
    if how == "cluster":
        tfdist.Cluster.from_json('{"clutser": {}}')
    if how == "library":
        tfdist.Cluster.from_file("nowhere.json")
    try:
        read("no json")
    except ValueError as error:
        raise tfdist.errors.DataError("what was read is none") from error


import sys
from tfdist import exits

exits.tell_by_exit_code()
main(sys.argv[1])
"""


def shown(folder: Path, how: str, **env: str) -> list[str]:
    (folder / "train.py").write_text(PROGRAM)
    ran = subprocess.run(
        [sys.executable, "train.py", how],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **env},
    )
    assert ran.returncode in (1, 64)
    return [line.strip() for line in ran.stderr.splitlines() if set(line) - set(" ^~")]


def test_an_error_of_tfdist_is_shown_by_the_users_lines(tmp_path: Path) -> None:
    lines = shown(tmp_path, "cluster")
    path = tmp_path / "train.py"
    assert lines[:-1] == [
        "Traceback (most recent call last):",
        f'File "{path}", line 25, in <module>',
        "main(sys.argv[1])",
        f'File "{path}", line 12, in main',
        "tfdist.Cluster.from_json('{\"clutser\": {}}')",
    ]
    assert lines[-1].startswith("tfdist.errors.ClusterError: unknown key 'clutser'")


def test_what_it_came_of_is_shown_where_the_user_has_raised_it(tmp_path: Path) -> None:
    lines = shown(tmp_path, "own")
    assert "return json.loads(text)" in lines
    assert not any("json/decoder.py" in line for line in lines)
    assert any(line.startswith("json.decoder.JSONDecodeError: Expecting") for line in lines)
    assert "The above exception was the direct cause of the following exception:" in lines
    assert lines[-1] == "tfdist.errors.DataError: what was read is none"


def test_all_of_it_is_shown_to_who_asks(tmp_path: Path) -> None:
    lines = shown(tmp_path, "own", **{FULL_VARIABLE: "1"})
    assert any("json/decoder.py" in line for line in lines)


def test_the_exit_code_is_told_where_nobody_reads(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(PROGRAM)
    command = f"{shlex.quote(sys.executable)} train.py cluster 2>&-"
    assert subprocess.run(command, shell=True, cwd=tmp_path, timeout=60).returncode == 64


@pytest.mark.parametrize(
    ("file", "library"),
    [
        ("/home/me/train.py", False),
        ("/home/me/tfdist_tests/train.py", False),
        ("C:\\venv\\Lib\\site-packages\\keras\\layer.py", True),
        ("/usr/lib/python3.12/contextlib.py", True),
        ("/usr/lib64/python3.13t/contextlib.py", True),
        ("C:\\Python312\\Lib\\contextlib.py", True),
        ("/venv/lib/python3.12/site-packages/keras/src/layer.py", True),
        ("/venv/lib/python3.12/site-packages/six.py", False),
        ("/venv/lib/python3.12/site-packages/my_company/train.py", False),
        ("/srv/checkout/tfdist/training/plugged.py", True),
        ("/home/me/tfdist/train.py", False),
        ("/tmp/__autograph_generated_file1x.py", True),
        ("<frozen runpy>", True),
        ("<ipython-input-3-0>", False),
        (str(Path(tfdist.__file__).parent / "cli.py"), True),
        (str(ROOT / "tfdist" / "examples" / "digits.py"), False),
        (os.__file__, True),
    ],
)
def test_files_of_libraries_are_known(file: str, library: bool) -> None:
    assert is_library(file) is library
