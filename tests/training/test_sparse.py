"""Sparse and exact updates of sharded tables beside Keras' own, on one device."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdist.errors import PlugError
from tfdist.training.embeddings.sharded_embedding import shard_embeddings
from tfdist.training.embeddings.sparse_updates import SparseUpdates
from tfdist.training.embeddings.table_slots import plain_slots
from tfdist.training.plug_options import TrainingOptions

ROWS, COLUMNS, SHARDS = 23, 4, 3
EVERY_ID = np.arange(ROWS)
SOME_IDS = [np.array([1, 4, 4, 20]), np.array([4, 2, 0, 1]), np.array([22, 22, 22, 22])]

optimizers = keras.optimizers

EXACT: dict[str, Any] = {
    "sgd": lambda: optimizers.SGD(0.1),
    "adagrad": lambda: optimizers.Adagrad(0.1),
    "adagrad with a large epsilon": lambda: optimizers.Adagrad(0.1, epsilon=0.01),
    "adagrad from zero": lambda: optimizers.Adagrad(0.1, initial_accumulator_value=0.0),
}
LAZY: dict[str, Any] = {
    "momentum": lambda: optimizers.SGD(0.1, momentum=0.9),
    "nesterov": lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: optimizers.Adam(0.1),
    "amsgrad": lambda: optimizers.Adam(0.1, amsgrad=True),
    "adamw without decay": lambda: optimizers.AdamW(0.1, weight_decay=0.0),
    "rmsprop": lambda: optimizers.RMSprop(0.1),
    "centered rmsprop": lambda: optimizers.RMSprop(0.1, centered=True, momentum=0.9),
    "ftrl": lambda: optimizers.Ftrl(0.1),
    "ftrl with all its terms": lambda: optimizers.Ftrl(
        0.1,
        learning_rate_power=-0.6,
        l1_regularization_strength=0.01,
        l2_regularization_strength=0.02,
        l2_shrinkage_regularization_strength=0.03,
        beta=0.1,
    ),
    "a schedule": lambda: optimizers.Adam(optimizers.schedules.ExponentialDecay(0.1, 1, 0.5)),
}
ALSO_EXACT: dict[str, Any] = {
    **{name: make for name, make in LAZY.items() if name != "a schedule"},
    "adadelta": lambda: optimizers.Adadelta(0.5),
    "adamax": lambda: optimizers.Adamax(0.1),
    "lion": lambda: optimizers.Lion(0.1),
    "weight decay": lambda: optimizers.AdamW(0.1, weight_decay=0.1),
    "clipped values": lambda: optimizers.Adam(0.1, clipvalue=1e-2),
    "clipped norms": lambda: optimizers.Adam(0.1, clipnorm=1e-2),
    "clipped global norm": lambda: optimizers.Adam(0.1, global_clipnorm=2e-2),
}
"""What Keras' own code updates, whole shards at a time, where that is asked for."""


def model_of(optimizer: Any, dtype: str = "float64") -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((), dtype="int32"),
            keras.layers.Embedding(ROWS, COLUMNS, name="items", dtype=dtype),
            keras.layers.Dense(1, dtype=dtype),
        ]
    )
    model.compile(optimizer)
    return model


SPARSE_OPS = {
    "ResourceGather",
    "ResourceScatterAdd",
    "ResourceScatterMax",
    "ResourceSparseApplyAdagradV2",
    "ResourceSparseApplyFtrlV2",
    "ResourceSparseApplyKerasMomentum",
}


def slots_of(updates: SparseUpdates) -> list[Any]:
    """The optimizer's variables as plain Keras has them."""
    return plain_slots(updates._optimizer, updates._tables)


