"""All variables of a model, of its metrics and of its optimizers, made before a step is traced.

Replicas need them beforehand: a variable that is made while a step is traced belongs to one of
them. A model with Keras' own steps is built as Keras builds it under a strategy, by a symbolic
call. A class with steps of its own may have no `call`, several optimizers, or layers that only its
step knows, so its step is tried on tensors without values first: every layer is built as the step
uses it, and every optimizer for the variables that the step applies it to.
"""

from __future__ import annotations

from collections.abc import Iterable

import keras
import tensorflow as tf

from tfdist.compat import keras_build, keras_trainer, patches
from tfdist.structures import Nest
from tfdist.training.mode import Mode

__all__ = ["Builder"]

_STEPS = ("train_step", "test_step", "predict_step")


class Builder:
    """Builds one model, for the steps that it is about to take.

    Args:
        model: a model made in the strategy's scope.
        strategy: the strategy.
        replicas: how many take a step of it together.
    """

    def __init__(self, model: keras.Model, strategy: tf.distribute.Strategy, replicas: int) -> None:
        self._model = model
        self._strategy = strategy
        self._replicas = replicas
        self._tried: set[str] = set()

    def begin_anew(self) -> None:
        """Forgets what was tried: the model has been compiled anew."""
        self._tried.clear()

    def build(self, mode: Mode, batch: Nest) -> None:
        """Makes all variables that the steps of a mode need and that are not there yet.

        Args:
            mode: "train", "test" or "predict".
            batch: tensors or specs of one batch, as the step takes them.
        """
        model = self._model
        if self._replicas > 1:
            keras_build.make_global_seeds(self._strategy)
        if not self._has_own_steps() and mode != "predict":
            with self._strategy.scope():
                keras_build.symbolic_build(model, batch)
        elif mode not in self._tried and not (mode == "predict" and keras_build.is_built(model)):
            self._try(mode, batch)
            self._tried.add(mode)

    def _has_own_steps(self) -> bool:
        return any(keras_trainer.overrides(self._model, name) for name in _STEPS)

    def _try(self, mode: Mode, batch: Nest) -> None:
        model = self._model
        applied: dict[int, tuple[keras.optimizers.Optimizer, list[keras.Variable]]] = {}

        def note(
            optimizer: keras.optimizers.Optimizer,
            grads: object,
            trainable_variables: Iterable[keras.Variable] | None = None,
        ) -> None:
            del grads
            applied.setdefault(id(optimizer), (optimizer, list(trainable_variables or [])))

        try:
            with patches.Patches({"apply": note, "scaled_apply": note}):
                keras_build.try_step(getattr(model, f"{mode}_step"), batch, self._strategy)
        except Exception as error:
            if mode == "predict" or not keras_trainer.overrides(model, "call"):
                raise
            # The step wants more than shapes; what it does will be seen when it is traced.
            with self._strategy.scope():
                try:
                    keras_build.symbolic_build(model, batch)
                except Exception:
                    raise error from None
        with self._strategy.scope():
            for optimizer, variables in applied.values():
                if not optimizer.built and variables:
                    optimizer.build(variables)
