"""Replicas of one process that keep shares of slots; what cannot be shared is refused by name."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import optimizers

import tfdist
from tests.slot_shards.programs import FIT, SEED, WORDS, X, Y, classifier, train
from tests.training import comparing
from tests.training.comparing import alone, mirrored
from tfdist.errors import PlugError
from tfdist.training.slot_shards import share_exchange


def shared(model: keras.Model) -> keras.Model:
    return tfdist.plug(model, shard_optimizer=True)


def made(optimizer: Any, **compiling: Any) -> keras.Model:
    keras.utils.set_random_seed(SEED)
    with mirrored(3).scope():
        return shared(classifier(optimizer(), **compiling))


OPTIMIZERS = {
    "AdamW": lambda: optimizers.AdamW(0.01, global_clipnorm=0.1, use_ema=True),
    "SGD": lambda: optimizers.SGD(0.1),
    "RMSprop": lambda: optimizers.RMSprop(0.01, momentum=0.9, centered=True),
    "Adagrad": lambda: optimizers.Adagrad(0.05),
    "Adadelta": lambda: optimizers.Adadelta(0.5),
    "Adamax": lambda: optimizers.Adamax(0.01),
    "Nadam": lambda: optimizers.Nadam(0.01),
    "Lion": lambda: optimizers.Lion(0.001),
    "Ftrl": lambda: optimizers.Ftrl(0.05),
}


@pytest.mark.parametrize(
    "kind",
    [
        one if one == "AdamW" else pytest.param(one, marks=pytest.mark.thorough)
        for one in OPTIMIZERS
    ],
)
def test_three_replicas_equal_one_process(kind: str, tmp_path: Path) -> None:
    plain = classifier_after_fit(OPTIMIZERS[kind], None)
    model = classifier_after_fit(OPTIMIZERS[kind], mirrored(3))
    for a, b in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=comparing.ADAM_WEIGHTS)
    names = [[v.path for v in one.optimizer.variables if v.shape.rank] for one in (model, plain)]
    assert names[0] == names[1]
    model.save(tmp_path / "model.keras")
    read = keras.models.load_model(tmp_path / "model.keras").optimizer.variables
    for one, b in zip(read, plain.optimizer.variables, strict=True):
        np.testing.assert_allclose(one.numpy(), b.numpy(), rtol=0, atol=comparing.ADAM_WEIGHTS)


def classifier_after_fit(optimizer: Any, strategy: tf.distribute.Strategy | None) -> keras.Model:
    with comparing.seeded():
        with contextlib.nullcontext() if strategy is None else strategy.scope():
            model = classifier(optimizer())
        if strategy is not None:
            shared(model)
        model.fit(X, Y, **FIT)
    return model


@pytest.mark.thorough
def test_steps_that_xla_compiles() -> None:
    plain = train("adam", contextlib.nullcontext(), lambda model: model)
    model = made(lambda: optimizers.Adam(0.01, amsgrad=True), jit_compile=True)
    model.fit(X, Y, **FIT)
    for a, b in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=comparing.ADAM_WEIGHTS)


@pytest.mark.parametrize(
    "name",
    [
        "clipping of sparse gradients",
        pytest.param("clipping of each sparse gradient", marks=pytest.mark.thorough),
    ],
)
def test_rows_that_are_used_twice_are_clipped_as_in_one_process(name: str) -> None:
    plain = train(name, contextlib.nullcontext(), lambda model: model)
    model = train(name, mirrored(2).scope(), shared)
    for a, b in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=comparing.ADAM_WEIGHTS)


class LookUp(keras.layers.Layer):
    """A lookup of one's own, whose gradient is sparse."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def build(self, input_shape: Any) -> None:
        del input_shape
        self.table = self.add_weight(shape=self.shape, initializer="uniform")

    def call(self, words: Any) -> Any:
        found = tf.gather(self.table.value, tf.cast(words, tf.int32))
        return found if len(self.shape) > 1 else found[:, None]


def looking_up(strategy: tf.distribute.Strategy | None, shape: tuple[int, ...]) -> keras.Model:
    with comparing.seeded():
        with contextlib.nullcontext() if strategy is None else strategy.scope():
            model = classifier(optimizers.Adam(0.01), keras.Input(()), LookUp(shape))
        if strategy is not None:
            shared(model)
        model.fit(WORDS[:, 0], Y, **FIT)
    return model


def test_a_sparse_gradient_of_numbers_equals_one_process() -> None:
    plain, model = looking_up(None, (21,)), looking_up(mirrored(2), (21,))
    for a, b in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=comparing.ADAM_WEIGHTS)


def test_a_sparse_gradient_whose_rows_are_no_equal_shares_is_refused() -> None:
    told = "whose 33 rows do not come in 2 equal shares"
    with pytest.raises(PlugError, match=told):
        looking_up(mirrored(2), (33, 200))


