"""L-BFGS in one process: SciPy's minimum, the loss that Keras evaluates, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from scipy import optimize
from sklearn.datasets import load_digits

import tfdist
from tests.training.devices import cut_the_cpu
from tfdist.errors import CheckpointError, DataError, PlugError
from tfdist.optimize import LBFGS

cut_the_cpu()  # as the tests of `training` do, which may share this process
ROWS = 600
DIGITS = load_digits()
X, Y = (DIGITS.data / 16.0)[:ROWS], DIGITS.target[:ROWS]
PENALTY = 2.0**-9  # a number that float32 has, too


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    before, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")  # once another test has set one, floatx does not
    yield
    keras.config.set_floatx(before)
    keras.config.set_dtype_policy(policy)


def regression(loss: Any = None, *between: Any) -> keras.Model:
    """Softmax regression of the digits with a quadratic penalty on all weights: convex."""
    keras.utils.set_random_seed(1)
    penalty = keras.regularizers.L2(PENALTY)
    last = layers.Dense(10, kernel_regularizer=penalty, bias_regularizer=penalty)
    model = keras.Sequential([keras.Input((64,)), *between, last])
    loss = loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=None, loss=loss, metrics=["accuracy"])
    return model


def flat(model: keras.Model) -> np.ndarray:
    return np.concatenate([np.ravel(w) for w in model.get_weights()])


def by_numpy(weights: np.ndarray, rows: slice = slice(None)) -> tuple[float, np.ndarray]:
    """The loss of `regression` and its gradient, without TensorFlow."""
    x, y = X[rows], Y[rows]
    kernel, bias = weights[:640].reshape(64, 10), weights[640:]
    logits = x @ kernel + bias
    logits -= logits.max(1, keepdims=True)
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    each = np.arange(len(y))
    loss = -np.mean(np.log(chances[each, y])) + PENALTY * weights @ weights
    chances[each, y] -= 1
    gradient = np.concatenate([np.ravel(x.T @ chances / len(y)), chances.mean(0)])
    return float(loss), gradient + 2 * PENALTY * weights


def test_a_convex_model_has_scipys_minimum() -> None:
    model = regression()
    start = flat(model)
    found = LBFGS(tolerance=1e-8, loss_tolerance=0).minimize(
        model, X, Y, batch_size=100, max_iterations=500, verbose=0
    )
    options = {"ftol": 0.0, "gtol": 1e-8, "maxiter": 500}
    theirs = optimize.minimize(by_numpy, start, jac=True, method="L-BFGS-B", options=options)
    assert found.converged, found.message
    assert np.abs(flat(model) - theirs.x).max() < 1e-6
    assert found.loss == pytest.approx(theirs.fun, abs=1e-12)
    assert found.evaluations < 1.5 * theirs.nfev
    assert found.gradient == pytest.approx(np.abs(by_numpy(flat(model))[1]).max(), rel=1e-3)


def test_the_history_is_kerass_with_an_epoch_an_iteration() -> None:
    model = regression()
    stop = keras.callbacks.EarlyStopping("val_loss", patience=0, min_delta=0.2)
    found = LBFGS().minimize(
        model, X, Y, validation_data=(X[:90], Y[:90]), callbacks=[stop], verbose=0
    )
    assert found.message == "a callback has stopped it"
    assert not found.converged
    history = found.history.history
    assert found.history.epoch == list(range(found.iterations))
    assert history["loss"][-1] == found.loss
    assert set(history) == {"loss", "gradient", "step", "passes", "val_loss", "val_accuracy"}
    evaluated = model.evaluate(X[:90], Y[:90], verbose=0, return_dict=True)
    assert history["val_loss"][-1] == pytest.approx(evaluated["loss"], rel=1e-12)
    assert sum(history["passes"]) == found.evaluations - 1


def _weighted() -> dict[str, Any]:
    rng = np.random.default_rng(2)
    return {"sample_weight": rng.uniform(0.1, 3.0, len(X))}


@pytest.mark.parametrize(
    "data",
    [
        {"x": X, "y": Y, "batch_size": 64},
        {"x": X, "y": Y, "batch_size": 7},
        {"x": X, "y": Y, **_weighted()},
        {"x": X, "y": Y, "class_weight": {digit: 1.0 + digit for digit in range(10)}},
    ],
    ids=["portions", "uneven", "sample_weight", "class_weight"],
)
def test_the_loss_is_that_of_all_rows_as_one_batch(data: dict[str, Any]) -> None:
    model = regression()
    found = LBFGS().minimize(model, **data, max_iterations=0, verbose=0)
    weights = data.get("sample_weight")
    if "class_weight" in data:
        weights = np.array([1.0 + digit for digit in Y])
    logits = tf.convert_to_tensor(model(X))
    loss = model.compute_loss(X, Y, logits, None if weights is None else tf.constant(weights))
    assert found.loss == pytest.approx(float(loss), rel=1e-13)
    assert (found.iterations, found.evaluations) == (0, 1)
    assert found.message == "max_iterations=0"


def test_the_size_of_portions_changes_the_rounding_alone() -> None:
    ends = []
    for size in (600, 97, None):
        model = regression()
        LBFGS().minimize(model, X, Y, batch_size=size, max_iterations=12, verbose=0)
        ends.append(flat(model))
    assert np.abs(ends[0] - ends[1]).max() < 1e-9
    assert np.abs(ends[0] - ends[2]).max() < 1e-9


def test_a_run_has_the_same_bits_again_and_as_a_dataset() -> None:
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(100)
    ends = []
    for given in [(X, Y), (X, Y), (data,)]:
        model = regression()
        size = None if len(given) == 1 else 100
        LBFGS().minimize(model, *given, batch_size=size, max_iterations=10, verbose=0)
        ends.append(flat(model))
    np.testing.assert_array_equal(ends[0], ends[1])
    np.testing.assert_array_equal(ends[0], ends[2])


class Own(keras.Model):
    """Embeds, has a loss of its own and outputs in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.table = layers.Embedding(20, 3)
        self.last = layers.Dense(1, activity_regularizer=keras.regularizers.L2(0.1))

    def call(self, x: Any, training: bool = False) -> Any:
        self.add_loss(0.01 * tf.reduce_mean(self.table(x["id"]) ** 2))
        return {"sum": self.last(tf.reduce_sum(self.table(x["id"]), 1) + x["more"])}


