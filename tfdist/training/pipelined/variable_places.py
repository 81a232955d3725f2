"""Moves each variable of a model, of its metrics and of its optimizers to where it is needed."""

from __future__ import annotations

from collections.abc import Mapping

import keras

from tfdist.compat import keras_weights
from tfdist.strategies.pipeline_strategy import same_device
from tfdist.training.model_parts import optimizers_of

__all__ = ["place_variables"]


def place_variables(
    model: keras.Model, home_of: Mapping[int, str], otherwise: str, metrics: str
) -> None:
    """Moves variables one at a time, the slots of optimizers to what they belong to.

    Args:
        model: built.
        home_of: devices of variables, by their identities.
        otherwise: the device of all others.
        metrics: the device of those of metrics.
    """
    for variable in model.variables:
        _move(variable, home_of.get(id(variable), otherwise))
    for metric in model.metrics if model.compiled else []:
        for variable in metric.variables:
            _move(variable, metrics)
    paths = {v.path.replace("/", "_"): home_of.get(id(v)) for v in model.trainable_weights}
    for variable in (v for optimizer in optimizers_of(model) for v in optimizer.variables):
        # A slot is named after the variable that it belongs to.
        place = next((p for name, p in paths.items() if f"/{name}_" in f"/{variable.path}/"), None)
        _move(variable, place or otherwise)


def _move(variable: keras.Variable, device: str) -> None:
    if not same_device(variable.value.device, device):
        keras_weights.move_variable(variable, device)
