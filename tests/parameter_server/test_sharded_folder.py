"""A checkpoint that servers have written is read into any number of shards, or found damaged."""

from __future__ import annotations

import dataclasses
import functools
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdist
from tests.recovery.checkpoint_files import told
from tfdist.diagnose import job_outcome
from tfdist.errors import CheckpointError
from tfdist.training import evaluator
from tfdist.training.checkpointing import server_copies, server_files
from tfdist.training.checkpointing.damage import damage_of
from tfdist.training.checkpointing.loading import load_variables
from tfdist.training.checkpointing.server_copies import ServerCopies
from tfdist.training.checkpointing.sharded_folder import Contents, SavedVariable
from tfdist.training.checkpointing.store import Store
from tfdist.training.embeddings.table_slots import plain_variables

ROWS = 23


def made(shards: int | None, seed: int = 0, width: int = 3) -> keras.Model:
    """A built model; its table in so many shards, or plain Keras' own."""
    keras.utils.set_random_seed(seed)
    kind = keras.layers.Embedding if shards is None else tfdist.ShardedEmbedding
    table = kind(ROWS, width, **({} if shards is None else {"shards": shards}))
    model = keras.Sequential(
        [keras.Input((2,), dtype="int32"), table, keras.layers.Dropout(0.5), keras.layers.Dense(1)]
    )
    model.compile(keras.optimizers.Adam(0.1), "mse")
    model.optimizer.build(model.trainable_variables)
    for variable in [*model.weights, *model.optimizer.variables]:
        if variable.dtype == "float32":
            variable.assign(np.random.default_rng(seed).normal(size=variable.shape))
    return model


def values_of(model: keras.Model) -> dict[str, Any]:
    found = plain_variables(model)
    return {name: np.asarray(variable.numpy()) for name, variable in found.items()}


def written(model: keras.Model, folder: Path) -> Path:
    ServerCopies(model, plain_variables(model)).save(folder, b"")
    return folder


@pytest.mark.parametrize(
    ("before", "after"),
    [(None, 3), (4, None), (4, 6), (6, 4), (4, 3), (3, 3), (1, 2), (6, 2), (2, 1)],
)
def test_any_number_of_shards_becomes_any_other(
    before: int | None, after: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_copies, "_BLOCK_BYTES", 2 * 3 * 4)  # two rows
    first, second = made(before, 1), made(after, 2)
    folder = written(first, tmp_path / "a.sharded")
    assert damage_of(folder) is None
    assert load_variables(folder, second, plain_variables(second)) is None
    expected, found = values_of(first), values_of(second)
    assert list(expected) == list(found)
    for name, value in expected.items():
        np.testing.assert_array_equal(value, found[name], name)


def test_a_copy_stays_what_it_was_while_training_goes_on(tmp_path: Path) -> None:
    model, other = made(2, 1), made(2, 2)
    before = values_of(model)
    copies = ServerCopies(model, plain_variables(model))
    for variable in model.weights:
        variable.assign(variable + 1.0)
    copies.save(tmp_path / "a.sharded", b"")
    assert load_variables(tmp_path / "a.sharded", other, plain_variables(other)) is None
    for name, value in values_of(other).items():
        np.testing.assert_array_equal(value, before[name])


def test_the_files_are_tensorflows_own(tmp_path: Path) -> None:
    model = made(2)
    folder = written(model, tmp_path / "a.sharded")
    reader = tf.train.load_checkpoint(str(folder / "variables"))
    saved = Contents.of(folder).variables[0]
    shard = reader.get_tensor(saved.blocks(1)[0].key)
    np.testing.assert_array_equal(shard, model.layers[0].table.numpy()[1::2])