def test_an_own_class_with_embeddings_and_losses_of_its_own() -> None:
    rng = np.random.default_rng(3)
    ids, more = rng.integers(0, 20, (150, 4)), rng.normal(size=(150, 3))
    keras.utils.set_random_seed(1)
    with tfdist.strategy("one_device").scope():
        model = Own()
        model.compile(optimizer=None, loss={"sum": "mse"})
    x, y = {"id": ids, "more": more}, {"sum": ids.sum(1, keepdims=True) / 10.0}
    start = LBFGS().minimize(model, x, y, batch_size=40, max_iterations=0, verbose=0)
    found = LBFGS().minimize(model, x, y, batch_size=40, max_iterations=40, verbose=0)
    assert found.loss < 0.2 * start.loss
    assert found.loss == pytest.approx(model.evaluate(x, y, 150, verbose=0), rel=1e-12)


def test_frozen_normalization_is_part_of_the_model() -> None:
    model = regression(None, norm := layers.BatchNormalization())
    norm.trainable = False
    model.compile(optimizer=None, loss=model.loss)
    before = norm.get_weights()
    found = LBFGS().minimize(model, X, Y, max_iterations=5, verbose=0)
    assert found.iterations == 5
    np.testing.assert_array_equal(before, norm.get_weights())


class Draws(layers.Layer):
    def call(self, x: Any) -> Any:
        return x + tf.random.normal(tf.shape(x), dtype=x.dtype)


class OwnStep(keras.Sequential):
    def train_step(self, data: Any) -> Any:
        return super().train_step(data)


def _own_step() -> keras.Model:
    model = OwnStep([keras.Input((64,)), layers.Dense(10)])
    model.compile(optimizer=None, loss="mse")
    return model


def _frozen() -> keras.Model:
    model = regression()
    model.trainable = False
    return model


def _half() -> keras.Model:
    model = keras.Sequential([keras.Input((64,)), layers.Dense(10, dtype="float16")])
    model.compile(optimizer=None, loss="mse")
    return model