class Pair:
    """A plain model with Keras' dense updates, and a sharded one with sparse or exact updates."""

    def __init__(self, optimizer: Any, dtype: str = "float64", exact: bool = False) -> None:
        keras.utils.set_random_seed(1)
        self.plain, self.sharded = (model_of(optimizer(), dtype) for _ in range(2))
        self.sharded.set_weights(self.plain.get_weights())
        self.exact = exact
        self.updates = updates_of(self.sharded, SHARDS, exact)
        self.plain.optimizer.build(self.plain.trainable_variables)
        self.step = tf.function(self._step)

    def train(self, batches: list[Any]) -> None:
        for ids in batches:
            weights = tf.cast(ids + 1, self.plain.layers[0].dtype)
            plain = self.plain
            with tf.GradientTape() as tape:
                loss = loss_of(plain, ids, weights)
            found = tape.gradient(loss, [v.value for v in plain.trainable_variables])
            if not self.exact:  # which sums an id's gradients, and Keras alone does not
                found = [tf.convert_to_tensor(g) for g in found]
            plain.optimizer.apply(found, plain.trainable_variables)
            self.step(tf.constant(ids), weights)

    def _step(self, ids: Any, weights: Any) -> None:
        model, optimizer = self.sharded, self.sharded.optimizer
        variables = model.trainable_variables
        with tf.GradientTape() as tape:
            loss = loss_of(model, ids, weights)
        found = tape.gradient(loss, [v.value for v in variables])
        sparse, dense = self.updates.split(self.updates.clip(found, variables), variables)
        if self.exact:
            optimizer._apply_weight_decay([v for _, v in sparse])
        self.updates.apply(
            self.updates.ready(sparse), optimizer.learning_rate, optimizer.iterations
        )
        optimizer.apply([g for g, _ in dense], [v for _, v in dense])

    def assert_equal(self, rows: Any = EVERY_ID, rtol: float = 1e-10) -> None:
        expected = [v.numpy() for v in [*self.plain.variables, *self.plain.optimizer.variables]]
        tables = [v.numpy() for v in slots_of(self.updates)]
        found = [self.sharded.layers[0].get_weights()[0], *self.sharded.layers[1].get_weights()]
        for one, other in zip(expected, [*found, *tables], strict=True):
            if one.shape == (ROWS, COLUMNS):
                one, other = one[rows], other[rows]
            np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol / 10)


def loss_of(model: keras.Model, ids: Any, weights: Any) -> Any:
    return tf.reduce_mean(weights * tf.square(model(ids)[:, 0] - 1))


def updates_of(model: keras.Model, shards: int, exact: bool = False) -> SparseUpdates:
    layers = shard_embeddings(model, shards, min_bytes=0)
    model.optimizer.build(model.trainable_variables)
    updates = SparseUpdates(model.optimizer, layers, exact)
    for layer in layers:
        layer.keep_lookups_apart(exact)
    updates.check()
    updates.keep_files_plain()
    return updates


@pytest.mark.parametrize("name", [*EXACT, *LAZY])
def test_where_every_row_is_touched_weights_and_slots_are_the_dense_updates(name: str) -> None:
    pair = Pair({**EXACT, **LAZY}[name])
    pair.train([EVERY_ID, EVERY_ID[::-1], np.concatenate([EVERY_ID, EVERY_ID])])
    pair.assert_equal()


@pytest.mark.parametrize("name", [*EXACT, *LAZY])
def test_no_op_of_a_step_reads_or_makes_a_whole_shard(name: str) -> None:
    pair = Pair({**EXACT, **LAZY}[name], "float32")
    ids = tf.constant(SOME_IDS[0])
    graph = pair.step.get_concrete_function(ids, tf.ones(4)).graph
    shards = pair.sharded.layers[0].table.shards
    shapes = {tuple(shard.shape) for shard in shards}
    whole = [v for v in pair.sharded.optimizer.variables if tuple(v.shape) in shapes]
    handles = {id(v.value.handle) for v in [*shards, *whole]}
    inside = [inner for outer, inner in graph.captures if id(outer) in handles]
    assert len(inside) >= len(shards)
    users = {op.type for handle in inside for op in handle.consumers()}
    assert users
    assert users <= SPARSE_OPS
    made = {tuple(o.shape) for op in graph.get_operations() for o in op.outputs if o.shape.rank}
    assert not made & shapes


def test_the_kernel_of_adagrad_is_keras_formula_to_float32_rounding() -> None:
    pair = Pair(EXACT["adagrad"], "float32")
    pair.train([EVERY_ID, *SOME_IDS])
    step = pair.step.get_concrete_function(tf.constant(EVERY_ID), tf.ones(ROWS))
    types = {op.type for op in step.graph.get_operations()}
    assert "ResourceSparseApplyAdagradV2" in types
    pair.assert_equal(rtol=1e-6)


@pytest.mark.parametrize("name", EXACT)
def test_sgd_and_adagrad_are_the_dense_updates_whatever_is_touched(name: str) -> None:
    pair = Pair(EXACT[name])
    pair.train(SOME_IDS)
    pair.assert_equal()


@pytest.mark.parametrize("name", [*EXACT, *ALSO_EXACT])
def test_exact_updates_are_keras_whatever_is_touched_and_however_often(name: str) -> None:
    pair = Pair({**EXACT, **ALSO_EXACT}[name], exact=True)
    pair.train([EVERY_ID, *SOME_IDS, *SOME_IDS])
    pair.assert_equal()


