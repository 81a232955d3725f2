"""The numbers that a model's layers, optimizers and losses are configured with.

They are Python's, and go into a step when it is traced: a dropout's rate, a regularizer's factor, a
clip norm. Workers that begin `fit` with other ones train other models.
"""

from __future__ import annotations

import contextlib
import warnings
import zlib
from collections.abc import Iterator, Mapping
from numbers import Real

import keras
import numpy as np

from tfdist.compat import keras_layers, keras_trainer
from tfdist.errors import PlugError
from tfdist.training.data.stream import AllGatherNumbers
from tfdist.training.model_parts import optimizers_of
from tfdist.training.peers.drift import who_has_what

__all__ = ["agree_on_hyperparameters", "digest_of", "hyperparameters_of"]

_NO_MATTER = ("seed", "name", "build_config", "registered_name", "dtype", "vocabulary")
"""Parts of a configuration that may well differ, or that say nothing by numbers."""

_LONGEST = 256


def hyperparameters_of(model: keras.Model) -> dict[str, float]:
    """Returns them by name, in an order that is the same wherever the same program runs."""
    found: dict[str, float] = {}
    parts = [
        (f"{i}/{layer.name}", layer) for i, layer in enumerate(keras_layers.leaf_layers(model))
    ]
    parts += [(optimizer.name, optimizer) for optimizer in optimizers_of(model)]
    parts += [
        (loss.name, loss) for loss in keras_trainer.flat_losses(model) if hasattr(loss, "name")
    ]
    for name, part in parts:
        for path, value in _numbers(_config_of(part)):
            found[f"{name}{path}"] = value
    return found


def agree_on_hyperparameters(model: keras.Model, all_gather: AllGatherNumbers) -> None:
    """Makes sure that the workers' layers, optimizers and losses are configured alike.

    It comes before anything is built: a frozen layer has no slots, and making a variable is
    something that all workers must do together.

    Args:
        model: a compiled model.
        all_gather: shows this worker's numbers to all; every worker calls it together.

    Raises:
        PlugError: they are not.
    """
    own = hyperparameters_of(model)
    table = all_gather([digest_of(own), len(own)])
    if not (table != table[0]).any():
        return
    if len(set(table[:, 1])) == 1:
        values = all_gather(list(own.values()))
        for column, name in enumerate(own):
            if (values[:, column] != values[0, column]).any():
                raise PlugError(
                    f"the workers train with other hyperparameters "
                    f"({who_has_what(name, values[:, column])}): what one worker sets, every "
                    "worker must set"
                )
    raise PlugError(
        "the workers' models are made of other layers, or configured by other means: every worker "
        "must run the same program"
    )


def digest_of(hyperparameters: Mapping[str, float]) -> float:
    """A number that tells two sets of values apart, whatever their names (Keras numbers layers)."""
    return float(zlib.crc32(repr(list(hyperparameters.values())).encode()))


def _config_of(part: keras.Layer | keras.optimizers.Optimizer | keras.losses.Loss) -> object:
    """A part's configuration; {} where it cannot tell (a custom layer need not)."""
    with warnings.catch_warnings(), contextlib.suppress(Exception):
        warnings.simplefilter("ignore")
        return part.get_config()
    return {}


def _numbers(config: object) -> Iterator[tuple[str, float]]:
    if isinstance(config, Mapping):
        for key, value in config.items():
            if key not in _NO_MATTER:
                for path, number in _numbers(value):
                    yield f".{key}{path}", number
    elif isinstance(config, list | tuple | np.ndarray) and len(config) <= _LONGEST:
        for i, value in enumerate(config):
            for path, number in _numbers(value):
                yield f"[{i}]{path}", number
    elif isinstance(config, Real):
        yield "", float(config)