SUM = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: regression(None, layers.Dropout(0.5)), "seed_generator.* while its loss"),
        (lambda: regression(None, layers.BatchNormalization()), "moving_mean' while its loss"),
        (lambda: regression(None, Draws()), "draws random numbers .RandomStandardNormal."),
        (lambda: regression(SUM), "reduction='sum', but L-BFGS takes the mean over all rows"),
        (_own_step, "OwnStep has a train_step of its own"),
        (_frozen, "nothing to train"),
        (_half, "trainable weights of float16"),
        (lambda: object(), "give a keras.Model, not builtins.object"),
    ],
    ids=["dropout", "norm", "draws", "sum", "step", "frozen", "half", "object"],
)
def test_what_it_cannot_minimize_is_refused(make: Any, told: str) -> None:
    with pytest.raises(PlugError, match=told):
        LBFGS().minimize(make(), X, Y, verbose=0)


def test_a_masked_loss_is_refused() -> None:
    x, y = np.array([[1, 2, 0], [3, 0, 0]]), np.ones([2, 3, 1])
    keras.utils.set_random_seed(1)
    model = keras.Sequential([layers.Embedding(5, 2, mask_zero=True), layers.Dense(1)])
    model.compile(optimizer=None, loss="mse")
    with pytest.raises(PlugError, match="a masked loss"):
        LBFGS().minimize(model, x, y, verbose=0)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (lambda d: d.shuffle(ROWS).batch(50), "not those of the first"),
        (lambda d: d.batch(50).repeat(), "a dataset that never ends"),
        (lambda d: d.take(0).batch(50), "given no data"),
        (lambda d: lambda context: d.batch(50), "given a function"),
    ],
    ids=["shuffled", "endless", "empty", "function"],
)
def test_data_that_are_not_the_same_in_each_pass_are_refused(data: Any, told: str) -> None:
    slices = tf.data.Dataset.from_tensor_slices((X, Y))
    with pytest.raises(DataError, match=told):
        LBFGS().minimize(regression(), data(slices), verbose=0)


def test_a_loss_that_is_not_finite_at_the_start_is_told() -> None:
    model = regression()
    model.set_weights([np.full([64, 10], np.nan), np.zeros(10)])
    with pytest.raises(PlugError, match="the loss is nan and its gradient"):
        LBFGS().minimize(model, X, Y, verbose=0)


def test_a_callback_that_keeps_the_state_of_a_fit_is_refused(tmp_path: Any) -> None:
    for callback in [
        tfdist.callbacks.Checkpoint(tmp_path / "run"),
        keras.callbacks.BackupAndRestore(str(tmp_path / "backup")),
    ]:
        with pytest.raises(PlugError, match=f"{type(callback).__name__} keeps the state of a fit"):
            LBFGS().minimize(regression(), X, Y, callbacks=[callback], verbose=0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"history": 0},
        {"history": True},
        {"tolerance": -1.0},
        {"tolerance": "a"},
        {"loss_tolerance": np.nan},
        {"curvature": 1.5},
        {"curvature": None},
        {"decrease": "a"},
        {"trials": 0},
        {"backups": "no"},
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}=.*give"):
        LBFGS(**wrong)


def test_arguments_out_of_range_are_refused() -> None:
    for wrong in ({"max_iterations": -1}, {"batch_size": 0}, {"batch_size": "a"}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}=.*give a whole number"):
            LBFGS().minimize(regression(), X, Y, **wrong)
    for x, y in (([], []), (X[:0], Y[:0])):
        with pytest.raises(DataError, match="given no rows"):
            LBFGS().minimize(regression(), x, y)
    with pytest.raises(ValueError, match="You must call"):
        LBFGS().minimize(keras.Sequential([keras.Input((64,)), layers.Dense(10)]), X, Y)


def test_replicas_in_step_are_refused() -> None:
    with tfdist.strategy("mirrored", devices=["CPU:0", "CPU:1"]).scope():
        model = regression()
    with pytest.raises(PlugError, match="L-BFGS on 2 replicas in step"):
        LBFGS().minimize(model, X, Y, verbose=0)


