"""Two names change places in one step."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

import pytest

from tfdist.machine import swapped_names
from tfdist.machine.swapped_names import exchange

linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone does so")


@linux
def test_two_names_change_places(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    (one / "file").write_text("x")
    other.write_text("y")
    assert exchange(one, other)
    assert (one.read_text(), (other / "file").read_text()) == ("y", "x")


@linux
def test_a_name_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "one").touch()
    with pytest.raises(FileNotFoundError) as caught:
        exchange(tmp_path / "one", tmp_path / "none")
    assert caught.value.filename2 == str(tmp_path / "none")


@pytest.mark.parametrize("number", [None, errno.EINVAL])
def test_a_system_or_a_file_system_that_cannot_says_so(
    number: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rename(*args: object) -> int:
        return -1

    monkeypatch.setattr(swapped_names, "_renameat2", lambda: None if number is None else rename)
    monkeypatch.setattr("ctypes.get_errno", lambda: number)
    assert not exchange(tmp_path / "one", tmp_path / "other")


def test_an_older_c_library_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda name, use_errno: object())  # without the function
    swapped_names._renameat2.cache_clear()
    try:
        assert swapped_names._renameat2() is None
    finally:
        swapped_names._renameat2.cache_clear()
