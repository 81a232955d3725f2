"""A directory of checkpoints never shows half of one."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

import tfdist
from tests.recovery.checkpoint_files import text_of, told, write
from tfdist.errors import CheckpointError
from tfdist.training.checkpointing.store import Store


def test_an_empty_directory_has_no_checkpoint(tmp_path: Path) -> None:
    assert Store(tmp_path / "none").latest() is None


def test_the_newest_checkpoint_is_found_with_its_logs(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(write("one"), 1, {"loss": 0.5})
    store.write(write("two"), 2, {"loss": 0.25, "note": "x"})
    latest = store.latest()
    assert latest is not None
    assert (latest.epoch, latest.logs, text_of(latest.path)) == (2, {"loss": 0.25}, "two")


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
    assert text_of(latest.path) == "whole"
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
def test_an_index_that_is_no_index_is_told_and_the_newest_file_is_taken(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    for epoch in (1, 2):
        store.write(write(str(epoch)), epoch, {})
    (tmp_path / "checkpoint.json").write_text(text)
    with told(caplog):
        latest = Store(tmp_path).latest()
    assert latest is not None
    assert (latest.epoch, text_of(latest.path)) == (2, "2")
    assert "no index of checkpoints that this tfdist wrote" in caplog.text


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(b"two")] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (Path.unlink, "it is not there"),
        (cut_off, "it is cut off or overwritten"),
        (lambda path: path.write_bytes(b""), "it is cut off or overwritten"),
        (flip_a_bit, "the checksum of its part model.weights.h5 is wrong"),
    ],
    ids=["deleted", "cut off", "empty", "one bit"],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(
    tmp_path: Path, harm: Callable[[Path], None], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    store.write(write("one"), 1, {})
    harm(store.write(write("two"), 2, {}).path)
    with told(caplog):
        latest = Store(tmp_path).latest()
    assert latest is not None
    assert (latest.epoch, text_of(latest.path)) == (1, "one")
    assert f"epoch-00002.keras: {said}" in caplog.text


def test_where_no_checkpoint_is_whole_nothing_is_begun_anew(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for epoch in (1, 2):
        cut_off(store.write(write("two"), epoch, {}).path)
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* is whole \(.*00002.*00001"):
        store.latest()


def test_what_is_put_aside_is_no_checkpoint(tmp_path: Path) -> None:
    store = Store(tmp_path, keep=1)
    store.write(write("good"), 1, {})
    assert text_of(store.put_aside(write("nan"))) == "nan"
    latest = store.latest()
    assert latest is not None
    assert text_of(latest.path) == "good"


def test_checkpoints_are_their_owners_alone(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    there.chmod(0o755)
    before = os.umask(0)
    try:
        for folder in (tmp_path / "new", there):
            store = Store(folder)
            store.begin(None)
            store.write(write("one"), 1, {})
            store.put_aside(write("nan"))
            store.finish()
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new").iterdir()}
    assert sorted(modes) == ["checkpoint.json", "epoch-00001.keras", "not-finite.keras"]
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    assert stat.S_IMODE(there.stat().st_mode) == 0o755  # it was there


@pytest.mark.parametrize("keep", [0, -1, "3"])
def test_keeping_none_is_refused(tmp_path: Path, keep: int) -> None:
    with pytest.raises(CheckpointError, match="at least 1"):
        Store(tmp_path, keep=keep)


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


def test_a_run_beside_another_ends_in_place_of_writing_over_its_checkpoints(
    tmp_path: Path,
) -> None:
    first, second = Store(tmp_path), Store(tmp_path)
    first.begin(None)
    first.write(write("one"), 1, {})
    second.begin(second.latest())
    with pytest.raises(CheckpointError, match=r"another run has begun in .* directory of its own"):
        first.write(write("two"), 2, {})
    second.write(write("other"), 2, {})
    with pytest.raises(CheckpointError, match="another run has begun"):
        first.finish()
    latest = second.latest()
    assert latest is not None
    assert text_of(latest.path) == "other"


def test_a_run_that_begins_anew_keeps_the_old_checkpoint_as_stale(tmp_path: Path) -> None:
    Store(tmp_path).write(write("old"), 5, {"loss": 1.0})
    store = Store(tmp_path)
    store.begin(None)
    latest = store.latest()
    assert latest is not None
    assert (latest.epoch, latest.stale, text_of(latest.path)) == (5, True, "old")
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
    assert [text_of(p) for p in sorted(tmp_path.glob("*.keras"))] == ["new"] * 3


def test_what_cannot_be_read_does_not_keep_a_run_from_beginning_anew(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.json").write_text("{")
    store = Store(tmp_path)
    store.begin(None)
    assert store.latest() is None


def test_an_index_of_an_older_tfdist_is_read(tmp_path: Path) -> None:
    write("two")(str(tmp_path / "epoch-00002.keras"))
    entry = {"format": 1, "file": "epoch-00002.keras", "epoch": 2, "logs": {"loss": 0.5}}
    (tmp_path / "checkpoint.json").write_text(json.dumps(entry))
    latest = Store(tmp_path).latest()
    assert latest is not None
    assert (latest.epoch, latest.logs, latest.stale) == (2, {"loss": 0.5}, False)


def test_weights_that_are_not_finite_never_become_the_checkpoint(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    strategy = tfdist.strategy("one_device")
    with strategy.scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    tfdist.plug(model)
    keep = tfdist.callbacks.Checkpoint(tmp_path, keep=1)
    x, y = np.ones((4, 2), "float32"), np.ones((4, 1), "float32")
    model.fit(x, y, verbose=0, callbacks=[keep])
    good = [np.array(weight) for weight in model.get_weights()]
    with told(caplog):
        model.fit(x, y * np.nan, verbose=0, epochs=2, callbacks=[keep])
    assert "kernel has numbers that are not finite: saved as" in caplog.text
    assert sorted(p.name for p in tmp_path.glob("*.keras")) == [
        "epoch-00001.keras",
        "not-finite.keras",
    ]
    model.load_weights(tmp_path / "epoch-00001.keras")
    for weight, expected in zip(model.get_weights(), good, strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_checkpoints_within_epochs_come_after_the_epoch_before_them(tmp_path: Path) -> None:
    store = Store(tmp_path, keep=4)
    for epoch, step in [(1, 0), (1, 200), (1, 1200), (2, 0)]:
        store.write(write(f"{epoch}+{step}"), epoch, {}, step)
    assert store.read().saved is not None
    for expected in [(2, 0), (1, 1200), (1, 200), (1, 0)]:
        latest = store.latest()
        assert latest is not None
        assert (latest.epoch, latest.step) == expected
        latest.path.write_bytes(b"cut off")


def test_what_a_killed_run_was_writing_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / ".writing-abc").mkdir()
    (tmp_path / ".writing-abc" / "epoch-00001.keras").write_bytes(b"half of it")
    (tmp_path / ".writing-def").mkdir()  # somebody may be at it
    (tmp_path / ".writing-ghi").mkdir()
    (tmp_path / ".writing-ghi" / "epoch-00002.keras").write_bytes(b"that grows")
    os.utime(tmp_path / ".writing-abc" / "epoch-00001.keras", (0, 0))
    for name in ("abc", "ghi"):
        os.utime(tmp_path / f".writing-{name}", (0, 0))
    Store(tmp_path).begin(None)
    left = sorted(path.name for path in tmp_path.glob(".writing-*"))
    assert left == [".writing-def", ".writing-ghi"]


def test_what_a_run_that_has_ended_well_lends_is_known_until_another_has_written(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path)
    store.begin(None)
    store.write(write("one"), 1, {})
    store.finish()
    lent = store.latest()
    assert lent is not None
    assert lent.lent
    again = Store(tmp_path)
    again.begin(lent)  # and it is killed before it has written anything
    third = Store(tmp_path).latest()
    assert third is not None
    assert third.lent
    again.write(write("two"), 2, {})
    newest = again.latest()
    assert newest is not None
    assert not newest.lent


def test_a_checkpoint_of_another_directory_is_taken_over_as_the_newest(tmp_path: Path) -> None:
    theirs, ours = Store(tmp_path / "theirs"), Store(tmp_path / "ours")
    theirs.write(write("two"), 2, {"loss": 0.5})
    newest = theirs.latest()
    assert newest is not None
    adopted = ours.adopt(newest)
    assert adopted == ours.latest() == dataclasses.replace(newest, path=adopted.path)
    assert adopted.path.parent == ours.directory
    assert adopted.path.read_bytes() == newest.path.read_bytes()
    ours.begin(resumed=adopted)
    assert ours.latest() == adopted


def test_a_checkpoint_that_cannot_be_copied_is_told(tmp_path: Path) -> None:
    theirs, ours = Store(tmp_path / "theirs"), Store(tmp_path / "ours")
    theirs.write(write("two"), 2, {})
    newest = theirs.latest()
    assert newest is not None
    newest.path.unlink()
    with pytest.raises(CheckpointError, match="could not be copied"):
        ours.adopt(newest)
    assert ours.latest() is None
