"""A task's Python stacks go to a file of its own, which does not grow for ever."""

from __future__ import annotations

from pathlib import Path

from tfdist.machine import stacks


def test_each_time_is_added_to_the_tasks_own_file(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    for _ in range(2):
        assert stacks.write(folder, "worker:1") == folder / "worker-1.stacks.txt"
    text = (folder / "worker-1.stacks.txt").read_text()
    assert text.count("\nworker:1 at ") == 2
    assert text.count("test_each_time_is_added_to_the_tasks_own_file") == 2
    assert stacks.write(folder, "") == folder / "task.stacks.txt"


def test_a_file_of_a_mebibyte_is_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "ps-0.stacks.txt"
    file.write_bytes(bytes(1 << 20))
    assert stacks.write(tmp_path, "ps:0") == file
    assert file.stat().st_size == 1 << 20


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert stacks.write(tmp_path / "file" / "logs", "worker:0") is None
