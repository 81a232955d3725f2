"""scripts/setup finds a Python and one Keras for each environment; scripts/mutate runs at all."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.mutation.rooms import ROOMS

TOOLS = ("cat", "chmod", "cksum", "dirname", "mkdir", "sh")
TOO_OLD = """#!/bin/sh
[ "$1" = --version ] && echo Python 3.10.13
[ "$1" = --version ]
"""
NEW_ENOUGH = """#!/bin/sh
[ "$1 $2" = "-m venv" ] || exit 0
mkdir -p "$4/bin"
printf '#!/bin/sh\necho "$@" >>asked\n' >"$4/bin/python"
chmod +x "$4/bin/python"
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with scripts/setup, and on PATH a python3 that is too old."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "setup", tmp_path / "scripts")
    shutil.copy(ROOT / "setup.py", tmp_path)
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        where = shutil.which(tool)
        assert where is not None
        (tmp_path / "bin" / tool).symlink_to(where)
    executable(tmp_path / "bin" / "python3", TOO_OLD)
    return tmp_path


def executable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def set_up(clone: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["scripts/setup", *arguments],
        cwd=clone,
        env={"PATH": str(clone / "bin")},
        capture_output=True,
        text=True,
        timeout=60,
    )


def asked_of_pip(clone: Path) -> list[str]:
    return [
        line.removeprefix("-m pip ")
        for line in (clone / "asked").read_text().splitlines()
        if line.startswith("-m pip") and "--version" not in line
    ]


def test_a_python_that_is_too_old_is_told_in_one_sentence(clone: Path) -> None:
    ran = set_up(clone)
    assert ran.returncode == 69
    assert ran.stderr == (
        "scripts/setup: python3 is Python 3.10.13, but tfdist needs Python 3.11, 3.12 or 3.13: "
        "install one of them, so that python3.13, python3.12 or python3.11 is on PATH\n"
    )


def test_a_newer_python_on_path_is_taken_instead(clone: Path) -> None:
    executable(clone / "bin" / "python3.12", NEW_ENOUGH)
    ran = set_up(clone, "test")
    assert ran.returncode == 0, ran.stderr
    assert asked_of_pip(clone) == ["install --quiet --editable .[test]"]
    assert set_up(clone, "test").stderr == ""  # it is there
    assert len(asked_of_pip(clone)) == 1


def test_an_older_keras_is_asked_for_by_its_number(clone: Path) -> None:
    executable(clone / "bin" / "python3.11", NEW_ENOUGH)
    assert set_up(clone, "test", "3.14").returncode == 0
    assert asked_of_pip(clone) == ["install --quiet --editable .[test] keras==3.14.*"]
    assert (clone / ".venv-keras-3.14").is_dir()
    assert not (clone / ".venv").exists()


def test_the_nightly_takes_the_place_of_the_keras_that_tensorflow_brings(clone: Path) -> None:
    executable(clone / "bin" / "python3.11", NEW_ENOUGH)
    assert set_up(clone, "test", "nightly").returncode == 0
    assert [line.split()[0] for line in asked_of_pip(clone)] == ["install", "uninstall", "install"]
    assert asked_of_pip(clone)[1:] == [
        "uninstall --quiet --yes keras keras-nightly",
        "install --quiet --no-warn-conflicts keras-nightly>=3.16.0.dev0,<3.17",
    ]


def test_a_keras_that_is_not_tested_is_no_environment(clone: Path) -> None:
    ran = set_up(clone, "test", "3.13")
    assert ran.returncode == 64
    assert ran.stderr == (
        "scripts/setup: no Keras 3.13 to set up: tfdist is tested with 3.14, 3.15 and nightly\n"
    )


@pytest.mark.parametrize("room", ROOMS)
def test_a_change_of_a_pure_room_is_tried(room: str) -> None:
    tried = subprocess.run(
        [sys.executable, "-m", "tests.mutation", room, "--every", "1000"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert f"{room}: 1 mutants, " in tried.stdout, tried.stderr
