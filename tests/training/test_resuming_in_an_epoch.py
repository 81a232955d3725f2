"""A `fit` that ended in the middle of an epoch goes on there, with the bits of one that did not.

Whatever the data are: each kind is brought to where it stood in its own way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdist
from tests.recovery.losses import Losses
from tfdist.errors import CheckpointError

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(105, 8)).astype("float32"), RNG.integers(0, 3, 105)


@pytest.fixture(scope="module")
def two_replicas() -> tf.distribute.Strategy:
    return tfdist.strategy("mirrored", devices=["CPU:0", "CPU:1"])


class Rows(keras.utils.PyDataset):
    """Shuffles its rows itself, at the ends of epochs."""

    def __init__(self, **workers: Any) -> None:
        super().__init__(**workers)
        self.order = np.arange(len(X))

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> Any:
        rows = self.order[index * 15 : (index + 1) * 15]
        return X[rows], Y[rows]

    def on_epoch_end(self) -> None:
        np.random.shuffle(self.order)


def elements() -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((X, Y))


def noisy(x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return x + tf.random.stateless_normal([8], tf.cast(tf.stack([y, 1]), tf.int32)), y


def drawn() -> tf.data.Dataset:
    """Noise whose state is in variables: of a layer's seed, and of a generator."""
    layer, rng = keras.layers.GaussianNoise(0.3, seed=3), tf.random.Generator.from_seed(4)
    noisier = elements().shuffle(50).map(lambda x, y: (layer(x[None], training=True)[0], y))
    return noisier.batch(15).map(lambda x, y: (x + rng.normal([8]), y))


def generator() -> Iterator[Any]:
    rng = np.random.default_rng(3)
    while True:
        rows = rng.integers(0, len(X), 15)
        yield X[rows], Y[rows]


def generators() -> dict[str, Any]:
    return {
        "x": generator(),
        "steps_per_epoch": 6,
        "validation_data": generator(),
        "validation_steps": 4,
    }


def one_for_both() -> dict[str, Any]:
    both = generator()
    return {**generators(), "x": both, "validation_data": both}


def of_each_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
    own = elements().shard(context.num_input_pipelines, context.input_pipeline_id)
    return own.shuffle(30, seed=2).batch(context.get_per_replica_batch_size(16))


DATA: dict[str, Callable[[], dict[str, Any]]] = {
    "arrays": lambda: {"x": X, "y": Y, "batch_size": 15},
    "shuffled, mapped and batched": lambda: {"x": elements().shuffle(50).map(noisy).batch(15)},
    "shuffled in each repetition": lambda: {
        "x": elements().shuffle(50).repeat().batch(15),
        "steps_per_epoch": 5,
    },
    "cut into epochs by steps": lambda: {
        "x": elements().shuffle(50).repeat(4).batch(15),
        "steps_per_epoch": 5,
    },
    "shuffled and cached": lambda: {"x": elements().shuffle(50).cache().batch(15)},
    "drawn from variables": lambda: {"x": drawn()},
    "of unknown length": lambda: {
        "x": elements().shuffle(50).filter(lambda x, _: x[0] < 1).batch(15)
    },
    "a PyDataset": lambda: {"x": Rows(), "shuffle": True},
    "a PyDataset made ahead": lambda: {"x": Rows(workers=2, max_queue_size=3), "shuffle": True},
    "a generator": lambda: {"x": generator(), "steps_per_epoch": 6},
    "generators to train and to validate with": generators,
    "a generator to do both with": one_for_both,
    "of each worker": lambda: {"x": of_each_worker},
}


class Interrupted(Exception):
    pass


class Interrupt(keras.callbacks.Callback):
    """Ends `fit` as an error does, once a batch of an epoch has been trained."""

    def __init__(self, epoch: int, batch: int) -> None:
        super().__init__()
        self.at = (epoch, batch)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if (self.epoch, batch) == self.at:
            raise Interrupted