@pytest.mark.parametrize(
    "which",
    [
        lambda model: {"var_list": [model.layers[0].kernel]},
        pytest.param(lambda _: {"var_names": ["dense_1"]}, marks=pytest.mark.thorough),
    ],
    ids=["a variable", "a layer's name"],
)
def test_what_weight_decay_leaves_out_it_leaves_out(which: Any) -> None:
    found = []
    for strategy in (None, mirrored(2)):
        with comparing.seeded():
            with contextlib.nullcontext() if strategy is None else strategy.scope():
                model = classifier(optimizers.AdamW(0.01, weight_decay=0.5))
                model.optimizer.exclude_from_weight_decay(**which(model))
            if strategy is not None:
                shared(model)
            model.fit(X, Y, **FIT)
        found.append(model.get_weights())
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=comparing.ADAM_WEIGHTS)


def test_packs_of_tensors_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    in_one = classifier_after_fit(OPTIMIZERS["AdamW"], mirrored(2))
    monkeypatch.setattr(share_exchange, "_PACK", 400)  # of a bias and a kernel, at most
    in_several = classifier_after_fit(OPTIMIZERS["AdamW"], mirrored(2))
    for a, b in zip(in_several.get_weights(), in_one.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_replicas_that_take_their_steps_one_after_the_other_are_refused() -> None:
    with pytest.raises(PlugError, match="run_eagerly with shard_optimizer where this process"):
        made(lambda: optimizers.Adam(0.01), run_eagerly=True).fit(X, Y, **FIT)


def test_no_slot_is_ever_whole() -> None:
    model = made(lambda: optimizers.Adam(0.01))
    seen = []
    kind = keras.optimizers.Adam.add_variable
    with pytest.MonkeyPatch.context() as patch:

        def add_variable(self: Any, shape: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append(tuple(shape))
            return kind(self, shape, *args, **kwargs)

        patch.setattr(keras.optimizers.Adam, "add_variable", add_variable)
        model.fit(X[:16], Y[:16], verbose=0)
    assert sorted(seen) == sorted(2 * [(2, 17), (6,), (6, 3), (1,)])


@pytest.mark.parametrize(
    ("optimizer", "name"),
    [
        (lambda: optimizers.Adafactor(0.01), "Adafactor"),
        (lambda: optimizers.Lamb(0.01), "Lamb"),
        (lambda: type("Mine", (optimizers.Adam,), {"update_step": lambda *_: None})(0.01), "Mine"),
    ],
)
def test_an_optimizer_that_may_look_further_than_a_number_is_refused(
    optimizer: Any, name: str
) -> None:
    with pytest.raises(PlugError, match=f"shard_optimizer with {name}, which may look"):
        made(optimizer).fit(X, Y, **FIT)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"gradient_dtype": "bfloat16"}, "shard_optimizer with gradient_dtype"),
        ({"local_steps": 4}, "shard_optimizer with local_steps"),
        ({"shard_optimizer": 2}, "shard_optimizer=2: give True or False"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any], told: str) -> None:
    with mirrored(3).scope():
        model = classifier("sgd")
    with pytest.raises(PlugError, match=told):
        tfdist.plug(model, **{"shard_optimizer": True, **options})


def test_callbacks_that_want_whole_slots_at_any_time_are_refused(tmp_path: Path) -> None:
    model = made(lambda: optimizers.Adam(0.01, use_ema=True))
    with pytest.raises(PlugError, match="SwapEMAWeights with shard_optimizer"):
        model.fit(X, Y, callbacks=[keras.callbacks.SwapEMAWeights()], **FIT)
    often = keras.callbacks.ModelCheckpoint(tmp_path / "a.keras", save_freq=2)
    with pytest.raises(PlugError, match=r"ModelCheckpoint\(save_freq=2\) with shard_optimizer"):
        model.fit(X, Y, callbacks=[often], **FIT)


def test_a_file_that_keras_writes_by_itself_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    plain = classifier_after_fit(OPTIMIZERS["AdamW"], None)
    model = classifier_after_fit(OPTIMIZERS["AdamW"], mirrored(3))
    keras.saving.save_model(model, path)
    read = keras.models.load_model(path).optimizer.variables
    for one, b in zip(read, plain.optimizer.variables, strict=True):
        np.testing.assert_allclose(one.numpy(), b.numpy(), rtol=0, atol=comparing.ADAM_WEIGHTS)


def test_one_replica_keeps_everything() -> None:
    with alone().scope():
        model = shared(classifier("adam"))
    model.fit(X[:16], Y[:16], verbose=0)
    assert (6, 17) in {tuple(v.shape) for v in model.optimizer.variables}


def test_one_replica_takes_callbacks_that_want_whole_slots(tmp_path: Path) -> None:
    with alone().scope():
        model = shared(classifier(optimizers.Adam(0.01, use_ema=True)))
    often = keras.callbacks.ModelCheckpoint(tmp_path / "{batch}.keras", save_freq=2)
    model.fit(X, Y, callbacks=[keras.callbacks.SwapEMAWeights(), often], **FIT)
    assert list(tmp_path.iterdir())
