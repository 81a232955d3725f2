"""What L-BFGS can minimize: models, data and callbacks, checked before anything is traced."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

from tfdist.compat import keras_trainer
from tfdist.errors import DataError, PlugError
from tfdist.optimize.portion_source import ChiefReads, PortionSource, WorkersRead
from tfdist.optimize.portions import Portions
from tfdist.structures import Callbacks, Data, Nest
from tfdist.training.data.global_batches import GlobalBatches
from tfdist.training.loop import callback_routing
from tfdist.training.loop.keeper import keepers_among
from tfdist.training.model_parts import unique
from tfdist.training.plugged import Plugged

__all__ = ["check_callbacks", "check_model", "source_of", "weights_of"]

_LEAST_ROWS = 32
_MOST_PORTIONS = 256


def source_of(
    plugged: Plugged,
    x: Data | Portions,
    y: Data,
    sample_weight: Data,
    class_weight: Mapping[int, float] | None,
    batch_size: int | None,
) -> tuple[PortionSource, Nest]:
    """Where the portions of a call come from, in their order.

    Args:
        plugged: the model's.
        x: as in `fit`, or portions that workers read.
        y: as in `fit`.
        sample_weight: as in `fit`.
        class_weight: as in `fit`.
        batch_size: rows of a portion; None for a 256th of all, and at least 32.

    Returns:
        The source, and a batch or its specs, by which the model is built.

    Raises:
        DataError: they are none that can be read again and again.
    """
    if isinstance(x, Portions):
        others = {"y": y, "sample_weight": sample_weight, "class_weight": class_weight}
        others["batch_size"] = batch_size
        for name, value in others.items():
            if value is not None:
                raise DataError(
                    f"minimize was given Portions, and {name} beside: let the function that reads "
                    "a portion return (x, y) or (x, y, sample_weight), with the rows it shall have"
                )
        source = WorkersRead(x)
        return source, source.specs
    if callable(x) and not isinstance(x, keras.utils.PyDataset | tf.data.Dataset):
        raise DataError(
            "minimize was given a function; any worker may be handed any portion: give "
            "tfdist.optimize.Portions(function, count), whose function reads the portion with a "
            "number, arrays, or a dataset"
        )
    if _are_arrays(x) and not any(leaf.shape[0] for leaf in keras.tree.flatten(x)):
        raise DataError("minimize was given no rows: give arrays with at least one")
    if batch_size is None and _are_arrays(x):
        rows = int(keras.tree.flatten(x)[0].shape[0])
        batch_size = max(_LEAST_ROWS, -(-rows // _MOST_PORTIONS))
    data = GlobalBatches(
        plugged.layout,
        x,
        y,
        sample_weight,
        batch_size=batch_size,
        class_weight=class_weight,
    )
    if int(data.source.cardinality()) == tf.data.INFINITE_CARDINALITY:
        raise DataError(
            "minimize was given a dataset that never ends, but it reads all of it in every pass: "
            "leave out its .repeat()"
        )
    return ChiefReads(data), data.sample_batch()


def _are_arrays(x: Data) -> bool:
    leaves = keras.tree.flatten(x)
    return all(isinstance(leaf, np.ndarray | tf.Tensor) and leaf.shape for leaf in leaves)


def check_model(model: keras.Model) -> None:
    """Checks that a model has a loss, and that Keras' own step would take it.

    Raises:
        PlugError: it has a step of its own.
        ValueError: it is not compiled.
    """
    if not model.compiled:
        raise ValueError("You must call `compile()` before calling `minimize()`.")
    if keras_trainer.overrides(model, "train_step"):
        raise PlugError(
            f"{type(model).__name__} has a train_step of its own, which L-BFGS would not call: put "
            "the loss into compute_loss, which it calls, or use fit"
        )


def check_callbacks(callbacks: Callbacks) -> None:
    """Checks that no callback wants what only a `fit` has.

    Raises:
        PlugError: one does.
    """
    flat = callback_routing.flat(callbacks)
    own = [*keepers_among(flat), *(c for c in flat if callback_routing.restores_the_model(c))]
    if own:
        raise PlugError(
            f"{type(own[0]).__name__} keeps the state of a fit, of which minimize has none: give "
            "keras.callbacks.ModelCheckpoint, which saves the model"
        )


def weights_of(model: keras.Model) -> list[keras.Variable]:
    """The trainable variables of a model, of one dtype.

    Raises:
        PlugError: there are none, or their dtype is none to compute with.
    """
    weights = unique(model.trainable_variables)
    dtypes = sorted({keras.backend.standardize_dtype(v.dtype) for v in weights})
    if not weights:
        raise PlugError("the model has nothing to train: leave a layer with weights trainable")
    if len(dtypes) > 1 or dtypes[0] not in ("float32", "float64"):
        raise PlugError(
            f"trainable weights of {' and '.join(dtypes)}: L-BFGS computes with vectors of all "
            "weights; make the model with float32, or with float64"
        )
    return weights
