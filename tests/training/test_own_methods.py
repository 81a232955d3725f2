"""A class's own fit, evaluate, predict, compile and save: what calls super() reaches tfdist's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfdist
from tests.training import published
from tests.training.comparing import mirrored, same, seeded
from tests.training.models import FIT, LABELS, TARGETS, X, regressor
from tfdist.errors import PlugError

METHODS = ("fit", "evaluate", "predict", "train_on_batch", "save", "save_weights", "export")


@pytest.fixture(autouse=True)
def _keras_is_left_as_it_was() -> Any:
    before = {name: getattr(keras.Model, name) for name in METHODS}
    own = {name for name in METHODS if name in vars(keras.Model)}
    yield
    assert {name: getattr(keras.Model, name) for name in METHODS} == before
    assert {name for name in METHODS if name in vars(keras.Model)} == own


class Own(keras.Sequential):
    """Does a little beside in every method."""

    def fit(self, x: Any, y: Any, **given: Any) -> Any:
        """Trains twice, looks between, and trains another model, which is not plugged."""
        callback = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: self.seen.append(self.predict(x[:5], verbose=0))
        )
        first = super().fit(x, y, callbacks=[callback], **given).history
        score = self.evaluate(x, y, verbose=0)
        other = regressor()
        other.fit(x, TARGETS, **given)
        assert "_tfdist_plugged" not in vars(other)
        second = super().fit(x, y, validation_data=(x[:41], y[:41]), **given).history
        return [first, score, second]

    def evaluate(self, x: Any = None, y: Any = None, **given: Any) -> Any:
        self.seen.append(len(self.predict(x[:3], verbose=0)))
        return super().evaluate(x, y, **given)

    def predict(self, x: Any, **given: Any) -> Any:
        return 2 * super().predict(x, **given)

    def train_on_batch(self, x: Any, y: Any = None, **given: Any) -> Any:
        return super().train_on_batch(x, y, **given)


def own() -> keras.Model:
    model = Own([keras.Input((8,)), layers.Dense(6, "tanh"), layers.Dense(3, "softmax")])
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    model.seen = []
    return model


def test_methods_that_call_one_another_and_super_do_what_they_do_in_keras() -> None:
    def use(model: keras.Model) -> Any:
        result = model.fit(X, LABELS, **FIT)
        return [result, list(model.seen), model.train_on_batch(X[:10], LABELS[:10])]

    same(own, use)


class Batches(keras.Sequential):
    """A loop of its own over batches, which the model's own methods take one by one."""

    def fit(self, x: Any, y: Any, batch_size: int = 32) -> Any:
        return [
            self.train_on_batch(x[i : i + batch_size], y[i : i + batch_size])
            for i in range(0, len(x), batch_size)
        ]

    def evaluate(self, x: Any, y: Any) -> Any:
        return float(np.mean(np.argmax(self.predict(x), -1) == y))

    def predict(self, x: Any) -> Any:
        return self(tf.constant(x)).numpy()


def with_layers(kind: type[keras.Sequential]) -> keras.Model:
    model = kind([keras.Input((8,)), layers.Dense(6, "tanh"), layers.Dense(3, "softmax")])
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    return model


def test_a_loop_over_train_on_batch_and_methods_that_only_look_are_left_alone() -> None:
    same(
        lambda: with_layers(Batches),
        lambda model: [model.fit(X, LABELS), model.evaluate(X, LABELS), model.predict(X[:7])],
    )


class ByHand(keras.Sequential):
    def fit(self, x: Any, y: Any) -> None:
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)


class BySteps(keras.Sequential):
    def fit(self, x: Any, y: Any) -> None:
        self.make_train_function()
        for batch in tf.data.Dataset.from_tensor_slices((x, y)).batch(32):
            self.train_step(batch)


@pytest.mark.parametrize("kind", [ByHand, BySteps])
def test_a_fit_that_takes_steps_itself_is_refused_before_the_first(kind: Any) -> None:
    with mirrored(2).scope():
        model = tfdist.plug(with_layers(kind))
    before = model.get_weights()
    with pytest.raises(
        PlugError, match=rf"{kind.__name__}\.fit takes steps by itself .*train_step.*super\(\)\.fit"
    ):
        model.fit(tf.constant(X), tf.constant(LABELS))
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert "apply" not in vars(model.optimizer)


@pytest.mark.parametrize("method", ["fit", "train_on_batch"])
def test_a_method_that_has_trained_nothing_is_refused(method: str) -> None:
    kind = type("Idle", (keras.Sequential,), {method: lambda self, *args, **kwargs: None})
    with mirrored(2).scope():
        model = tfdist.plug(with_layers(kind))
    with pytest.raises(PlugError, match=rf"Idle\.{method} has returned without.*train_step"):
        getattr(model, method)(X, LABELS)


