"""One process of the pipeline benchmark: `python -m tests.benchmarks.pipeline_job PORT`.

Its TF_CONFIG says what it is: a worker serves; a chief, or a process without a cluster, does what
it is asked over the line, one request after the other. A worker works on one core of its own, and
so does a process that is alone.
"""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.line import Line

__all__ = ["Case", "obey"]

_TIMEOUT = 3600.0
_LEARNING_RATE = 0.01


@dataclasses.dataclass(frozen=True)
class Case:
    """A model, and how its layers are spread.

    Attributes:
        model: "dense", "conv", "uneven" or "towers".
        batch: rows of the global batch.
        microbatches: M.
        schedule: of the pipeline.
        stages: where to cut, as `tfdist.strategy` takes it.
        towers_apart: whether the towers are on two tasks, in one stage.
        jit: whether one process compiles the step by XLA.

    One process takes microbatches one after the other, by Keras' accumulation of gradients.
    """

    model: str = "dense"
    batch: int = 2048
    microbatches: int = 1
    schedule: str = "1f1b"
    stages: tuple[str, ...] | int | None = None
    towers_apart: bool = False
    jit: bool = False


def layers_of(name: str) -> list[Any]:
    """The layers of a model of that name, the input first."""
    import keras
    from keras import layers

    if name == "dense":
        wide = [layers.Dense(1024, activation="relu", name=f"dense{i}") for i in range(8)]
        return [keras.Input((1024,)), *wide]
    if name == "wide":
        wide = [layers.Dense(2048, activation="relu", name=f"wide{i}") for i in range(4)]
        return [keras.Input((784,)), *wide, layers.Dense(10)]
    if name == "uneven":
        widths = (256, 512, 1024, 2048, 1024, 512, 256, 1024, 1024)
        uneven = [
            layers.Dense(width, activation="relu", name=f"dense{i}")
            for i, width in enumerate(widths)
        ]
        return [keras.Input((512,)), *uneven]
    assert name == "conv"
    first, second = (32, 32, 32), (64, 64, 64, 64)
    return [
        keras.Input((32, 32, 16)),
        *(layers.Conv2D(n, 3, padding="same", activation="relu") for n in first),
        layers.MaxPooling2D(),
        *(layers.Conv2D(n, 3, padding="same", activation="relu") for n in second),
        layers.GlobalAveragePooling2D(),
        layers.Dense(64),
    ]


