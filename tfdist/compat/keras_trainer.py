"""What Keras' trainer keeps to itself: its loss, its writers, the order of its results."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator

import keras
import tensorflow as tf

from tfdist.compat import names
from tfdist.compat.names import keras_global_state, keras_loss, keras_saving
from tfdist.structures import Logs, Nest

__all__ = [
    "begin_with_epoch",
    "compute_loss",
    "flat_losses",
    "in_order",
    "keras_predict",
    "keras_writer",
    "load_weights",
    "loss_tracker",
    "overrides",
    "prepare_to_save",
    "profiles",
    "restored_epoch",
    "save",
    "weights_by_mask",
]

_to_same_rank = names.of(keras_loss, "squeeze_or_expand_to_same_rank")

keras_predict = super(keras.Model, keras.Model).predict  # also where `keras.Model` has another one

_WRITERS = {name: getattr(keras.Model, name) for name in ("save", "save_weights", "export")}


def overrides(model: keras.Model, name: str) -> bool:
    """Whether a model has a method of its own where `keras.Model` has one of that name."""
    method = getattr(model, name)
    if name == "call" and not hasattr(method, "__func__"):
        return True
    return getattr(method, "__func__", method) is not getattr(keras.Model, name)


def weights_by_mask(
    sample_weight: tf.Tensor | None, valid: tf.Tensor, factor: tf.Tensor, dtype: str
) -> tf.Tensor:
    """Returns what `apply_mask` does: the weights of a loss's entries, `factor` for valid ones."""
    weights = tf.where(valid, factor, tf.zeros_like(factor))
    if sample_weight is None:
        return weights
    weights, sample_weight = _to_same_rank(weights, tf.cast(sample_weight, dtype))
    return weights * sample_weight


def flat_losses(model: keras.Model) -> list[keras.losses.Loss]:
    """Returns the `keras.losses.Loss` objects that `compile` was given (after the build)."""
    compile_loss = getattr(model, "_compile_loss", None)
    entries = getattr(compile_loss, "_flat_losses", None) or []
    return [entry[1] for entry in entries if entry[1] is not None]


def in_order(model: keras.Model, logs: Logs) -> list[float] | float:
    """Returns the values of `logs` as `evaluate` and `train_on_batch` return them."""
    return model._flatten_metrics_in_order(logs)


def restored_epoch(model: keras.Model) -> int | None:
    """Takes the epoch that a callback has set to begin with (`BackupAndRestore` does), if any."""
    epoch, model._initial_epoch = getattr(model, "_initial_epoch", None), None
    return epoch


def begin_with_epoch(model: keras.Model, epoch: int) -> None:
    """Has the `fit` that is beginning start with this epoch (counted from 0)."""
    model._initial_epoch = epoch


def keras_writer(model: keras.Model, name: str) -> Callable[..., None]:
    """Returns Keras' own `save`, `save_weights` or `export`, whatever the plugged model's does."""
    return functools.partial(_WRITERS[name], model)


def save(model: keras.Model, path: str) -> None:
    """Saves with Keras' own method, whatever the plugged model's does beside."""
    with _taken_for_built(model):
        keras_writer(model, "save")(path)


def load_weights(model: keras.Model, path: str) -> str | None:
    """Loads what `save` wrote into a model whose parts are built.

    Returns:
        What Keras says of an optimizer whose variables it has left out, as the file has those of
        another one; None where it took all.
    """
    with _taken_for_built(model), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model.load_weights(path)
    skipped = None
    for one in told:
        if str(one.message).startswith("Skipping variable loading for optimizer"):
            skipped = str(one.message)
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    return skipped


@contextlib.contextmanager
def _taken_for_built(model: keras.Model) -> Iterator[None]:
    """A model without `call` (a GAN) never counts as built, whatever its parts are."""
    built, model.built = model.built, True
    try:
        yield
    finally:
        model.built = built


_attributes_skipped = names.of(keras_saving, "get_attr_skipset")
_KINDS = (
    *("Operation", "Layer", "Functional", "Sequential", "Metric", "Optimizer", "Loss"),
    *("Cross", "Feature"),
)


def prepare_to_save() -> None:
    """Has Keras make, in this thread, the empty objects with which it compares what it saves.

    Their variables cannot be made in a `keras.StatelessScope`. Keras means to keep what it finds,
    but looks for it under this name and keeps it under another.
    """
    for kind in _KINDS:
        keras_global_state.set_global_attribute(
            f"saving_attr_skiplist_{kind}", _attributes_skipped(kind)
        )


def compute_loss(
    model: keras.Model,
    x: Nest,
    y: Nest,
    y_pred: Nest,
    sample_weight: Nest,
    added: list[tf.Tensor],
    training: bool,
) -> tf.Tensor:
    """Returns what the model's `compute_loss` returns, with other losses added than its own.

    Args:
        model: a compiled model.
        x: the inputs.
        y: the targets.
        y_pred: the outputs.
        sample_weight: of each example, or None.
        added: what `model.losses` is meanwhile; its own, if empty.
        training: whether it is trained on.
    """
    before, model._losses_override = model._losses_override, list(added)
    try:
        return model._compute_loss(
            x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training
        )
    finally:
        model._losses_override = before


AVERAGES_ARE_IN = "_ema_weights_in_model"
"""Where a SwapEMAWeights callback notes which weights are in the model."""


BATCHES_SEEN = ("_batches_seen_since_last_saving", "_last_batch_seen")
"""Where a ModelCheckpoint counts the batches since it has saved a model."""

BATCHES_LOGGED = ("_global_train_batch", "_global_test_batch")
"""Where a TensorBoard callback counts the batches of all epochs."""


def profiles(callback: keras.callbacks.TensorBoard) -> bool:
    """Whether a TensorBoard callback profiles some batches."""
    return bool(getattr(callback, "_should_trace", False))


def loss_tracker(model: keras.Model) -> keras.metrics.Metric | None:
    """Returns the metric that shows a compiled model's loss, or None."""
    return getattr(model, "_loss_tracker", None)
