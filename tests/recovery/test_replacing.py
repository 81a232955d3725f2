"""A file or a folder that is written again is the old one or the new one, whenever one looks."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tfdist.training.checkpointing import replacing
from tfdist.training.checkpointing.replacing import (
    replacing_directory,
    replacing_file,
    replacing_own_folder,
)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "model.keras"
    target.write_text("before")
    with pytest.raises(ValueError, match="halfway"), replacing_file(target) as temporary:
        temporary.write_text("aft")
        raise ValueError("halfway")
    assert target.read_text() == "before"
    with replacing_file(target) as temporary:
        assert temporary.name == "model.keras"
        temporary.write_text("after")
    assert target.read_text() == "after"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(("is_chief", "stays"), [(True, "mine"), (False, "theirs")])
def test_of_two_directories_the_chiefs_stays(tmp_path: Path, is_chief: bool, stays: str) -> None:
    target = tmp_path / "exported"
    target.mkdir()
    (target / "file").write_text("theirs")
    with replacing_directory(target, is_chief) as temporary:
        temporary.mkdir()
        (temporary / "file").write_text("mine")
    assert (target / "file").read_text() == stays
    assert list(tmp_path.iterdir()) == [target]


REWRITES = """
import os, signal, sys
from pathlib import Path
from tfdist.training.checkpointing import replacing

target, moment = Path(sys.argv[1]), int(sys.argv[2])
steps = 0

def killed_at(move):
    def step(*args):
        global steps
        steps += 1
        if steps == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        return move(*args)
    return step

replacing.os.replace = killed_at(os.replace)
replacing.exchange = killed_at(replacing.exchange)
replacing._flush = killed_at(replacing._flush)
with replacing.replacing_own_folder(target) as temporary:
    temporary.mkdir()
    for name in ("a", "b"):
        (temporary / name).write_text("new")
print(steps)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="as Linux exchanges names")
def test_a_folder_that_is_written_again_is_whole_whenever_its_writer_is_killed(
    tmp_path: Path,
) -> None:
    found = []
    for moment in range(1, 10):
        target = tmp_path / str(moment) / "folder"
        target.mkdir(parents=True)
        for name in ("a", "b"):
            (target / name).write_text("old")
        command = [sys.executable, "-c", REWRITES, target, moment]
        ended = subprocess.run(list(map(str, command)), timeout=60, stdout=subprocess.PIPE)
        found.append({(target / name).read_text() for name in ("a", "b")})
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL
    assert found[0] == {"old"}
    assert found[-2:] == [
        {"new"},
        {"new"},
    ]  # killed when all was done but one flush, and not at all
    assert set(map(len, found)) == {1}


def test_where_names_cannot_be_exchanged_a_folder_is_replaced_in_two_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replacing, "exchange", lambda first, second: False)
    for text in ("one", "two", "three"):
        with replacing_own_folder(tmp_path / "folder") as temporary:
            temporary.mkdir()
            (temporary / "file").write_text(text)
        assert (tmp_path / "folder" / "file").read_text() == text
    assert list(tmp_path.iterdir()) == [tmp_path / "folder"]
