"""A directory of checkpoints never shows half of one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tfdist.errors import CheckpointError
from tfdist.training.checkpointing.store import Store, replacing_directory, replacing_file


def write(text: str):  # type: ignore[no-untyped-def]
    return lambda path: Path(path).write_text(text)


def test_an_empty_directory_has_no_checkpoint(tmp_path: Path) -> None:
    assert Store(tmp_path / "none").latest() is None


def test_the_newest_checkpoint_is_found_with_its_logs(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(write("one"), 1, {"loss": 0.5})
    store.write(write("two"), 2, {"loss": 0.25, "note": "x"})
    latest = store.latest()
    assert latest is not None
    assert (latest.epoch, latest.logs, latest.path.read_text()) == (2, {"loss": 0.25}, "two")


def test_the_oldest_are_dropped(tmp_path: Path) -> None:
    store = Store(tmp_path, keep=2)
    for epoch in range(1, 5):
        store.write(write(str(epoch)), epoch, {})
    assert sorted(p.name for p in tmp_path.glob("*.keras")) == [
        "epoch-00003.keras",
        "epoch-00004.keras",
    ]


def test_a_write_that_fails_leaves_the_one_before_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(write("whole"), 1, {})

    def fail(path: str) -> None:
        Path(path).write_text("ha")
        raise OSError("no space left on device")

    with pytest.raises(CheckpointError, match=r"no space left.*the one before it is whole"):
        store.write(fail, 2, {})
    latest = store.latest()
    assert latest is not None
    assert latest.path.read_text() == "whole"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.json", "epoch-00001.keras"]


def test_a_process_killed_while_writing_leaves_the_one_before_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(write("whole"), 1, {})
    # What a killed writer leaves behind: its scratch folder with half a file.
    (tmp_path / ".writing-abc").mkdir()
    (tmp_path / ".writing-abc" / "epoch-00002.keras").write_text("ha")
    latest = store.latest()
    assert latest is not None
    assert latest.epoch == 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"file": "x.keras"}'])
def test_an_index_that_is_no_index_is_told_as_such(tmp_path: Path, text: str) -> None:
    (tmp_path / "checkpoint.json").write_text(text)
    with pytest.raises(CheckpointError, match="no index of checkpoints"):
        Store(tmp_path).latest()


def test_a_checkpoint_that_was_deleted_is_missed(tmp_path: Path) -> None:
    entry = {"file": "epoch-00007.keras", "epoch": 7, "logs": {}}
    (tmp_path / "checkpoint.json").write_text(json.dumps(entry))
    with pytest.raises(CheckpointError, match=r"epoch-00007\.keras, which is not there"):
        Store(tmp_path).latest()


@pytest.mark.parametrize("keep", [0, -1, "3"])
def test_keeping_none_is_refused(tmp_path: Path, keep: int) -> None:
    with pytest.raises(CheckpointError, match="at least 1"):
        Store(tmp_path, keep=keep)


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


def test_a_run_that_begins_has_a_name_and_no_end(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.begin(None)
    begun = store.read()
    assert (begun.saved, begun.finished, store.latest()) == (None, False, None)
    store.write(write("one"), 1, {})
    store.finish()
    ended = store.read()
    assert (ended.run, ended.finished) == (begun.run, True)
    again = Store(tmp_path)
    again.begin(again.latest())
    assert again.read().run != begun.run
    assert not again.read().finished


def test_a_run_that_begins_anew_keeps_the_old_checkpoint_as_stale(tmp_path: Path) -> None:
    Store(tmp_path).write(write("old"), 5, {"loss": 1.0})
    store = Store(tmp_path)
    store.begin(None)
    latest = store.latest()
    assert latest is not None
    assert (latest.epoch, latest.stale, latest.path.read_text()) == (5, True, "old")
    store.write(write("new"), 1, {})
    latest = store.latest()
    assert latest is not None
    assert (latest.epoch, latest.stale) == (1, False)


def test_of_an_earlier_run_the_later_epochs_are_dropped_first(tmp_path: Path) -> None:
    old = Store(tmp_path)
    for epoch in (3, 4, 5):
        old.write(write("old"), epoch, {})
    store = Store(tmp_path)
    store.begin(None)
    for epoch in (1, 2, 3):
        store.write(write("new"), epoch, {})
        latest = store.latest()
        assert latest is not None
        assert latest.epoch == epoch
    assert [p.read_text() for p in sorted(tmp_path.glob("*.keras"))] == ["new"] * 3


def test_what_cannot_be_read_does_not_keep_a_run_from_beginning_anew(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.json").write_text("{")
    store = Store(tmp_path)
    store.begin(None)
    assert store.latest() is None


def test_an_index_of_an_older_tfdist_is_read(tmp_path: Path) -> None:
    (tmp_path / "epoch-00002.keras").write_text("two")
    entry = {"format": 1, "file": "epoch-00002.keras", "epoch": 2, "logs": {"loss": 0.5}}
    (tmp_path / "checkpoint.json").write_text(json.dumps(entry))
    latest = Store(tmp_path).latest()
    assert latest is not None
    assert (latest.epoch, latest.logs, latest.stale) == (2, {"loss": 0.5}, False)
