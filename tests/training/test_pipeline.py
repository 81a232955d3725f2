"""A pipeline over logical CPUs of this process does what plain Keras does, to float rounding."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, optimizers

import tfdist
from tests.multi_worker import programs
from tests.training import comparing, models
from tests.training.comparing import Make, Use, assert_same, in_plain_keras
from tests.training.models import FIT, LABELS, WEIGHTS, X
from tfdist.errors import PlugError
from tfdist.pipeline import PipelinePlan
from tfdist.strategies import pipeline_strategy

TWO = {"stages": 2, "microbatches": 3}
"""Three microbatches share 32 rows unevenly, and the last batch of 9 evenly."""

PLANS: dict[str, dict[str, Any]] = {
    "1f1b": TWO,
    "gpipe, three stages, more microbatches than the last batch has rows": {
        "stages": 3,
        "microbatches": 10,
        "schedule": "gpipe",
    },
    "zero bubble": {**TWO, "schedule": "zero_bubble"},
    "zero bubble, three stages, microbatches without rows": {
        "stages": 3,
        "microbatches": 10,
        "schedule": "zero_bubble",
    },
    "sequential": {**TWO, "schedule": "sequential"},
    "recomputed": {**TWO, "recompute": True},
    "two replicas of two stages": {"stages": 2, "microbatches": 2, "replicas": 2},
}


def strategy(plan: dict[str, Any]) -> pipeline_strategy.PipelineStrategy:
    """A pipeline over three logical CPUs at most; several stages share one where it must be."""
    count = 2 if plan.get("stages") != 3 else 3
    made = PipelinePlan(tuple(f"CPU:{i}" for i in range(count)), **plan)
    devices = tuple(f"/device:CPU:{i}" for i in range(count))
    return pipeline_strategy.PipelineStrategy(made, devices, "/device:CPU:0")


def piped(plan: dict[str, Any], make: Make) -> keras.Model:
    with strategy(plan).scope():
        model = make()
    return tfdist.plug(model)


def same(make: Make, use: Use, *plans: dict[str, Any], **tolerances: Any) -> None:
    """Asserts that plain Keras and pipelines of these plans do the same."""
    plain = in_plain_keras(make, use)
    for plan in plans or (TWO,):
        with comparing.seeded():
            model = piped(plan, make)
            result = use(model)
        optimizer = getattr(model, "optimizer", None)
        outcome = dataclasses.replace(
            plain,
            result=result,
            weights=[weight.numpy() for weight in model.weights],
            optimizer=[variable.numpy() for variable in getattr(optimizer, "variables", [])],
        )
        assert_same(plain, outcome, where=f"pipeline {plan}", **tolerances)


def deep(optimizer: Any = None, *extra: Any, **compile_: Any) -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(6, activation="tanh", kernel_regularizer="l2"),
            *extra,
            layers.Dense(5, activation="tanh"),
            layers.Dense(3, activation="softmax"),
        ]
    )
    compile_.setdefault("metrics", ["accuracy"])
    model.compile(
        optimizer or optimizers.SGD(0.1, momentum=0.9),
        "sparse_categorical_crossentropy",
        **compile_,
    )
    return model


def fit(model: keras.Model, **kwargs: Any) -> Any:
    return model.fit(X, LABELS, **{**FIT, **kwargs}).history


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_a_pipeline_equals_one_process(plan: dict[str, Any]) -> None:
    same(deep, lambda m: fit(m, sample_weight=WEIGHTS, validation_data=(X, LABELS)), plan)


@pytest.mark.parametrize(
    "microbatches", [pytest.param(3, marks=pytest.mark.thorough), 10], ids=["some", "many"]
)
@pytest.mark.parametrize("schedule", ["interleaved", "zb_v", "1f1b"])
def test_a_task_with_several_stages_equals_one_process(schedule: str, microbatches: int) -> None:
    """Of ten microbatches some have no rows in the last batch."""
    plan = {"stages": 4, "schedule": schedule, "microbatches": microbatches}
    more = layers.Dense(7, activation="relu", name="more")
    same(
        lambda: deep(None, layers.Dense.from_config(more.get_config())),
        lambda m: fit(m, sample_weight=WEIGHTS, validation_data=(X, LABELS)),
        plan,
    )


def skipping() -> keras.Model:
    inputs = keras.Input((8,))
    first = layers.Dense(6, activation="tanh")(inputs)
    second = layers.Dense(6, activation="tanh", name="second")(first)
    both = layers.Concatenate()([layers.Add()([first, second]), inputs])
    model = keras.Model(inputs, layers.Dense(3)(both))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizers.SGD(0.1, global_clipnorm=0.1), loss)
    return model


def listed() -> keras.Model:
    """A model of a list of one output returns that, not the list."""
    inputs = keras.Input((8,))
    middle = layers.Dense(6, activation="tanh")(inputs)
    model = keras.Model([inputs], [layers.Dense(3, activation="softmax")(middle)])
    model.compile(optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    return model


def own_loss() -> keras.Model:
    class Own(keras.Model):
        def compute_loss(
            self,
            x: Any = None,
            y: Any = None,
            y_pred: Any = None,
            sample_weight: Any = None,
            training: bool = True,
        ) -> Any:
            error = keras.ops.mean((y_pred - keras.ops.one_hot(y, 3)) ** 2)
            return error + sum(self.losses)

    inputs = keras.Input((8,))
    hidden = layers.Dense(6, activity_regularizer="l2", kernel_regularizer="l1")(inputs)
    model = Own(inputs, layers.Dense(3)(hidden))
    model.compile(optimizers.SGD(0.1))
    return model


def weighted_mean() -> keras.Model:
    loss = keras.losses.SparseCategoricalCrossentropy(reduction="mean_with_sample_weight")
    return models.classifier(optimizers.SGD(0.1), loss)


def recurrent() -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((6,), dtype="int32"),
            layers.Embedding(20, 4),
            layers.LSTM(5),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile(optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    return model


def spared() -> keras.Model:
    optimizer = optimizers.SGD(0.1, weight_decay=0.1)
    model = models.classifier(optimizer)
    optimizer.exclude_from_weight_decay(var_list=[model.layers[0].kernel])
    return model


def accumulating() -> keras.Model:
    return deep(optimizers.SGD(0.1, gradient_accumulation_steps=2))


def fit_two(model: keras.Model) -> Any:
    trained = model.fit(models.TWO_IN, models.TWO_OUT, **FIT).history
    return [trained, model.evaluate(models.TWO_IN, models.TWO_OUT, verbose=0, return_dict=True)]


CASES: dict[str, tuple[Make, Use]] = {
    "skip connections, global clipping, class weights": (
        skipping,
        lambda m: fit(m, class_weight={0: 1.0, 1: 2.0, 2: 0.5}),
    ),
    "several inputs and outputs": (models.two_in_two_out, fit_two),
    "a loss of its own with all kinds of regularizers": (own_loss, fit),
    "masks": (programs.masked, programs.use_masked),
    "a mean over sample weights": (weighted_mean, lambda m: fit(m, sample_weight=WEIGHTS)),
    "weight decay that spares a variable": (spared, fit),
    "an embedding and a recurrent layer": (
        recurrent,
        lambda m: m.fit(models.TOKENS, LABELS, **FIT).history,
    ),
    "a list of one output": (listed, lambda m: [fit(m), m.predict(X, verbose=0)]),
    "accumulated gradients": (accumulating, fit),
    "compiled anew after a fit": (
        deep,
        lambda m: [fit(m), m.compile("adagrad", "sparse_categorical_crossentropy") or fit(m)],
    ),
    "single batches": (programs.sgd, programs.one_batch_each),
    "evaluate and predict": (programs.sgd, programs.score),
}


MARKS = {"several inputs and outputs": comparing.LOSSES_OF_OUTPUTS}


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=name, marks=MARKS.get(name, ())) for name, case in CASES.items()]
)
def test_what_keras_can_do_a_pipeline_can(case: tuple[Make, Use]) -> None:
    same(*case, TWO, {**TWO, "schedule": "zero_bubble"})


def test_adam_is_adam() -> None:
    same(lambda: deep(optimizers.Adam(0.01)), fit, weights=comparing.ADAM_WEIGHTS)


def test_mixed_precision_is_as_precise_as_before() -> None:
    def half() -> keras.Model:
        keras.config.set_dtype_policy("mixed_float16")
        return models.classifier(optimizers.SGD(0.05))

    plans = TWO, {**TWO, "schedule": "zero_bubble"}
    same(half, fit, *plans, history=comparing.HALF, weights=comparing.HALF)


def test_one_microbatch_draws_the_random_numbers_of_one_process() -> None:
    """Dropout and BatchNormalization differ from one process by nothing but the microbatches."""
    whole = {"stages": 3, "microbatches": 1}
    same(
        lambda: deep(None, layers.BatchNormalization(), layers.Dropout(0.3)),
        lambda m: fit(m, shuffle=False),
        whole,
        {**whole, "recompute": True},
    )


def test_batch_normalization_sees_one_microbatch_after_the_other() -> None:
    def make() -> keras.Model:
        model = keras.Sequential(
            [keras.Input((8,)), layers.BatchNormalization(momentum=0.5), layers.Dense(2)]
        )
        model.compile(optimizers.SGD(0.0), "mse")
        return model

    model = piped({"stages": 2, "microbatches": 2}, make)
    model.train_on_batch(X[:16], np.zeros((16, 2)))
    mean = np.zeros(8)
    for rows in (X[:8], X[8:16]):
        mean = 0.5 * mean + 0.5 * rows.mean(0)
    np.testing.assert_allclose(model.layers[0].moving_mean.numpy(), mean, atol=1e-6)


def named(
    optimizer: Any = "sgd",
    activation: str | None = None,
    kind: type[keras.Sequential] = keras.Sequential,
) -> keras.Model:
    dense = [layers.Dense(3, activation, name=f"dense_{i}") for i in range(3)]
    model = kind([keras.Input((8,)), *dense])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss)
    return model


def test_a_saved_model_is_an_ordinary_one(tmp_path: Path) -> None:
    model = piped(TWO, deep)
    fit(model, epochs=1)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is keras.Sequential
    np.testing.assert_allclose(loaded.predict(X, verbose=0), model.predict(X, verbose=0), 1e-5)
    # And the training goes on as if nothing had happened.
    one, other = fit(loaded, shuffle=False), fit(model, shuffle=False)
    np.testing.assert_allclose(one["loss"], other["loss"], 1e-5)


def test_a_model_of_models_has_them_for_stages() -> None:
    def make() -> keras.Model:
        first = keras.Sequential([keras.Input((8,)), layers.Dense(6), layers.Dense(5)], name="one")
        second = keras.Sequential([keras.Input((5,)), layers.Dense(3)], name="other")
        model = keras.Sequential([keras.Input((8,)), first, second])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizers.SGD(0.1), loss)
        return model

    same(make, fit)


def with_own_fit(kind: type[keras.Sequential]) -> keras.Model:
    first, second = layers.Dense(6, "tanh"), layers.Dense(3, "softmax")
    model = kind([keras.Input((8,)), first, second])
    model.compile(optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy")
    return model


def test_what_a_class_s_own_methods_ask_of_super_is_the_pipeline_s() -> None:
    class Prepares(keras.Sequential):
        def fit(self, x: Any, y: Any, **given: Any) -> Any:
            return super().fit(x / 2, y, **given)

        def evaluate(self, x: Any, y: Any, **given: Any) -> Any:
            given.pop("_use_cached_eval_dataset", None)
            return super().evaluate(x / 2, y, **given)

        def predict(self, x: Any, **given: Any) -> Any:
            return super().predict(x / 2, **given)

    def use(model: keras.Model) -> Any:
        return [
            fit(model, validation_data=(X[:41], LABELS[:41])),
            model.evaluate(X, LABELS, verbose=0),
            model.predict(X[:7], verbose=0),
        ]

    same(lambda: with_own_fit(Prepares), use)


def test_a_fit_that_takes_steps_itself_is_no_pipeline_s() -> None:
    class ByHand(keras.Sequential):
        def fit(self, x: Any, y: Any) -> None:
            with tf.GradientTape() as tape:
                loss = self.compute_loss(x, y, self(x))
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)

    with pytest.raises(PlugError, match=r"ByHand\.fit takes steps by itself"):
        piped(TWO, lambda: with_own_fit(ByHand)).fit(tf.constant(X), tf.constant(LABELS))


def test_a_model_of_unknown_order_is_refused() -> None:
    with pytest.raises(PlugError, match="neither Sequential nor functional"):
        fit(piped(TWO, subclassed))


def subclassed() -> keras.Model:
    class Free(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, x: Any) -> Any:
            return self.dense(x)

    model = Free()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


@pytest.mark.parametrize(
    ("stages", "says"),
    [
        (["dense_9"], "stages names the layer 'dense_9', which the model does not have"),
        (["dense_2", "dense_1"], "is not in the order of the layers"),
        (["dense_0"], "is not in the order of the layers"),
    ],
)
def test_stages_that_no_model_has_are_refused(stages: list[str], says: str) -> None:
    plan = {"stages": stages, "microbatches": 2}
    if len(stages) == 2:
        plan["stages"] = [*stages, stages[0]]
    with pytest.raises(PlugError, match=says):
        fit(piped(plan, named))


def test_a_step_is_measured_slot_by_slot() -> None:
    model = piped({"stages": 2, "microbatches": 4}, deep)
    timings = tfdist.pipeline.measure(model, (X, LABELS))
    assert len(timings.slots) == 2 * 2 * 4
    begins = {(t.slot.stage, t.slot.microbatch, t.slot.direction): t.begin for t in timings.slots}
    for timing in timings.slots:
        slot = timing.slot
        assert timing.end >= timing.begin
        if slot.stage and slot.direction == "forward":
            # What it needs has been sent when the stage before stamps the end, or a little before.
            assert timing.begin > begins[slot.stage - 1, slot.microbatch, "forward"]
        if not slot.stage and slot.direction == "backward":
            assert timing.begin > begins[1, slot.microbatch, "backward"]


def test_xla_is_refused_with_the_reason() -> None:
    model = piped(TWO, lambda: deep(jit_compile=True))
    with pytest.raises(PlugError, match="XLA does not compile"):
        fit(model)
