"""What workers do that goes apart, or looks as if it did: each must be told, or be right.

tfdist run --workers 2 apart.py FOLDER
"""

from __future__ import annotations

import pickle
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tfdist

folder = Path(sys.argv[1])
strategy = tfdist.strategy(rendezvous_timeout=60)

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from keras import layers, optimizers  # noqa: E402

from tests.multi_worker import programs  # noqa: E402
from tests.multi_worker.programs import FIT, LABELS, X  # noqa: E402

cluster = tfdist.Cluster.from_environment()
assert cluster is not None
assert cluster.task is not None
own = cluster.task.index
found: dict[str, Any] = {}


LONG = {
    "rate in the middle",
    "weight at the end",
    "weight before fit",
    "slot on the chief",
    "frozen on the chief",
    "stateless map",
}
"""What differs little from a neighbour: `tests/near_twins.txt` names the tests that ask it."""


def note(name: str, check: Callable[[], Any]) -> None:
    """Notes what a check returns, or how it fails."""
    if name in LONG and not programs.THOROUGH:
        return
    began = time.monotonic()
    try:
        found[name] = check()
    except tfdist.errors.TfdistError as error:
        found[name] = f"{type(error).__name__}: {error}"
    print(f"{name}: {time.monotonic() - began:.1f} s", flush=True)


def make(*between: Callable[[], Any], **options: Any) -> keras.Model:
    keras.utils.set_random_seed(programs.SEED)
    with strategy.scope():
        more = (layer() for layer in between)
        model = programs.classifier(optimizers.SGD(0.1, momentum=0.9), *more)
    return tfdist.plug(model, **options)


def fit(model: keras.Model, *callbacks: Any, **settings: Any) -> Any:
    chosen = {**FIT, "epochs": 2, "callbacks": list(callbacks), **settings}
    return model.fit(X, LABELS, **chosen).history


class Sets(keras.callbacks.Callback):
    """Does something to the model at one hook of the last epoch."""

    chunks_will_do = True

    def __init__(self, hook: str, do: Callable[[keras.Model], Any], everywhere: bool = False):
        super().__init__()
        self.epoch = -1
        self.hook = hook
        self.do = do if everywhere or own == 0 else lambda model: None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch
        self._at("epoch begin")

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._at("batch end")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._at("epoch end")

    def _at(self, hook: str) -> None:
        if self.epoch == 1 and hook == self.hook:
            self.do(self.model)


def set_rate(model: keras.Model) -> None:
    model.optimizer.learning_rate = 0.5


def set_weight(model: keras.Model) -> None:
    kernel = model.layers[0].kernel
    kernel.assign(kernel * 2)


def set_slot(model: keras.Model) -> None:
    slot = model.optimizer.variables[2]
    slot.assign(slot + 1)


def set_a_bit(model: keras.Model) -> None:
    kernel = model.layers[0].kernel
    kernel.assign(kernel * (1 + 1e-6))


def after(do: Callable[[keras.Model], Any], use: Callable[[keras.Model], Any]) -> Any:
    model = make()
    fit(model, epochs=1)
    if own == 0:
        do(model)
    return use(model)


note("rate on the chief", lambda: fit(make(), Sets("epoch begin", set_rate)))
note("rate in the middle", lambda: fit(make(), Sets("batch end", set_rate)))
note("weight on the chief", lambda: fit(make(), Sets("epoch begin", set_weight)))
note("weight at the end", lambda: fit(make(), Sets("epoch end", set_weight)))
note("slot on the chief", lambda: fit(make(), Sets("epoch begin", set_slot)))
note("weight before fit", lambda: after(set_weight, fit))
note("weight before predict", lambda: after(set_weight, lambda m: m.predict(X, verbose=0)))


def add_optimizer(model: keras.Model) -> None:
    model.another = optimizers.SGD(0.1)


note("optimizer of the chief", lambda: after(add_optimizer, lambda m: m.predict(X, verbose=0)))


def frozen_on_the_chief() -> Any:
    model = make()
    model.layers[0].trainable = own != 0
    return fit(model)


note("dropout on the chief", lambda: fit(make(lambda: layers.Dropout(0.5 if own else 0.25))))
note("frozen on the chief", frozen_on_the_chief)


def rounding() -> Any:
    model = make()
    fit(model, Sets("epoch begin", set_a_bit))
    return [np.asarray(variable) for variable in model.variables]


note("rounding", rounding)