@pytest.mark.parametrize("which", range(3))
def test_the_first_weight_that_is_not_finite_is_named(which: int) -> None:
    model = made(3)
    assert ServerCopies(model, plain_variables(model)).not_finite() == ""
    weight = model.weights[[0, 2, 3][which]]
    value = np.array(weight.numpy())
    value[-1] = np.nan
    weight.assign(value)
    lost = ServerCopies(model, plain_variables(model)).not_finite()
    assert lost.endswith(("embeddings", "embeddings", "kernel")[which])


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the checkpoints of two epochs, of the models with the seeds 1 and 2."""
    directory = tmp_path_factory.mktemp("two")
    store = Store(directory)
    for epoch in (1, 2):
        copies = ServerCopies(model := made(2, epoch, 64), plain_variables(model))
        save = functools.partial(copies.save, job=b"")
        store.write(lambda path, save=save: save(Path(path)), epoch, {}, suffix=".sharded")  # type: ignore[misc]
    return directory


@pytest.mark.parametrize(
    ("name", "harm", "said"),
    [
        (
            "variables.data-00000-of-00001",
            cut_off,
            "has 20,577 bytes instead of 20,607",
        ),
        ("variables.data-00000-of-00001", Path.unlink, "data-00000-of-00001 is not there"),
        ("variables.data-00000-of-00001", flip_a_bit, "hecksum does not match"),
        ("variables.index", cut_off, "part variables.index has"),
        ("variables.index", Path.unlink, "part variables.index is not there"),
        ("variables.index", flip_a_bit, "ariables"),
        ("state.zip", cut_off, "part state.zip: it is cut off or overwritten"),
        ("state.zip", Path.unlink, "part state.zip: it is not there"),
    ],
)
def test_a_damaged_one_is_named_and_the_one_before_it_taken(
    name: str,
    harm: Callable[[Path], None],
    said: str,
    two: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shutil.copytree(two, tmp_path, dirs_exist_ok=True)
    harm(tmp_path / "epoch-00002.sharded" / name)
    with told(caplog):
        resumed = made(3, 7, 64)
        variables = plain_variables(resumed)
        saved = Store(tmp_path).latest(lambda one: load_variables(one.path, resumed, variables))
    assert saved is not None
    assert saved.epoch == 1
    assert "epoch-00002.sharded: " in caplog.text
    assert said in caplog.text
    first = made(2, 1, 64)
    np.testing.assert_array_equal(first.layers[0].table.numpy(), resumed.layers[0].table.numpy())


def test_a_file_that_cannot_be_written_is_an_error_of_the_disk(tmp_path: Path) -> None:
    model = made(2)
    copies = ServerCopies(model, plain_variables(model))
    (tmp_path / "run").mkdir()
    with pytest.raises(OSError, match=r"sharded"):
        copies.save(tmp_path / "run" / "no" / "a.sharded", b"")


def test_another_models_checkpoint_is_refused(tmp_path: Path) -> None:
    folder = written(made(2), tmp_path / "a.sharded")
    wider = made(2, width=5)
    with pytest.raises(CheckpointError, match=r"shape \(23, 3\) for the variable .* \(23, 5\)"):
        load_variables(folder, wider, plain_variables(wider))
    plain = made(2)
    plain.compile("sgd", "mse")
    with pytest.raises(CheckpointError, match="variables that the model or its optimizer has not"):
        load_variables(folder, plain, plain_variables(plain))


def test_weights_alone_are_read_where_that_is_asked_for(tmp_path: Path) -> None:
    first, other = made(2, 1), made(None, 2)
    folder = written(first, tmp_path / "a.sharded")
    weights = {k: v for k, v in plain_variables(other).items() if k.startswith("weight_")}
    slots = [np.asarray(v) for v in other.optimizer.variables]
    assert load_variables(folder, other, weights, whole=False) is None
    np.testing.assert_array_equal(first.layers[0].table.numpy(), other.layers[0].get_weights()[0])
    for one, same in zip(slots, other.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one, np.asarray(same))


@pytest.mark.parametrize("change", [{"shards": 0}, {"block_rows": 0}, {"shape": (4,), "shards": 2}])
def test_what_is_no_variable_is_refused(change: dict[str, Any]) -> None:
    whole = SavedVariable("weight_0000", "table", (4, 2), "float32")
    with pytest.raises(ValueError, match="weight_0000"):
        dataclasses.replace(whole, **change)


def test_an_evaluator_reads_the_weights_and_looks_at_the_files(two: Path, tmp_path: Path) -> None:
    model = made(None, 7, 64)
    evaluator._load_weights(model, two / "epoch-00002.sharded")
    expected = values_of(made(2, 2, 64))
    for name, value in values_of(model).items():
        if name.startswith("weight"):
            np.testing.assert_array_equal(value, expected[name])
    shutil.copytree(two, tmp_path, dirs_exist_ok=True)
    cut_off(tmp_path / "epoch-00002.sharded" / "variables.data-00000-of-00001")
    with pytest.raises(CheckpointError, match=r"has 20,577 bytes"):
        evaluator._load_weights(model, tmp_path / "epoch-00002.sharded")


def test_chaos_tells_two_of_them_apart(two: Path) -> None:
    arrays = [dict(job_outcome._arrays_of(two / f"epoch-0000{k}.sharded")) for k in (1, 2)]
    assert [int(one["optimizer_0_0000_shard_0_block_0"]) for one in arrays] == [0, 0]
    assert arrays[0].keys() == arrays[1].keys()
    table = made(2, 2, 64).layers[0].table.numpy()
    np.testing.assert_array_equal(arrays[1]["weight_0000_shard_1_block_0"], table[1::2])
    largest = job_outcome.largest_file(two / "epoch-00002.sharded")
    assert largest.name == "variables.data-00000-of-00001"


def test_the_older_are_dropped_and_all_is_their_owners_alone(two: Path, tmp_path: Path) -> None:
    shutil.copytree(two, tmp_path, dirs_exist_ok=True)
    store = Store(tmp_path, keep=2)
    copies = ServerCopies(model := made(2), plain_variables(model))
    before = os.umask(0)
    try:
        store.write(lambda path: copies.save(Path(path), b""), 3, {}, suffix=".sharded")
    finally:
        os.umask(before)
    kept = [path.name for path in tmp_path.glob("*.sharded")]
    assert sorted(kept) == ["epoch-00002.sharded", "epoch-00003.sharded"]
    assert not list(tmp_path.glob(".writing-*"))
    newest = tmp_path / "epoch-00003.sharded"
    assert {stat.S_IMODE(path.stat().st_mode) for path in newest.iterdir()} == {0o600}
    assert stat.S_IMODE(newest.stat().st_mode) == 0o700


def test_a_layer_that_writes_its_own_files_leaves_it_to_the_chief(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Counting(keras.layers.Dense):
        def save_own_variables(self, store: Any) -> None:
            store["0"] = 1

    model = keras.Sequential([keras.Input((2,)), Counting(1, name="counting")])
    monkeypatch.setattr(server_files, "on_servers", lambda _: {"/job:ps/task:0": 300 << 20})
    variables = plain_variables(model)
    with told(caplog):
        assert not server_files.servers_write(model, variables, tmp_path, None)
    assert "the layer 'counting' has a save_own_variables" in caplog.text
    assert "needs 300 MiB of memory for it" in caplog.text
    with pytest.raises(CheckpointError, match=r"sharded=True, but the layer 'counting'"):
        server_files.servers_write(model, variables, tmp_path, True)
    assert not server_files.servers_write(model, variables, tmp_path, False)


def test_what_is_no_answer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"sharded='yes': give True, False or None"):
        tfdist.callbacks.Checkpoint(tmp_path, sharded="yes")  # type: ignore[arg-type]
