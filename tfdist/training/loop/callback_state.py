"""What callbacks remember: kept with a checkpoint, and given back to a run that resumes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from tfdist.compat import keras_trainer
from tfdist.errors import CheckpointError

__all__ = ["give_back", "states_of"]

_callbacks = keras.callbacks
_KEPT: dict[type[keras.callbacks.Callback], tuple[str, ...]] = {
    _callbacks.EarlyStopping: ("wait", "best", "best_epoch", "stopped_epoch", "best_weights"),
    _callbacks.History: ("history", "epoch"),
    _callbacks.ModelCheckpoint: ("best", *keras_trainer.BATCHES_SEEN),
    _callbacks.ReduceLROnPlateau: ("wait", "best", "cooldown_counter"),
    _callbacks.TensorBoard: keras_trainer.BATCHES_LOGGED,
    _callbacks.SwapEMAWeights: (keras_trainer.AVERAGES_ARE_IN,),
}
"""What Keras' own callbacks remember between epochs, in attributes of theirs."""

_BYTES = "bytes"  # of a file that a callback appends to


def states_of(callbacks: Sequence[keras.callbacks.Callback]) -> dict[str, object]:
    """Returns the state of each callback that has one, by its class and its place among these.

    Of Keras' own it is what `_KEPT` names, of others what their `get_state()` returns.
    """
    states = {}
    for name, callback in _named(callbacks):
        if callable(getattr(callback, "get_state", None)):
            states[name] = callback.get_state()
        elif _appends(callback):
            states[name] = {_BYTES: os.path.getsize(callback.filename)}
        elif attributes := _attributes_of(callback):
            states[name] = {a: getattr(callback, a) for a in attributes if hasattr(callback, a)}
    return states


def give_back(
    callbacks: Sequence[keras.callbacks.Callback], states: Mapping[str, Any], ended: bool = False
) -> None:
    """Sets callbacks to the states that `states_of` has returned; others begin anew.

    Args:
        callbacks: in the order in which they were.
        states: of them.
        ended: whether no epoch is left to train.

    Raises:
        CheckpointError: a callback refuses its state.
    """
    for name, callback in _named(callbacks):
        if name not in states:
            continue
        if callable(getattr(callback, "set_state", None)):
            try:
                callback.set_state(states[name])
            except Exception as error:
                raise CheckpointError(
                    f"the callback {name.partition('/')[0]} does not take the state from the "
                    f"checkpoint ({type(error).__name__}: {error}): mend its set_state, or begin "
                    "anew with resume=False"
                ) from error
        elif _BYTES in states[name]:
            # Rows of epochs that are trained again; where none is, another `fit` may have written.
            if _appends(callback) and not ended:
                _cut(callback, int(states[name][_BYTES]))
        elif attributes := _attributes_of(callback):
            for attribute in attributes:
                if attribute in states[name]:
                    setattr(callback, attribute, states[name][attribute])


def _named(
    callbacks: Sequence[keras.callbacks.Callback],
) -> list[tuple[str, keras.callbacks.Callback]]:
    """Names them by class and place: a worker may have fewer of other classes than the chief."""
    count: dict[str, int] = {}
    named = []
    for callback in callbacks:
        kind = type(callback).__name__
        named.append((f"{kind}/{count.setdefault(kind, 0)}", callback))
        count[kind] += 1
    return named


def _attributes_of(callback: keras.callbacks.Callback) -> tuple[str, ...]:
    return next((names for kind, names in _KEPT.items() if isinstance(callback, kind)), ())


def _appends(callback: keras.callbacks.Callback) -> bool:
    """Whether it writes behind what was there, in a file of this machine."""
    logs = isinstance(callback, keras.callbacks.CSVLogger)
    return logs and bool(callback.append) and os.path.isfile(callback.filename)


def _cut(logger: Any, size: int) -> None:
    if os.path.getsize(logger.filename) > size:
        os.truncate(logger.filename, size)  # whoever has it open to append goes on at its end
        if not size:
            logger.append_header = True  # it has seen the one that is gone