class Counts(layers.Layer):
    """Keeps what each replica sees: no worker has the others' numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = self.add_weight(
            shape=(), initializer="zeros", trainable=False, aggregation="only_first_replica"
        )
        self.sum = self.add_weight(shape=(), initializer="zeros", trainable=False)
        self.rows = self.add_weight(shape=(), dtype="int32", initializer="zeros", trainable=False)

    def call(self, x: Any) -> Any:
        self.seen.assign_add(keras.ops.sum(x))
        self.sum.assign_add(keras.ops.sum(x))
        self.rows.assign_add(keras.ops.shape(x)[0])
        return x


def all_the_same(model: keras.Model) -> Any:
    """Whatever each worker may have of its own is no cause for alarm."""
    fit(model, Sets("epoch begin", set_rate, everywhere=True), validation_data=(X, LABELS))
    model.train_on_batch(X[:33], LABELS[:33])
    model.evaluate(X, LABELS, batch_size=33, verbose=0)
    model.predict(X, verbose=0)
    return fit(model, epochs=1)["loss"]


note(
    "alike: layers",
    lambda: all_the_same(make(layers.BatchNormalization, lambda: layers.Dropout(0.5), Counts)),
)
note("alike: local steps", lambda: all_the_same(make(layers.BatchNormalization, local_steps=3)))
note(
    "alike: bfloat16",
    lambda: all_the_same(make(gradient_dtype="bfloat16", error_feedback=True)),
)


def loss_scale() -> Any:
    keras.utils.set_random_seed(programs.SEED)
    with strategy.scope():
        inner = optimizers.Adam(0.01, use_ema=True, global_clipnorm=1.0)
        model = programs.classifier(optimizers.LossScaleOptimizer(inner))
    return fit(tfdist.plug(model))["loss"]


note("alike: loss scale", loss_scale)

# ---------------------------------------------------------------- other calls


def other_calls(first: str, second: str) -> Any:
    model = make()
    return getattr(model, first if own == 0 else second)(X, LABELS, verbose=0)


note("fit and evaluate", lambda: other_calls("fit", "evaluate"))


def evaluate_in_fit() -> Any:
    model = make()
    check = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: own or model.evaluate(X, LABELS, verbose=0)
    )
    return fit(model, check)


note("evaluate in fit", evaluate_in_fit)

# ---------------------------------------------------------------- in the scope


def in_scope() -> Any:
    model = make()
    place = folder / "in_scope"
    writing = [
        keras.callbacks.ModelCheckpoint(str(place / "{epoch}.keras")),
        keras.callbacks.ModelCheckpoint(str(place / "{epoch}.weights.h5"), save_weights_only=True),
        keras.callbacks.CSVLogger(str(folder / "log.csv")),
        keras.callbacks.TensorBoard(str(place / "board")),
        tfdist.callbacks.Checkpoint(place / "own"),
    ]
    with strategy.scope():
        history = fit(model, *writing)
        scores = model.evaluate(X, LABELS, verbose=0)
        outputs = model.predict(X, verbose=0)
        model.save(place / "last.keras")
    (folder / "in_scope").mkdir(exist_ok=True)
    return history, scores, outputs, sorted(path.name for path in place.iterdir())


def out_of_scope() -> Any:
    model = make()
    return fit(model), model.evaluate(X, LABELS, verbose=0), model.predict(X, verbose=0)


note("in scope", in_scope)
note("out of scope", out_of_scope)

# ---------------------------------------------------------------- random maps


def noisy(x: Any, y: Any) -> Any:
    return x + tf.random.normal(tf.shape(x)), y


def noisy_in_python(x: Any, y: Any) -> Any:
    noise = tf.numpy_function(
        lambda: np.random.default_rng(own).normal(size=8).astype("float32"), [], tf.float32
    )
    return x + tf.ensure_shape(noise, (8,)), y


def stateless(x: Any, seed: Any) -> Any:
    noise = tf.random.stateless_normal(tf.shape(x[0]), tf.stack([seed, 1]))
    return x[0] + noise, x[1]


def mapped(function: Any, parallel: int | None) -> Any:
    tf.random.set_seed(3)
    rows = tf.data.Dataset.from_tensor_slices((np.tile(X, (20, 1)), np.tile(LABELS, 20)))
    if function is stateless:
        rows = tf.data.Dataset.zip(rows, tf.data.Dataset.random(seed=1))
    return rows.map(function, parallel).batch(30)


note("random map", lambda: make().fit(mapped(noisy, None), verbose=0).history["loss"])
note("stateless map", lambda: make().fit(mapped(stateless, 4), verbose=0).history["loss"])
note("python map", lambda: make().fit(mapped(noisy_in_python, None), verbose=0).history)
last = make()
(folder / f"found-{own}.pickle").write_bytes(pickle.dumps(found))
if own == 0:
    last.evaluate(X, LABELS, verbose=0)  # the others end here, and well
