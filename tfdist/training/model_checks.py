"""What a model must be like for its strategy to train it: told before anything is traced."""

from __future__ import annotations

from collections.abc import Iterable

import keras
import tensorflow as tf

from tfdist.compat import keras_layers, keras_optimizers, keras_trainer
from tfdist.errors import PlugError
from tfdist.training import own_methods
from tfdist.training.loop.family import FamilyKind
from tfdist.training.model_parts import optimizers_of

__all__ = [
    "check_compiled",
    "check_evaluator",
    "check_layers",
    "check_methods",
    "check_scope",
    "check_variables",
]


def check_methods(model: keras.Model) -> None:
    """Checks that the model's class leaves the functions that take steps to tfdist.

    Raises:
        PlugError: it makes one of them itself.
    """
    for mode in ("train", "test", "predict"):
        name = f"make_{mode}_function"
        if keras_trainer.overrides(model, name):
            raise PlugError(
                f"{type(model).__name__} has a {name} of its own, but with tfdist the strategy "
                f"makes the function that takes steps: override {mode}_step, which is one step"
            )


def check_evaluator(model: keras.Model) -> None:
    """Checks that the evaluator of a job may score a model without what its class does beside.

    Raises:
        PlugError: the class has an `evaluate` of its own.
    """
    if own_methods.has_own(model, "evaluate"):
        raise PlugError(
            f"{type(model).__name__} has an evaluate of its own, which the job's evaluator, "
            "scoring checkpoint after checkpoint, does not call: start the job without an evaluator"
        )


def check_layers(model: keras.Model, is_shared_out: bool) -> None:
    """Checks that no layer keeps something of each example from one batch to the next.

    Args:
        model: whose layers they are.
        is_shared_out: whether the rows of a batch go to several places.

    Raises:
        PlugError: one does.
    """
    if not is_shared_out:
        return
    for layer in keras_layers.all_layers(model):
        if isinstance(layer, keras.layers.RNN) and layer.stateful:
            raise PlugError(
                f"the layer {layer.name!r} is stateful: it goes on with each row of a batch where "
                "the same row of the batch before ended, but the rows are shared out over "
                "replicas, workers or microbatches, each with a state of its own; make it with "
                'stateful=False, or train it with tfdist.strategy("one_device")'
            )


def check_compiled(model: keras.Model, method: str) -> None:
    """Checks, in Keras' words, that `compile` came first."""
    if not model.compiled:
        raise ValueError(f"You must call `compile()` before calling `{method}()`.")


def check_scope(
    kind: FamilyKind,
    strategy: tf.distribute.Strategy,
    variables: Iterable[keras.Variable],
    what: str,
) -> None:
    """Checks that variables were made in the strategy's scope, where that matters.

    Raises:
        PlugError: one of them was not.
    """
    for variable in variables:
        if not kind.is_at_home(strategy, variable.value):
            raise PlugError(
                f"{what} outside of strategy.scope() (its variable {variable.path!r} is not "
                f"{kind.home}): make it inside `with strategy.scope():`"
            )


def check_variables(kind: FamilyKind, model: keras.Model, strategy: tf.distribute.Strategy) -> None:
    """Checks the variables of a model, of its optimizer and of its metrics.

    An optimizer that was made elsewhere is adopted where there is one replica.
    """
    check_scope(kind, strategy, model.variables, "the model was built")
    for optimizer in optimizers_of(model):
        what = "the optimizer" if optimizer is model.optimizer else f"optimizer {optimizer.name!r}"
        check_scope(kind, strategy, optimizer.variables, f"{what} was made")
        if strategy.num_replicas_in_sync == 1:
            keras_optimizers.adopt(optimizer, strategy)
    for metric in model.metrics:
        for variable in metric.variables:
            name = variable.path.split("/")[0]
            check_scope(kind, strategy, [variable], f"the metric {name!r} was made")