def test_ftrl_is_the_dense_update_on_the_rows_that_were_looked_up() -> None:
    pair = Pair(LAZY["ftrl"])
    touched = SOME_IDS[0]
    before = pair.sharded.layers[0].get_weights()[0]
    pair.train([touched, touched])
    pair.assert_equal(touched)
    others = np.setdiff1d(EVERY_ID, touched)
    after = pair.sharded.layers[0].get_weights()[0]
    np.testing.assert_array_equal(after[others], before[others])


@pytest.mark.parametrize("name", LAZY)
def test_untouched_rows_and_their_slots_stay_as_they_are(name: str) -> None:
    pair = Pair(LAZY[name])
    pair.train([EVERY_ID])
    states = []
    for _ in range(2):
        tables = [t.numpy() for t in slots_of(pair.updates) if t.shape == (ROWS, COLUMNS)]
        states.append([pair.sharded.layers[0].get_weights()[0], *tables])
        pair.train([np.array([3, 5, 5, 7])])
    for before, after in zip(*states, strict=True):
        changed = np.flatnonzero((before != after).any(axis=1))
        assert set(changed) == {3, 5, 7}


@pytest.mark.parametrize(
    "options", [{"clipvalue": 1e-2}, {"clipnorm": 1e-2}, {"global_clipnorm": 2e-2}]
)
def test_clipping_sees_a_table_as_one_variable(options: dict[str, float]) -> None:
    for ids in (SOME_IDS, [EVERY_ID]):
        pair = Pair(lambda: optimizers.SGD(0.5, **options))
        pair.train(ids)
        pair.assert_equal()


def test_gradients_below_the_limit_are_not_clipped() -> None:
    pair = Pair(lambda: optimizers.SGD(0.1, global_clipnorm=1e3))
    pair.train(SOME_IDS)
    pair.assert_equal()


def test_an_empty_batch_changes_nothing() -> None:
    pair = Pair(EXACT["adagrad"])
    before = pair.sharded.layers[0].get_weights()[0]
    table = pair.sharded.layers[0].table
    empty = tf.IndexedSlices(tf.zeros((0, COLUMNS), tf.float64), tf.zeros((0,), tf.int32))
    pair.updates.apply(pair.updates.ready([(empty, s) for s in table.shards]), 0.1, 0)
    np.testing.assert_array_equal(pair.sharded.layers[0].get_weights()[0], before)


def test_duplicate_rows_are_summed_before_they_are_squared() -> None:
    pair = Pair(EXACT["adagrad"])
    shard = pair.sharded.layers[0].table.shards[0]
    ones = tf.IndexedSlices(tf.ones((2, COLUMNS)), tf.constant([1, 1]))
    pair.updates.apply(pair.updates.ready([(ones, shard)]), 0.1, 0)
    accumulator = pair.sharded.optimizer.variables[2].numpy()
    np.testing.assert_allclose(accumulator[1], 0.1 + 2.0**2, rtol=1e-6)


def test_a_dense_gradient_of_a_shard_is_refused() -> None:
    pair = Pair(EXACT["sgd"])
    shard = pair.sharded.layers[0].table.shards[0]
    with pytest.raises(PlugError, match=r"items/embeddings_shard_0 is dense"):
        pair.updates.ready([(tf.ones(shard.shape), shard)])


# ---------------------------------------------------------------- what is refused


class OwnRule(keras.optimizers.SGD):
    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        super().update_step(2 * gradient, variable, learning_rate)


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        (lambda: optimizers.Nadam(), "SGD, Adagrad, Adam, AdamW, Ftrl or RMSprop"),
        (lambda: OwnRule(), "OwnRule"),
        (lambda: optimizers.LossScaleOptimizer(optimizers.SGD()), "LossScaleOptimizer"),
        (lambda: optimizers.SGD(use_ema=True), "use_ema"),
        (lambda: optimizers.SGD(gradient_accumulation_steps=2), "gradient_accumulation_steps=2"),
        (lambda: optimizers.SGD(loss_scale_factor=8.0), "loss_scale_factor=8.0"),
        (lambda: optimizers.AdamW(), r"exclude_from_weight_decay.*exact_embeddings=True"),
    ],
)
def test_what_cannot_be_sparse_is_refused(optimizer: Any, words: str) -> None:
    model = model_of(optimizer())
    layers = shard_embeddings(model, SHARDS, min_bytes=0)
    with pytest.raises(PlugError, match=words):
        SparseUpdates(model.optimizer, layers).check()
    SparseUpdates(model.optimizer, []).check()


