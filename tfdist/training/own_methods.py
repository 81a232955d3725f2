"""Methods that a model's class has of its own: what they ask of `super()` reaches tfdist's.

A class may prepare its data in a `fit` of its own and then call `super().fit(...)`, which is
`keras.Model.fit`. While such a method runs, and only then, the methods of `keras.Model` look at the
object that they are called for: a plugged model gets tfdist's, every other object gets Keras' own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import keras

from tfdist.errors import PlugError
from tfdist.training.building import optimizers_of

__all__ = ["TRAINING", "Calls", "Receiver", "has_own", "reaches_tfdist", "trains_by_tfdist"]


@dataclasses.dataclass
class Calls:
    """Counts the calls of tfdist's methods for one model.

    Attributes:
        running: how many have not returned yet.
        trained: how many so far were of a method that trains.
    """

    running: int = 0
    trained: int = 0

    @contextlib.contextmanager
    def count(self, name: str) -> Iterator[None]:
        """Counts a call of the method of this name, which runs in the block."""
        self.running += 1
        self.trained += name in TRAINING
        try:
            yield
        finally:
            self.running -= 1


class Receiver(Protocol):
    """What stands behind a plugged model."""

    def reach(self, name: str) -> Callable[..., Any]:
        """Returns tfdist's method of this name, whatever the model's class has beside."""

    def write_alone(self, write: Callable[..., Any]) -> Callable[..., Any]:
        """Returns `write`, a method that takes a path first, such that workers do not collide."""


TRAINING = ("fit", "train_on_batch")
_WRITERS = ("save", "save_weights", "export")
_lock = threading.RLock()
_open = 0


def has_own(model: keras.Model, name: str) -> bool:
    """Whether the model's class has a method of its own where `keras.Model` has one."""
    return getattr(type(model), name) is not getattr(keras.Model, name)


@contextlib.contextmanager
def reaches_tfdist(
    names: Sequence[str], receiver: Receiver, of: Callable[[Any], Receiver | None]
) -> Iterator[None]:
    """Has `keras.Model`'s methods, which `super()` reaches, be tfdist's for plugged models.

    Args:
        names: of the methods.
        receiver: of the model whose own method runs; the models that this saves beside, which are
            not plugged (the two of a GAN), are written as its own files are.
        of: returns what stands behind a model, or None where it is not plugged.
    """
    global _open
    with _lock:
        _open += 1
        if _open == 1:
            _before.update({name: vars(keras.Model).get(name) for name in names})
            for name in names:
                setattr(keras.Model, name, _dispatching(name, receiver, of))
    try:
        yield
    finally:
        with _lock:
            _open -= 1
            if _open == 0:
                for name, method in _before.items():
                    if method is None:
                        delattr(keras.Model, name)
                    else:
                        setattr(keras.Model, name, method)
                _before.clear()


_before: dict[str, Any] = {}
"""What `keras.Model` itself has under these names; None where it inherits it."""


def _dispatching(
    name: str, receiver: Receiver, of: Callable[[Any], Receiver | None]
) -> Callable[..., Any]:
    original = getattr(keras.Model, name)

    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        plugged = of(self)
        if plugged is not None:
            return plugged.reach(name)(*args, **kwargs)
        bound = functools.partial(original, self)
        if name in _WRITERS:
            bound = receiver.write_alone(bound)
        return bound(*args, **kwargs)

    return method


@contextlib.contextmanager
def trains_by_tfdist(model: keras.Model, method: str, calls: Calls) -> Iterator[None]:
    """Makes sure that a class's own `fit` or `train_on_batch` has tfdist take the steps.

    Args:
        model: a plugged model of several replicas.
        method: the name of its class's own method, which runs in the block.
        calls: counts what the model is asked for.

    Raises:
        PlugError: an optimizer of the model was applied outside of tfdist's steps, or the method
            has ended without having called one of tfdist's that trains.
    """
    own = f"{type(model).__name__}.{method}"
    remedy = f"put what it does with a batch into train_step, and call super().{method}(...)"
    before = calls.trained

    def guarded(optimizer: keras.optimizers.Optimizer) -> Callable[..., Any]:
        def apply(*args: Any, **kwargs: Any) -> Any:
            if not calls.running:
                raise PlugError(
                    f"{own} takes steps by itself (it applies the optimizer {optimizer.name!r}), "
                    f"which the strategy's replicas know nothing of: {remedy}"
                )
            return type(optimizer).apply(optimizer, *args, **kwargs)

        return apply

    optimizers = optimizers_of(model)
    for optimizer in optimizers:
        object.__setattr__(optimizer, "apply", guarded(optimizer))
    try:
        yield
    finally:
        for optimizer in optimizers:
            object.__delattr__(optimizer, "apply")
    if calls.trained == before:
        raise PlugError(
            f"{own} has returned without a call of super().{method} or train_on_batch, so the "
            f"strategy has trained nothing: {remedy}"
        )