def test_on_one_device_a_fit_may_take_its_own_steps() -> None:
    with seeded():
        plain = with_layers(ByHand)
        plain.fit(tf.constant(X), tf.constant(LABELS))
    with seeded():
        with tfdist.strategy("one_device").scope():
            model = tfdist.plug(with_layers(ByHand))
        model.fit(tf.constant(X), tf.constant(LABELS))
    for one, other in zip(plain.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_function_that_takes_steps_is_not_the_class_s_to_make() -> None:
    kind = type("Maker", (keras.Sequential,), {"make_train_function": lambda self, force=False: 0})
    with mirrored(2).scope():
        model = with_layers(kind)
    with pytest.raises(PlugError, match=r"Maker has a make_train_function of its own.*train_step"):
        tfdist.plug(model)


def test_an_own_compile_after_plug_makes_its_optimizers_in_the_scope() -> None:
    class Makes(published.Gan):
        def compile(self, rate: float) -> None:  # type: ignore[override]
            super().compile(
                keras.optimizers.Adam(rate),
                keras.optimizers.Adam(rate),
                keras.losses.BinaryCrossentropy(from_logits=True),
            )

    def make() -> keras.Model:
        return Makes(published.discriminator(), published.generator())

    def use(model: keras.Model) -> Any:
        model.compile(0.01)
        return model.fit(X, **{**FIT, "epochs": 1}).history

    same(make, use, weights=1e-5)


def test_an_own_optimizer_made_outside_of_the_scope_is_named() -> None:
    with mirrored(2).scope():
        gan = published.Gan(published.discriminator(), published.generator())
    published.compiled_gan(gan)
    with pytest.raises(PlugError, match=r"optimizer .*made outside of strategy\.scope\(\)"):
        tfdist.plug(gan).fit(X, **FIT)


@keras.saving.register_keras_serializable("own_methods")
class Saves(published.Gan):
    """Its own `save` writes its parts beside it."""

    def save(self, filepath: Any, **given: Any) -> None:
        super().save(filepath, **given)
        self.generator.save(f"{filepath}.generator.keras")

    def get_config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config(cls, config: Any) -> Any:
        return cls(published.discriminator(), published.generator())


def test_an_own_save_writes_all_and_loads_without_tfdist(tmp_path: Path) -> None:
    with mirrored(2).scope():
        model = published.compiled_gan(Saves(published.discriminator(), published.generator()))
    tfdist.plug(model).fit(X, **FIT)
    path = tmp_path / "gan.keras"
    model.save(path)
    loaded = keras.models.load_model(path, compile=False)
    assert type(loaded) is Saves
    assert "_tfdist_plugged" not in vars(loaded)
    generator = keras.models.load_model(f"{path}.generator.keras", compile=False)
    for part in (loaded.generator, generator):
        for one, other in zip(part.get_weights(), model.generator.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("wrapped", [False, True], ids=["alone", "in a Bidirectional"])
def test_a_stateful_layer_is_refused_by_name(wrapped: bool) -> None:
    def make() -> keras.Model:
        layer = layers.LSTM(4, stateful=True, name="remembers")
        model = keras.Sequential(
            [
                keras.Input((5, 2), batch_size=10),
                layers.Bidirectional(layer) if wrapped else layer,
                layers.Dense(1),
            ]
        )
        model.compile("sgd", "mse")
        return model

    with mirrored(2).scope():
        model = tfdist.plug(make())
    rows = np.ones((20, 5, 2), "float32")
    says = r"'(backward_)?remembers' is stateful.*stateful=False"
    with pytest.raises(PlugError, match=says):
        model.fit(rows, rows[:, 0, :1], batch_size=10, verbose=0)
    with pytest.raises(PlugError, match=says):
        model.predict(rows, batch_size=10, verbose=0)
    with tfdist.strategy("one_device").scope():
        alone: Any = tfdist.plug(make())
    assert alone.fit(rows, rows[:, 0, :1], batch_size=10, verbose=0).history["loss"]


def test_a_compiled_model_that_is_not_built_predicts() -> None:
    def make() -> keras.Model:
        model = keras.Sequential([layers.Dense(6, "tanh"), layers.Dense(3)])
        model.compile("sgd", "mse", metrics=["mae"])
        return model

    same(make, lambda model: [model.predict(X, verbose=0), model.predict_on_batch(X[:5])])


def test_an_input_that_may_be_absent_is_absent() -> None:
    class Sum(layers.Layer):
        def call(self, one: Any, other: Any = None) -> Any:
            return one if other is None else one + other

    def make() -> keras.Model:
        one = keras.Input((8,), name="one")
        other = keras.Input((8,), name="other", optional=True)
        output = layers.Dense(3, "softmax")(Sum()(one, other))
        model = keras.Model({"one": one, "other": other}, output)
        model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
        return model

    def generated() -> Any:
        for start in range(0, 105, 20):
            rows = slice(start, start + 20)
            yield {"one": X[rows], "other": None}, LABELS[rows]

    def use(model: keras.Model) -> Any:
        x = {"one": X, "other": None}
        return [
            model.fit(x, LABELS, **FIT).history,
            model.evaluate(x, LABELS, verbose=0),
            model.predict(x, verbose=0),
            model.train_on_batch(x, LABELS),
            model.evaluate(generated(), verbose=0),
            model.predict(generated(), verbose=0),
        ]

    same(make, use)


def test_a_decorated_step_is_not_left_with_the_values_of_the_first_look() -> None:
    class Decorated(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = layers.Dense(2)
            self.tracker = keras.metrics.Mean(name="tracked")

        @property
        def metrics(self) -> list[Any]:
            return [self.tracker]

        @tf.function
        def train_step(self, data: Any) -> Any:
            x, y = data
            if tf.reduce_sum(x) > 1e9:  # autograph's
                x = 2 * x
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((self.dense(x) - y) ** 2)
            gradients = tape.gradient(loss, self.dense.trainable_variables)
            self.optimizer.apply(gradients, self.dense.trainable_variables)
            self.tracker.update_state(loss)
            return {"loss": self.tracker.result()}

    def make() -> keras.Model:
        model = Decorated()
        model.compile(keras.optimizers.SGD(0.1))
        return model

    same(make, lambda model: model.fit(X, TARGETS, **FIT).history)


def test_what_a_wrong_step_says_is_told() -> None:
    class Broken(keras.Model):
        def train_step(self, data: Any) -> Any:
            raise LookupError("broken")

    with mirrored(2).scope():
        model = Broken()
        model.compile("sgd")
    with pytest.raises(LookupError, match="broken"):
        tfdist.plug(model).fit(X, TARGETS, **FIT)
