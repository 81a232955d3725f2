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
from typing import Any

import keras
import numpy as np

from tfdist import internals
from tfdist.training.model_parts import optimizers_of

__all__ = ["digest_of", "hyperparameters_of"]

_NO_MATTER = ("seed", "name", "build_config", "registered_name", "dtype", "vocabulary")
"""Parts of a configuration that may well differ, or that say nothing by numbers."""

_LONGEST = 256


def hyperparameters_of(model: keras.Model) -> dict[str, float]:
    """Returns them by name, in an order that is the same wherever the same program runs."""
    found: dict[str, float] = {}
    parts = [(f"{i}/{layer.name}", layer) for i, layer in enumerate(internals.leaf_layers(model))]
    parts += [(optimizer.name, optimizer) for optimizer in optimizers_of(model)]
    parts += [(loss.name, loss) for loss in internals.flat_losses(model) if hasattr(loss, "name")]
    for name, part in parts:
        for path, value in _numbers(_config_of(part)):
            found[f"{name}{path}"] = value
    return found


def digest_of(hyperparameters: Mapping[str, float]) -> float:
    """A number that tells two sets of values apart, whatever their names (Keras numbers layers)."""
    return float(zlib.crc32(repr(list(hyperparameters.values())).encode()))


def _config_of(part: Any) -> Any:
    """A part's configuration; {} where it cannot tell (a custom layer need not)."""
    with warnings.catch_warnings(), contextlib.suppress(Exception):
        warnings.simplefilter("ignore")
        return part.get_config()
    return {}


def _numbers(config: Any) -> Iterator[tuple[str, float]]:
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
