"""One run of the script, in a child of a task: with changes made to it, and recorded."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import random
import runpy
import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdist.diagnose.verify import script_changes
from tfdist.diagnose.verify.change_names import (
    ALL_TO_ONE,
    BITS_OF_WEIGHTS,
    NO_CALLBACKS,
    PLAIN_OPTIONS,
    SYNCHRONIZED,
    WITHOUT,
)
from tfdist.diagnose.verify.orders import Asked, Order
from tfdist.diagnose.verify.recorder import EnoughError, Recorder
from tfdist.diagnose.verify.records import Failure, Record
from tfdist.diagnose.verify.user_lines import line_of, line_of_error, line_of_object
from tfdist.errors import TfdistError

__all__ = ["run_script"]

_WRITES = (
    keras.callbacks.BackupAndRestore,
    keras.callbacks.CSVLogger,
    keras.callbacks.ModelCheckpoint,
    keras.callbacks.ProgbarLogger,
    keras.callbacks.RemoteMonitor,
    keras.callbacks.TensorBoard,
)
"""Callbacks that write files, or go on from those of a run before, and change nothing else."""

_TRAINS = ("fit", "train_on_batch")
_TELLS = ("evaluate", "predict", "test_on_batch", "predict_on_batch")
_WRITERS = ("save", "save_weights", "export")


def run_script(asked: Asked, order: Order, kind: str, worker: int) -> Record:
    """Runs the script in this process, once.

    Args:
        asked: which script, and how far.
        order: which changes.
        kind: "one" or "many".
        worker: this process's number.

    Returns:
        What was seen; where the script has failed, up to there, and why.
    """
    record = Record(worker)
    of_layers = BITS_OF_WEIGHTS not in order.changes
    recorder = Recorder(record, asked.steps, order.jitter, of_layers)
    together = kind == "many"
    _seed(asked.seed)
    script_changes.install(recorder, order.changes, together)
    _Hooks(recorder, order.changes).install()
    if ALL_TO_ONE in order.changes and together:
        script_changes.give_all_to_one()
    script_changes.install_options(recorder, PLAIN_OPTIONS in order.changes)
    if together:
        _plug()
    else:
        script_changes.note_late_strategies(record)
    try:
        with contextlib.suppress(EnoughError):
            _run(asked.command)
        recorder.outputs()
    except SystemExit as ended:
        recorder.outputs()
        if ended.code not in (None, 0):
            record.failure = Failure("SystemExit", str(ended.code))
    except BaseException as error:
        record.failure = _failure(error)
    return record


def _run(command: tuple[str, ...]) -> None:
    if command[0] == "-m":
        sys.argv = list(command[1:])
        sys.path.insert(0, os.getcwd())
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(command)
        sys.path.insert(0, os.path.dirname(os.path.abspath(command[0])))
        runpy.run_path(command[0], run_name="__main__")


def _failure(error: BaseException) -> Failure:
    own = isinstance(error, TfdistError)
    return Failure(type(error).__name__, str(error), line_of_error(error.__traceback__), own)


def _seed(seed: int) -> None:
    """Seeds what the script does not seed itself, alike in all runs and on all workers."""
    random.seed(seed)
    np.random.seed(seed)
    tf.random.set_seed(seed)
    keras.utils.set_random_seed(seed)


def _plug() -> None:
    from tfdist.training import autoplug

    autoplug._draw_the_same_numbers = lambda: None
    autoplug.prepare()


class _Hooks:
    """Has Keras tell a recorder what happens.

    Args:
        recorder: whom.
        changes: to the program; here are made those about callbacks.
    """

    def __init__(self, recorder: Recorder, changes: tuple[str, ...]) -> None:
        self._recorder = recorder
        self._changes = changes
        self._depth = 0

    def install(self) -> None:
        """Before tfdist looks at Keras' methods, so that its own are around these."""
        optimizer = next(k for k in keras.optimizers.Optimizer.__mro__ if "apply" in vars(k))
        optimizer.apply = self._applying(optimizer.apply)
        keras.Layer.__call__ = self._calling(keras.Layer.__call__)
        for kind in (keras.Layer, keras.metrics.Metric):
            kind.__init__ = self._made(kind.__init__)
        for name in (*_TRAINS, *_TELLS):
            setattr(keras.Model, name, self._method(name, getattr(keras.Model, name)))
        for name in _WRITERS:
            setattr(keras.Model, name, self._not_written(getattr(keras.Model, name)))
        for place in (keras.models, keras.saving):
            place.load_model = self._loading(place.load_model)
        self._install_in_tfdist()

    def _install_in_tfdist(self) -> None:
        from tfdist.training.plugged import Plugged

        for name in (*_TRAINS, *_TELLS):
            setattr(Plugged, name, self._method(name, getattr(Plugged, name), of_plugged=True))
        for name in _WRITERS:
            setattr(Plugged, name, self._not_written(getattr(Plugged, name)))

    # ------------------------------------------------------------ Keras' parts

    def _applying(self, original: Callable[..., Any]) -> Callable[..., Any]:
        recorder = self._recorder

        @functools.wraps(original)
        def apply(optimizer: Any, grads: Any, trainable_variables: Any = None) -> Any:
            grads = list(grads)
            if recorder.traces:
                variables = list(trainable_variables or _trained_by(optimizer))
                if len(variables) == len(grads):
                    recorder.take_gradients(grads, variables)
            return original(optimizer, grads, trainable_variables)

        return apply

    def _calling(self, original: Callable[..., Any]) -> Callable[..., Any]:
        recorder, changes = self._recorder, self._changes
        synchronized = SYNCHRONIZED in changes

        @functools.wraps(original)
        def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
            if synchronized and isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = True
            if recorder.traces and script_changes.stands_still(layer, changes):
                return args[0] if args else original(layer, *args, **kwargs)
            found = original(layer, *args, **kwargs)
            if recorder.in_step:
                found = recorder.disturbed(found)
                recorder.take_layer(layer, found)
            return found

        return call

    def _made(self, original: Callable[..., None]) -> Callable[..., None]:
        record = self._recorder.record

        @functools.wraps(original)
        def init(thing: Any, *args: Any, **kwargs: Any) -> None:
            original(thing, *args, **kwargs)
            name = getattr(thing, "name", None)
            if isinstance(name, str):
                record.kinds[name] = type(thing).__name__
                own = line_of_object(type(thing))
                record.lines[name] = own or line_of() or record.lines.get(name, "")

        init.__signature__ = inspect.signature(original)  # type: ignore[attr-defined]
        return init

    # ------------------------------------------------------------ a model's methods

    def _method(
        self, name: str, original: Callable[..., Any], *, of_plugged: bool = False
    ) -> Callable[..., Any]:
        signature = inspect.signature(getattr(keras.Model, name))
        takes_callbacks = "callbacks" in signature.parameters

        @functools.wraps(original)
        def method(self_: Any, *args: Any, **kwargs: Any) -> Any:
            if self._depth:
                return original(self_, *args, **kwargs)
            model = self_.model if of_plugged else self_
            if not of_plugged and self._belongs_to_others(model, name):
                return original(self_, *args, **kwargs)
            self._depth += 1
            try:
                return self._called(name, model, original, self_, takes_callbacks, args, kwargs)
            finally:
                self._depth -= 1

        return method

    def _belongs_to_others(self, model: Any, name: str) -> bool:
        """Whether tfdist's method will be called in place of Keras'."""
        return "_tfdist_plugged" in vars(model)

    def _called(
        self,
        name: str,
        model: Any,
        original: Callable[..., Any],
        receiver: Any,
        takes_callbacks: bool,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        recorder = self._recorder
        if name in _TRAINS:
            recorder.begin_fit(model)
        bound = inspect.signature(getattr(keras.Model, name)).bind_partial(model, *args, **kwargs)
        given = dict(list(bound.arguments.items())[1:])
        given |= given.pop("kwargs", {})
        if takes_callbacks and not isinstance(given.get("callbacks"), keras.callbacks.CallbackList):
            users = self._chosen(given.get("callbacks"))
            given["callbacks"] = recorder.around(users)
            given["verbose"] = 0
        if name == "train_on_batch":
            recorder.step_begins(model)
            logs = original(receiver, **given)
            recorder.step_ended(model, {"train_on_batch": logs})
            return logs
        found = original(receiver, **given)
        if name in _TELLS:
            recorder.took(name, found)
        return found

    def _chosen(self, callbacks: Any) -> list[Any]:
        """The user's callbacks that are to run."""
        from tfdist.training.loop.callback_routing import flat

        record = self._recorder.record
        chosen = []
        for callback in flat(callbacks):
            if isinstance(callback, _WRITES) or getattr(callback, "restores_the_model", False):
                continue
            name = type(callback).__name__
            if name not in record.callbacks:
                record.callbacks.append(name)
            record.lines.setdefault(f"callback {name}", line_of_object(type(callback)))
            if {NO_CALLBACKS, f"{WITHOUT}{name}"} & set(self._changes):
                continue
            chosen.append(callback)
        return chosen

    def _not_written(self, original: Callable[..., None]) -> Callable[..., None]:
        """Nothing is written where a longer training has left its own, perhaps."""

        @functools.wraps(original)
        def write(*_: Any, **__: Any) -> None:
            if self._recorder.is_done:
                raise EnoughError

        return write

    def _loading(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def load(*args: Any, **kwargs: Any) -> Any:
            if self._recorder.is_done:
                raise EnoughError
            return original(*args, **kwargs)

        return load


def _trained_by(optimizer: Any) -> list[Any]:
    """What an optimizer was built for; nothing before."""
    from tfdist.compat import keras_optimizers

    return keras_optimizers.trained_by(optimizer) if optimizer.built else []