class Sets(keras.callbacks.Callback):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch == 2:
            self.model.set_weights([np.full(w.shape, self.value) for w in self.model.get_weights()])


def test_weights_that_a_callback_sets_are_where_it_goes_on() -> None:
    model = regression()
    found = LBFGS(tolerance=1e-8, loss_tolerance=0).minimize(
        model, X, Y, batch_size=300, max_iterations=6, callbacks=[Sets(0.0)], verbose=0
    )
    again = regression()
    again.set_weights([np.zeros_like(w) for w in again.get_weights()])
    three = LBFGS(tolerance=1e-8, loss_tolerance=0).minimize(
        again, X, Y, batch_size=300, max_iterations=3, verbose=0
    )
    np.testing.assert_array_equal(flat(model), flat(again))
    assert found.history.history["loss"][3:] == three.history.history["loss"]
    with pytest.raises(PlugError, match="the loss is nan"):
        LBFGS().minimize(regression(), X, Y, callbacks=[Sets(np.nan)], verbose=0)


class Interrupts(keras.callbacks.Callback):
    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch == 6:
            raise KeyboardInterrupt


def test_a_run_that_was_interrupted_goes_on_with_the_same_bits(tmp_path: Any) -> None:
    settings: dict[str, Any] = {"batch_size": 100, "max_iterations": 12, "verbose": 0}
    undisturbed = regression()
    whole = LBFGS(history=4).minimize(undisturbed, X, Y, **settings)
    with pytest.raises(KeyboardInterrupt):
        LBFGS(history=4).minimize(
            regression(), X, Y, **settings, directory=tmp_path, callbacks=[Interrupts()]
        )
    model = regression()
    rest = LBFGS(history=4).minimize(model, X, Y, **settings, directory=tmp_path)
    np.testing.assert_array_equal(flat(undisturbed), flat(model))
    assert (rest.loss, rest.iterations) == (whole.loss, 12)
    assert rest.evaluations == whole.evaluations
    assert rest.history.epoch == list(range(6, 12))  # the seventh was not kept
    again = LBFGS(history=4).minimize(regression(), X, Y, **settings, directory=tmp_path)
    assert (again.loss, again.history.epoch) == (whole.loss, [])


def test_a_run_goes_on_by_the_rule_that_it_is_given_now(tmp_path: Any) -> None:
    settings: dict[str, Any] = {"batch_size": 200, "verbose": 0, "directory": tmp_path}
    three: Any = np.int64(3)  # NumPy's numbers are numbers, too
    model = regression()
    loose = LBFGS(three, 0.05).minimize(model, X, Y, **settings, max_iterations=20 * three)
    again = LBFGS(3, 0.05).minimize(regression(), X, Y, **settings)
    assert loose.converged
    assert (again.iterations, again.message) == (loose.iterations, loose.message)
    state = json.loads((tmp_path / "descent" / "descent.json").read_text())
    del state["decrease"]  # as an older tfdist has written it
    state["ending"] = {"converged": True, "message": "older"}
    (tmp_path / "descent" / "descent.json").write_text(json.dumps(state))
    tight = LBFGS(3, 1e-4, 0.0).minimize(regression(), X, Y, **settings)
    assert tight.converged
    assert tight.gradient <= 1e-4 < loose.gradient
    assert tight.iterations > loose.iterations


def test_a_directory_of_another_descent_is_refused(tmp_path: Any) -> None:
    settings: dict[str, Any] = {"max_iterations": 2, "verbose": 0, "directory": tmp_path}
    LBFGS().minimize(regression(), X, Y, **settings)
    with pytest.raises(CheckpointError, match="the data or the loss are others"):
        LBFGS().minimize(regression(), X[:100], Y[:100], **settings)
    with pytest.raises(CheckpointError, match="give the same model, history"):
        LBFGS(history=3).minimize(regression(), X, Y, **settings)
    (tmp_path / "descent" / "descent.json").write_text("{}")
    with pytest.raises(CheckpointError, match="put it away, to begin anew"):
        LBFGS().minimize(regression(), X, Y, **settings)
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot be made"):
        LBFGS().minimize(regression(), X, Y, **{**settings, "directory": tmp_path / "file" / "a"})