def train(
    strategy: tf.distribute.Strategy,
    folder: Path,
    data: dict[str, Any],
    interrupt: tuple[int, int] = (-1, -1),
    *,
    normalized: bool = True,
    **plug: Any,
) -> dict[str, Any]:
    """Trains a model of every kind of state; returns all that it ends with."""
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input((8,)),
                keras.layers.Dense(16, "relu"),
                keras.layers.Dropout(0.3),
                *([keras.layers.BatchNormalization()] if normalized else []),
                keras.layers.Dense(3),
            ]
        )
        model.compile(
            optimizer=keras.optimizers.Adam(0.01),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(2)],
        )
    losses = Losses()
    history = tfdist.plug(model, **plug).fit(
        **{"validation_data": (X[:40], Y[:40]), **data},
        epochs=3,
        verbose=0,
        callbacks=[
            keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.9 * rate),
            keras.callbacks.EarlyStopping("val_loss", patience=5, restore_best_weights=True),
            keras.callbacks.ReduceLROnPlateau("val_loss", patience=1),
            losses,
            tfdist.callbacks.Checkpoint(folder, every_steps=2),
            Interrupt(*interrupt),
        ],
    )
    return {
        "values": [np.asarray(v).tobytes() for v in [*model.variables, *model.optimizer.variables]],
        "history": history.history,
        "epochs": history.epoch,
        "losses": losses.seen,
    }


def check(
    strategy: tf.distribute.Strategy,
    folder: Path,
    kind: str,
    at: tuple[int, int] = (1, 3),
    **plug: Any,
) -> None:
    def run(name: str, interrupt: tuple[int, int] = (-1, -1)) -> dict[str, Any]:
        keras.utils.set_random_seed(5)
        return train(strategy, folder / name, DATA[kind](), interrupt, **plug)

    whole = run("whole")
    with pytest.raises(Interrupted):
        run("parts", at)
    last = f"epoch-{at[0]:05d}" + ("-step-0000002" if at[1] else "")
    assert (folder / "parts" / f"{last}.keras").exists()
    assert run("parts") == whole
    assert whole["epochs"] == [0, 1, 2]


def kinds(*usual: str) -> list[Any]:
    """All kinds of data; those that are not usual take long."""
    long = [pytest.mark.thorough]
    return [pytest.param(kind, marks=[] if kind in usual else long) for kind in DATA]


@pytest.mark.parametrize(
    "kind", kinds("shuffled, mapped and batched", "a PyDataset made ahead", "of each worker")
)
def test_on_two_replicas(kind: str, two_replicas: tf.distribute.Strategy, tmp_path: Path) -> None:
    check(two_replicas, tmp_path, kind)


@pytest.mark.parametrize("kind", kinds("shuffled and cached", "a generator to do both with"))
def test_on_one_device(kind: str, tmp_path: Path) -> None:
    check(tfdist.strategy("one_device"), tmp_path, kind)


@pytest.mark.parametrize("at", [(1, 3), (2, 0)])
def test_noise_of_the_data_goes_on(
    at: tuple[int, int], two_replicas: tf.distribute.Strategy, tmp_path: Path
) -> None:
    """In the middle of an epoch, and at the end of one."""
    check(two_replicas, tmp_path, "drawn from variables", at)


def test_averages_that_are_swapped_in_at_the_ends_of_epochs(tmp_path: Path) -> None:
    def run(name: str, *interrupt: Any) -> Any:
        keras.utils.set_random_seed(5)
        model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.8), "mse")
        keep = tfdist.callbacks.Checkpoint(tmp_path / name, every_steps=2)
        swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
        tfdist.plug(model)
        model.fit(X, Y, batch_size=15, epochs=3, verbose=0, callbacks=[swap, keep, *interrupt])
        return [weight.tolist() for weight in model.get_weights()]

    whole = run("whole")
    for at in (1, 3), (2, 0):
        with pytest.raises(Interrupted):
            run(f"parts {at}", Interrupt(*at))
        assert run(f"parts {at}") == whole


def test_what_gradients_were_rounded_by_is_kept(
    two_replicas: tf.distribute.Strategy, tmp_path: Path
) -> None:
    """And arrays, of which the long tests have a run that rounds nothing."""
    check(two_replicas, tmp_path, "arrays", gradient_dtype="bfloat16", error_feedback=True)


def test_another_number_of_replicas_goes_on(
    two_replicas: tf.distribute.Strategy, tmp_path: Path
) -> None:
    """The rest of the epoch is trained once, and its metrics count all of it."""

    def run(strategy: tf.distribute.Strategy, name: str, *interrupt: tuple[int, int]) -> Any:
        keras.utils.set_random_seed(5)
        data = DATA["shuffled, mapped and batched"]()
        # Statistics of a batch are those of each replica's part: here there are none.
        return train(strategy, tmp_path / name, data, *interrupt, normalized=False)

    one = tfdist.strategy("one_device")
    whole = run(one, "whole")
    with pytest.raises(Interrupted):
        run(one, "parts", (1, 3))
    other = run(two_replicas, "parts")
    for name, values in whole["history"].items():
        np.testing.assert_allclose(other["history"][name], values, rtol=1e-5)


