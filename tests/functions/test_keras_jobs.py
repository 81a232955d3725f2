"""What Keras has travels to the tasks and back, on each kind of strategy, as in plain Keras."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdist
from tfdist.functions.pickling import Unpackable

X = np.random.default_rng(0).normal(size=(200, 8)).astype("float32")
Y = X.sum(1, keepdims=True)


@pytest.fixture(autouse=True)
def _logs_go_to_a_folder_of_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def make() -> tuple[keras.Model, type, Any]:
    """A model of a class, an activation and a loss that are known in this process alone."""

    class Doubled(keras.layers.Dense):
        def call(self, x: Any) -> Any:
            return 2 * super().call(x)

    def soft(x: Any) -> Any:
        return keras.ops.tanh(x)

    def squares(y: Any, found: Any) -> Any:
        return keras.ops.square(y - found)

    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.layers.Input((8,)), Doubled(4, activation=soft), keras.layers.Dense(1)]
    )
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), squares)
    return model, Doubled, squares


def train(model: keras.Model, x: Any, y: Any, epochs: int) -> dict[str, Any]:
    tfdist.plug(model)
    history = model.fit(x, y, batch_size=48, epochs=epochs, shuffle=False, verbose=0)
    return {
        "history": history,
        "model": model,
        "weights": model.get_weights(),
        "tensors": [tf.constant([1, 2]), model.trainable_variables[0]],
        "kind": type(tf.distribute.get_strategy()).__name__,
        "iterations": int(model.optimizer.iterations),
    }


def check(found: dict[str, Any], model: keras.Model, kind: type) -> None:
    """Another two epochs in plain Keras agree with a job's."""
    history = model.fit(X, Y, batch_size=48, epochs=2, shuffle=False, verbose=0)
    back = found["model"]
    np.testing.assert_allclose(found["history"].history["loss"], history.history["loss"], rtol=1e-5)
    for ours, plain, returned in zip(
        back.get_weights(), model.get_weights(), found["weights"], strict=True
    ):
        np.testing.assert_allclose(ours, plain, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(ours, returned)
    assert isinstance(found["history"], keras.callbacks.History)
    assert (found["history"].epoch, found["history"].model) == ([0, 1], None)
    assert type(back.layers[0]) is kind
    assert type(back) is keras.Sequential
    assert int(back.optimizer.iterations) == found["iterations"] == 10
    np.testing.assert_array_equal(found["tensors"][0], [1, 2])
    assert [type(one) for one in found["tensors"]] == [np.ndarray, np.ndarray]
    back.fit(X, Y, epochs=1, verbose=0)  # it is compiled, with its loss


@pytest.mark.parametrize(
    ("strategy", "name"),
    [
        ("auto", "CollectiveAllReduceStrategy"),
        pytest.param("pipeline", "", marks=pytest.mark.thorough),
    ],
)
def test_a_model_trains_in_step_where_it_was_sent_and_comes_back(strategy: str, name: str) -> None:
    model, kind, _ = make()
    found = tfdist.run(
        train, model, X, Y, epochs=2, strategy=strategy, returns="all", show="none", timeout=200
    )
    chief = "chief:0" if strategy == "pipeline" else "worker:0"
    check(found[chief], model, kind)
    if strategy == "auto":
        assert found[chief]["kind"].startswith(name)  # the function runs in its scope
        for one, other in zip(*(found[f"worker:{n}"]["weights"] for n in (0, 1)), strict=True):
            np.testing.assert_array_equal(one, other)
    else:
        assert list(found) == ["chief:0"]


@pytest.mark.thorough
def test_a_function_goes_on_in_the_chief_alone_beside_parameter_servers() -> None:
    model, kind, _ = make()
    found = tfdist.run(
        train, model, X, Y, 2, ps=1, workers=1, strategy="auto", returns="all", show="none"
    )
    assert list(found) == ["chief:0"]
    assert found["chief:0"]["iterations"] == 10
    assert type(found["chief:0"]["model"].layers[0]) is kind


def test_a_function_that_knows_no_tfdist_is_plugged_and_the_caller_runs_no_operation(
    tmp_path: Path,
) -> None:
    (tmp_path / "script.py").write_text(
        textwrap.dedent(
            """
            import sys
            import numpy as np
            import tfdist

            x = np.random.default_rng(0).normal(size=(200, 8)).astype("float32")

            def train(units):
                import keras
                keras.utils.set_random_seed(1)
                model = keras.Sequential([keras.layers.Dense(units), keras.layers.Dense(1)])
                model.compile("sgd", "mse")
                return model.fit(x, x.sum(1), batch_size=50, epochs=3, shuffle=False, verbose=0)

            together = tfdist.run(train, 4, plug=True, show="bar")
            print("modules:", sorted({"keras", "tensorflow"} & set(sys.modules)), flush=True)

            import tensorflow as tf
            tf.config.threading.set_inter_op_parallelism_threads(3)  # too late after an operation
            alone = train(4)
            np.testing.assert_allclose(together.history["loss"], alone.history["loss"], rtol=1e-5)
            print("equal to plain Keras")
            """
        )
    )
    done = subprocess.run(
        [sys.executable, "script.py"], capture_output=True, text=True, timeout=200, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "modules: []\n" in done.stdout
    assert done.stdout.endswith("equal to plain Keras\n")
    bar = done.stdout.splitlines()[0]
    assert bar.startswith("done ━")
    assert "step 4/4, " in bar
    assert "loss " in bar


def refused(*args: Any, **options: Any) -> str:
    with pytest.raises(Unpackable) as caught:
        tfdist.run(*args, show="none", timeout=60, **options)
    return str(caught.value)


def test_what_a_task_can_have_only_after_its_strategy_is_refused_with_what_to_do() -> None:
    model, _, _ = make()
    tensor = tf.constant([1.0])
    dataset = tf.data.Dataset.from_tensors(1)
    strategy = tf.distribute.get_strategy()

    said = refused(lambda: model)
    assert said.startswith("'model', which <lambda> uses, holds a Keras model, layer, optimizer or")
    assert 'give strategy="auto" (or plug=True), or make it inside of <lambda>' in said
    assert "argument 1 of print holds a Keras model" in refused(print, model)
    assert "argument 1 of print holds a Keras model" in refused(print, keras.optimizers.SGD())
    said = refused(print, [tensor])
    assert said.startswith("argument 1 of print holds an EagerTensor: a task can have none before")
    assert said.endswith("give the array, tensor.numpy()")
    assert "'dataset', which <lambda> uses, holds a _Tensor" in refused(lambda: dataset)
    assert "make it inside of the function with tfdist.strategy()" in refused(lambda: strategy)