@pytest.mark.parametrize("make", [lambda: optimizers.Lamb(), lambda: OwnRule()])
def test_an_exact_update_that_sees_whole_tables_is_refused(make: Any) -> None:
    model = model_of(make())
    layers = shard_embeddings(model, SHARDS, min_bytes=0)
    with pytest.raises(PlugError, match=r"see whole: use SGD, Adagrad, .* Lion or Nadam"):
        SparseUpdates(model.optimizer, layers, exact=True).check()


def test_an_exact_update_names_a_table_that_weight_decay_has_lost() -> None:
    model = model_of(optimizers.AdamW())
    model.optimizer.exclude_from_weight_decay(var_list=model.layers[0].weights)
    with pytest.raises(PlugError, match=r"a table that is sharded now.*var_names="):
        updates_of(model, SHARDS, exact=True)


def test_exact_updates_and_local_steps_are_refused_together() -> None:
    with pytest.raises(PlugError, match=r"exact_embeddings with fetch_every=1, push_every=2"):
        TrainingOptions(exact_embeddings=True, push_every=2)


def test_weight_decay_is_allowed_where_tables_are_excluded_from_it() -> None:
    optimizer = optimizers.AdamW()
    optimizer.exclude_from_weight_decay(var_names=["embeddings"])
    updates_of(model_of(optimizer), SHARDS)


# ---------------------------------------------------------------- files of slots


KEPT = ["adam", "amsgrad", "ftrl", "centered rmsprop", "momentum", "adadelta", "adamax"]


@pytest.mark.parametrize("name", KEPT)
def test_slots_go_to_plain_keras_and_to_other_numbers_of_shards(tmp_path: Path, name: str) -> None:
    pair = Pair(ALSO_EXACT[name], exact=True)
    pair.train([EVERY_ID])
    pair.sharded.save(tmp_path / "model.keras")
    pair.sharded.save_weights(tmp_path / "model.weights.h5")
    expected = [v.numpy() for v in slots_of(pair.updates)]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # Keras warns where it skips the slots
        loaded = keras.models.load_model(tmp_path / "model.keras")
        plain = model_of(ALSO_EXACT[name]())
        plain.optimizer.build(plain.trainable_variables)
        plain.load_weights(tmp_path / "model.weights.h5")
        other = model_of(ALSO_EXACT[name]())
        updates = updates_of(other, 5, exact=True)
        other.load_weights(tmp_path / "model.weights.h5")
    for variables in (loaded.optimizer.variables, plain.optimizer.variables, slots_of(updates)):
        assert len(variables) == len(expected)
        for variable, value in zip(variables, expected, strict=True):
            np.testing.assert_array_equal(variable.numpy(), value)


def test_a_plain_models_slots_load_into_shards(tmp_path: Path) -> None:
    pair = Pair(LAZY["adam"])
    pair.train([EVERY_ID])
    pair.plain.save_weights(tmp_path / "plain.weights.h5")
    other = model_of(LAZY["adam"]())
    updates = updates_of(other, 2)
    other.load_weights(tmp_path / "plain.weights.h5")
    expected = pair.plain.optimizer.variables
    for variable, value in zip(slots_of(updates), expected, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value.numpy())


def test_slots_of_another_optimizer_are_skipped_with_keras_own_warning(tmp_path: Path) -> None:
    pair = Pair(EXACT["sgd"])
    pair.sharded.save_weights(tmp_path / "sgd.weights.h5")
    other = model_of(LAZY["adam"]())
    updates_of(other, 2)
    with pytest.warns(UserWarning, match="Skipping variable loading for optimizer"):
        other.load_weights(tmp_path / "sgd.weights.h5")


def test_two_tables_of_one_path_keep_their_own_slots() -> None:
    layers = [keras.layers.Embedding(ROWS, COLUMNS, name="same") for _ in range(2)]
    for layer in layers:
        layer.build()
    inputs = keras.Input((2,), dtype="int32")
    model = keras.Model(
        inputs,
        keras.layers.add([layers[0](inputs), keras.Sequential([layers[1]], name="inner")(inputs)]),
    )
    model.compile(optimizers.Adam())
    updates = updates_of(model, 2)
    paths = [weight.path for weight in model.weights]
    assert paths[:2] == paths[2:]
    slots = list(slots_of(updates))[2:]
    shards = [shard for table in slots for shard in table.shards]
    assert len(slots) == 4
    assert len({id(shard) for shard in shards}) == 8
