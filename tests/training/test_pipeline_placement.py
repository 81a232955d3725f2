"""Where the variables and the operations of a pipeline are, and what they wait for."""

from __future__ import annotations

import re
from typing import Any

import keras
import pytest
import tensorflow as tf
from keras import layers, optimizers

from tests.training.models import LABELS, X
from tests.training.test_pipeline import fit, named, piped, same
from tfdist.strategies import pipeline_strategy
from tfdist.training.plugged import Plugged


@pytest.mark.parametrize("recompute", [False, True])
def test_towers_may_be_on_different_devices(recompute: bool) -> None:
    def make() -> keras.Model:
        inputs = keras.Input((8,))
        towers = []
        for side in ("left", "right"):
            tower = layers.Dense(6, activation="tanh", name=f"{side}_1")(inputs)
            towers.append(layers.Dense(6, activation="tanh", name=f"{side}_2")(tower))
        model = keras.Model(inputs, layers.Dense(3, activation="softmax")(layers.Add()(towers)))
        model.compile(optimizers.SGD(0.1), "sparse_categorical_crossentropy")
        return model

    plan = {"stages": 1, "microbatches": 3, "place": {"right_*": 1}, "recompute": recompute}
    same(make, fit, plan)
    model = piped(plan, make)
    fit(model, epochs=1)
    assert place_of(model.get_layer("right_2").kernel) == "CPU:1"
    assert place_of(model.get_layer("left_2").kernel) == "CPU:0"


def place_of(variable: keras.Variable) -> str:
    return ":".join(variable.value.device.rsplit(":", 2)[-2:])


def test_weights_and_slots_live_with_their_stage() -> None:
    model = piped({"stages": ["dense_1"], "microbatches": 2}, lambda: named(optimizers.Adam()))
    fit(model, epochs=1)
    places = {v.path: place_of(v) for v in [*model.weights, *model.optimizer.variables]}
    expected = {}
    for number, place in enumerate(("CPU:0", "CPU:1", "CPU:1")):
        for kind in ("kernel", "bias"):
            expected[f"dense_{number}/{kind}"] = place
            for slot in ("momentum", "velocity"):
                expected[f"adam/dense_{number}_{kind}_{slot}"] = place
    found = {
        re.sub(r"sequential(_\d+)?[/_]", "", path): place
        for path, place in places.items()
        if "dense" in path
    }
    assert found == expected


class OwnStep(keras.Sequential):
    def train_step(self, data: Any) -> Any:
        return super().train_step(data)


def operations_of_a_step(model: keras.Model) -> list[tf.Operation]:
    plugged = Plugged.of(model)
    assert plugged is not None
    family: Any = plugged._prepared((X, LABELS)).family
    take_step = family.programs.timed_step
    step = tf.function(
        lambda: family.strategy.run(lambda: bool(take_step((X, LABELS))) or None),
        autograph=False,
    )
    return list(step.get_concrete_function().graph.get_operations())


def place_in(operation: tf.Operation) -> str:
    return ":".join(operation.device.rsplit(":", 2)[-2:])


@pytest.mark.parametrize("kind", [keras.Sequential, OwnStep])
@pytest.mark.parametrize(
    "make_optimizer",
    [
        optimizers.Adam,
        lambda: optimizers.SGD(0.1, momentum=0.9, use_ema=True, ema_overwrite_frequency=2),
    ],
    ids=["adam", "average"],
)
def test_what_is_as_large_as_a_kernel_stays_on_its_stage(
    make_optimizer: Any, kind: type[keras.Sequential]
) -> None:
    plan = {"stages": ["dense_2"], "microbatches": 2}
    model = piped(plan, lambda: named(make_optimizer(), kind=kind))
    fit(model, epochs=1)
    operations = operations_of_a_step(model)
    large = [
        (tensor, operation)
        for operation in operations
        for tensor in operation.inputs
        if tensor.shape == (3, 3)
    ]
    # Each of the two stages works on tensors of that size, and here is what would be found:
    assert {place_in(operation) for _, operation in large} == {"CPU:0", "CPU:1"}
    assert not pipeline_strategy.same_device("/device:CPU:0", "/device:CPU:1")
    travelled = [
        (tensor.name, operation.name)
        for tensor, operation in large
        if not pipeline_strategy.same_device(tensor.device, operation.device)
    ]
    assert travelled == []
    written = [place_in(o) for o in operations if o.type.startswith("Assign")]
    assert set(written) == {"CPU:0", "CPU:1"}


@pytest.mark.parametrize("kind", [keras.Sequential, OwnStep])
def test_a_loop_begins_where_its_stage_is(kind: type[keras.Sequential]) -> None:
    """From elsewhere the weights that it goes over would come anew for each of its turns."""

    def make() -> keras.Model:
        layer = [layers.LSTM(4, return_sequences=True), layers.LSTM(4, name="lstm_2")]
        model = kind([keras.Input(X.shape[1:]), layers.Reshape((-1, 1)), *layer, layers.Dense(3)])
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return model

    model = piped({"stages": ["lstm_2"], "microbatches": 2}, make)
    fit(model, epochs=1)
    loops = [o for o in operations_of_a_step(model) if o.type.endswith("While")]
    assert {place_in(loop) for loop in loops} == {"CPU:0", "CPU:1"}
    begun_elsewhere = [
        (tensor.name, loop.name)
        for loop in loops
        for tensor in loop.inputs
        if tensor.device != loop.device
    ]
    assert begun_elsewhere == []


@pytest.mark.parametrize(
    "plan", [{}, {"schedule": "zero_bubble"}, {"recompute": True}], ids=lambda plan: str(plan)
)
def test_tensorflow_may_make_one_operation_of_a_product_its_bias_and_activation(
    plan: dict[str, Any],
) -> None:
    plan = {"stages": ["dense_1"], "microbatches": 3, **plan}
    model = piped(plan, lambda: named(activation="relu"))
    fit(model, epochs=1)
    operations = operations_of_a_step(model)
    waited_for = {before for o in operations for before in o.control_inputs}
    parts = [
        operation
        for operation in operations
        if operation.type in ("MatMul", "BiasAdd", "Relu")
        and "dense" in operation.name
        and "gradient" not in operation.name
    ]
    times = 2 if "recompute" in plan else 1
    assert len(parts) == times * 3 * 3 * 3  # layers, microbatches, and the three of each
    assert [operation.name for operation in parts if operation.control_inputs] == []
    assert [operation.name for operation in parts if operation in waited_for] == []