def test_batches_of_another_size_are_refused_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    strategy = tfdist.strategy("one_device")
    with pytest.raises(Interrupted):
        train(strategy, tmp_path, DATA["arrays"](), (1, 3))
    said = "epoch with 15 rows of a global batch, and there are 30 now: give 15"
    with pytest.raises(CheckpointError, match=said):
        train(strategy, tmp_path, {"x": X, "y": Y, "batch_size": 30})


def test_a_run_that_has_ended_well_is_taken_up_with_other_data(tmp_path: Path) -> None:
    strategy = tfdist.strategy("one_device")
    with strategy.scope():
        model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3, "softmax")])
        model.compile("sgd", "sparse_categorical_crossentropy")
    tfdist.plug(model)
    keep = tfdist.callbacks.Checkpoint(tmp_path, every_steps=2)
    callbacks = keras.callbacks.CallbackList([keep], model=model, add_history=True)
    model.fit(elements().take(30).batch(15), epochs=1, verbose=0, callbacks=callbacks)
    assert keep.store.read().finished
    history = model.fit(elements().batch(15), epochs=3, verbose=0, callbacks=[keep])
    assert history.epoch == [1, 2]
    assert int(model.optimizer.iterations.numpy()) == 2 + 2 * 7


def test_a_callback_that_refuses_its_state_is_named(
    two_replicas: tf.distribute.Strategy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keras.utils.set_random_seed(5)
    with pytest.raises(Interrupted):
        train(two_replicas, tmp_path, DATA["arrays"](), (1, 3))
    monkeypatch.setattr(Losses, "set_state", lambda self, state: state["other"])
    with pytest.raises(CheckpointError, match=r"Losses does not take the state .*set_state"):
        train(two_replicas, tmp_path, DATA["arrays"]())


def test_steps_are_asked_of_one_checkpoint_and_of_a_plugged_model(tmp_path: Path) -> None:
    strategy = tfdist.strategy("one_device")
    with strategy.scope():
        model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    keep = [tfdist.callbacks.Checkpoint(tmp_path / name, every_steps=2) for name in "ab"]
    with pytest.raises(CheckpointError, match=r"plug\(model\) before fit"):
        model.fit(X, Y, verbose=0, callbacks=keep[:1])
    tfdist.plug(model)
    with pytest.raises(CheckpointError, match="2 Checkpoint callbacks with every_steps"):
        model.fit(X, Y, verbose=0, callbacks=keep)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"every": 0}, "every=0: give a number of epochs"),
        ({"every_steps": 0}, "every_steps=0: give a number of steps"),
        ({"every_steps": 1.5}, "every_steps=1.5: give a number of steps"),
        ({"every_secs": 0}, "every_secs=0: give a number of seconds"),
        ({"every": 10**400}, "every=1000"),
        ({"resume": "no"}, "resume='no': give True or False"),
        ({"save_on_background": 1}, "save_on_background=1: give True or False"),
        ({"every_secs": "5"}, "every_secs='5': give a number of seconds"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=said):
        tfdist.callbacks.Checkpoint(tmp_path, **options)


def test_a_directory_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for directory, said in (
        (None, "directory=None: give the path of a folder"),
        ("", "directory='': give the path of a folder"),
        (tmp_path / "file", "file is a file: give the path of a folder"),
    ):
        with pytest.raises(CheckpointError, match=said):
            tfdist.callbacks.Checkpoint(directory)  # type: ignore[arg-type]


def test_another_optimizer_is_refused(tmp_path: Path) -> None:
    def fit(optimizer: str) -> None:
        model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
        model.compile(optimizer, "mse")
        keep = tfdist.callbacks.Checkpoint(tmp_path)
        tfdist.plug(model).fit(X, Y, epochs=1, verbose=0, callbacks=[keep])

    fit("adam")
    with pytest.raises(CheckpointError, match="another optimizer: compile with that one"):
        fit("sgd")


def test_seconds_pass_and_a_state_is_kept(tmp_path: Path) -> None:
    strategy = tfdist.strategy("one_device")
    with strategy.scope():
        model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    keep = tfdist.callbacks.Checkpoint(tmp_path, every_secs=1e-6, keep=99)
    slow = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)
    tfdist.plug(model).fit(X, Y, batch_size=35, verbose=0, callbacks=[keep, slow])
    assert len(list(tmp_path.glob("epoch-00000-step-*.keras"))) >= 2