def transformer(width: int = 512, blocks: int = 2, length: int = 64) -> Any:
    """Blocks of attention and two products, of vectors in a row."""
    import keras
    from keras import layers

    x = inputs = keras.Input((length, width))
    for i in range(blocks):
        normed = layers.LayerNormalization()(x)
        heads = layers.MultiHeadAttention(8, width // 8, name=f"attention{i}")
        x = layers.Add()([x, heads(normed, normed, use_causal_mask=True)])
        up = layers.Dense(4 * width, activation="gelu", name=f"up{i}")
        down = layers.Dense(width, name=f"down{i}")
        x = layers.Add()([x, down(up(layers.LayerNormalization()(x)))])
    pooled = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(inputs, layers.Dense(64)(pooled))


def _network(name: str) -> Any:
    import keras
    from keras import layers

    if name == "transformer":
        return transformer()
    if name != "towers":
        return keras.Sequential(layers_of(name))
    inputs = keras.Input((1024,))
    ends = []
    for side in ("left", "right"):
        x = inputs
        for i in range(4):
            x = layers.Dense(1024, activation="relu", name=f"{side}{i}")(x)
        ends.append(x)
    return keras.Model(inputs, layers.Dense(16)(layers.Add()(ends)))


def calls_a_step(case: Case) -> int:
    """How many batches Keras takes for a step: one process without a cluster accumulates."""
    return 1 if "TF_CONFIG" in os.environ else case.microbatches


def make_model(case: Case) -> Any:
    """The compiled model; it learns to tell the classes of random inputs."""
    import keras

    keras.utils.set_random_seed(0)
    model = _network(case.model)
    calls = calls_a_step(case)
    model.compile(
        optimizer=keras.optimizers.SGD(
            _LEARNING_RATE, gradient_accumulation_steps=calls if calls > 1 else None
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=case.jit,
    )
    return model


def batch_of(case: Case) -> tuple[Any, Any]:
    """One batch of random inputs and classes."""
    model = _network(case.model)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(case.batch, *model.input_shape[1:])).astype("float32")
    return x, rng.integers(0, model.output_shape[-1], case.batch).astype("int32")


class Job:
    """What the chief, or a process that is alone, can be asked."""

    def __init__(self) -> None:
        self._strategy: Any = None
        self._models: dict[Case, tuple[Any, Any]] = {}

    def warm(self, case: Case) -> dict[str, Any]:
        """Makes the model of a case and traces its steps."""
        self._model_of(case)
        return self.train(case, 2)

    def train(self, case: Case, steps: int) -> dict[str, Any]:
        """Trains so many steps with `fit`; returns milliseconds a step and the loss."""
        model, data = self._model_of(case)
        calls = steps * calls_a_step(case)
        began = time.perf_counter()
        history = model.fit(data, epochs=1, steps_per_epoch=calls, verbose=0).history
        seconds = time.perf_counter() - began
        return {"ms": 1e3 * seconds / steps, "loss": history["loss"][-1]}

    def forget(self) -> dict[str, Any]:
        """Drops all models."""
        self._models.clear()
        return {}

    def held(self, case: Case) -> dict[str, Any]:
        """How many MB of a model's weights each device holds."""
        model, _ = self._model_of(case)
        sizes: dict[str, float] = {}
        for weight in model.weights:
            value = weight.value
            size = value.shape.num_elements() * value.dtype.size / 1e6
            sizes[value.device] = sizes.get(value.device, 0.0) + size
        return {"megabytes": sizes}

    def stages(self, case: Case) -> dict[str, Any]:
        """The names of the layers of each stage."""
        from tfdist.training.plugged import Plugged

        model, data = self._model_of(case)
        plugged = Plugged.of(model)
        assert plugged is not None
        family: Any = plugged._prepared(next(iter(data))).family
        return {
            "stages": [[p.name for p in stage.pieces] for stage in family.programs.executor.stages]
        }

    def timeline(self, case: Case, path: str) -> dict[str, Any]:
        """Draws a measured step; returns the picture as text, and when each slot was worked on."""
        import tfdist

        model, data = self._model_of(case)
        timings = tfdist.pipeline.measure(model, next(iter(data)), steps=6)
        text = tfdist.pipeline.draw(timings, path=path, title=f"{case.schedule}, measured")
        slots = [
            (t.slot.stage, t.slot.direction[0], t.slot.microbatch, t.begin, t.end)
            for t in timings.slots
        ]
        return {"text": text, "slots": slots}

    def difference(self, case: Case, steps: int) -> dict[str, Any]:
        """Trains a model on the pipeline and its twin in plain Keras; compares the weights."""
        piped, data = self._model_of(dataclasses.replace(case))
        twin = make_model(case)
        begun = [np.array(weight) for weight in twin.get_weights()]
        for weight, value in zip(piped.weights, begun, strict=True):
            weight.assign(value)
        piped.fit(data, epochs=1, steps_per_epoch=steps, verbose=0)
        twin.fit(data, epochs=1, steps_per_epoch=steps, verbose=0)
        pairs = list(zip(piped.get_weights(), twin.get_weights(), strict=True))
        moved = max(float(abs(b - a).max()) for (_, b), a in zip(pairs, begun, strict=True))
        return {"difference": max(float(abs(a - b).max()) for a, b in pairs), "moved": moved}

    def _model_of(self, case: Case) -> tuple[Any, Any]:
        if case not in self._models:
            import tensorflow as tf

            if "TF_CONFIG" in os.environ:
                import tfdist

                with self._strategy_of(case).scope():  # before there are any tensors
                    model = tfdist.plug(make_model(case))
            else:
                model = make_model(case)
            # Without the tuning thread, for whose end plain Keras' fit may wait: see letting_go.
            options = tf.data.Options()
            options.autotune.enabled = False
            rows = case.batch // calls_a_step(case)
            data = tf.data.Dataset.from_tensor_slices(batch_of(case)).batch(rows)
            data = data.cache().repeat().prefetch(1)
            self._models[case] = model, data.with_options(options)
        return self._models[case]

    def _strategy_of(self, case: Case) -> Any:
        """One connection to the workers serves all cases."""
        import tfdist
        from tfdist.schedules.pipeline_plan import PipelinePlan
        from tfdist.strategies.pipeline_strategy import PipelineStrategy

        if self._strategy is None:
            self._strategy = tfdist.strategy("pipeline")
        if case.schedule == "tensor_parallel":
            plan = PipelinePlan.of_one_stage(self._strategy.plan.tasks)
            return PipelineStrategy(plan, self._strategy.devices, self._strategy.home)
        plan = dataclasses.replace(
            self._strategy.plan,
            microbatches=case.microbatches,
            schedule=case.schedule,
            stages=1 if case.model == "towers" else case.stages,
            place={"right*": int(case.towers_apart)} if case.model == "towers" else {},
        )
        return PipelineStrategy(plan, self._strategy.devices, self._strategy.home)


def obey(port: int, job: Any) -> None:
    """Has a job do what it is asked over the line, until that is closed."""
    line = Line(socket.create_connection(("127.0.0.1", port)), _TIMEOUT)
    line.send(ready=True)
    while True:
        try:
            message = line.receive()
        except ConnectionError:
            return
        if "case" in message:
            given: dict[str, Any] = message["case"]
            stages = given["stages"]
            given["stages"] = tuple(stages) if isinstance(stages, list) else stages
            message["case"] = Case(**given)
        try:
            line.send(**getattr(job, message.pop("what"))(**message))
        except Exception as error:
            line.send(error=repr(error))
            raise


def main() -> None:
    task = json.loads(os.environ.get("TF_CONFIG", "{}")).get("task", {"type": "alone", "index": 0})
    if task["type"] != "chief":
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[task["index"] % len(cores)]})
    if task["type"] == "worker":
        Path(sys.argv[2], f"worker{task['index']}").write_text(str(os.getpid()))
        import tfdist

        tfdist.strategy("pipeline")  # serves, and ends the process
    obey(int(sys.argv[1]), Job())


if __name__ == "__main__":
    main()
