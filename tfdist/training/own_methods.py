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
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeAlias

import keras
import tensorflow as tf

from tfdist import process
from tfdist.compat import tf_strategies
from tfdist.errors import PlugError
from tfdist.strategies import registry, stall_watch
from tfdist.strategies.layout import ReplicaLayout
from tfdist.training.model_parts import optimizers_of
from tfdist.training.peers.all_gather import CALLS, AllGather
from tfdist.training.peers.hyperparameters import agree_on_hyperparameters
from tfdist.training.peers.peer_errors import told_of_lost_tasks

__all__ = ["METHODS", "Calls", "Receiver", "has_own", "reach", "stand_in"]


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
        self.trained += name in _TRAINING
        try:
            yield
        finally:
            self.running -= 1


class Receiver(Protocol):
    """What stands behind a plugged model, with a method for each of `METHODS`.

    Attributes:
        model: the model.
        strategy: in whose scope it was made.
        layout: its replicas.
        calls: of those methods.
    """

    model: keras.Model
    strategy: tf.distribute.Strategy
    layout: ReplicaLayout
    calls: Calls

    @property
    def is_shared_out(self) -> bool:
        """Whether training is more than what plain Keras would do in this process."""

    def write_alone(self, write: Callable[..., None]) -> Callable[..., None]:
        """Returns `write`, which takes a path first, as several workers can call it at once."""


Of: TypeAlias = Callable[[keras.Model], "Receiver | None"]
"""Returns what stands behind a model, or None where it is not plugged."""

METHODS = (
    "fit",
    "evaluate",
    "predict",
    "train_on_batch",
    "test_on_batch",
    "predict_on_batch",
    "compile",
    "save",
    "save_weights",
    "export",
)
"""The methods of a model that are tfdist's when it is plugged."""

_REACHED = tuple(name for name in METHODS if name != "compile")
"""Those that `super()` may mean; a class's own `compile` needs nothing but the scope."""

_TRAINING = ("fit", "train_on_batch")
_WRITERS = ("save", "save_weights", "export")
_lock = threading.RLock()
_open = 0


def has_own(model: keras.Model, name: str) -> bool:
    """Whether the model's class has a method of its own where `keras.Model` has one."""
    return getattr(type(model), name) is not getattr(keras.Model, name)


def reach(receiver: Receiver, name: str) -> Callable[..., Any]:
    """Returns tfdist's method of this name, whatever the model's class has itself."""
    method = getattr(receiver, name)

    @functools.wraps(method)
    def reached(*args: object, **kwargs: object) -> object:
        with receiver.calls.count(name), _with_the_others(receiver, name):
            return method(*args, **kwargs)

    return reached


@contextlib.contextmanager
def _with_the_others(receiver: Receiver, name: str) -> Iterator[None]:
    """Makes sure that all workers of a job call a method, and tells of those that have gone."""
    layout, strategy = receiver.layout, receiver.strategy
    membership = registry.membership_of(strategy)
    task = layout.task or str(process.current().task or "")
    if not layout.task and membership is None:
        yield
        return
    with contextlib.ExitStack() as stack:
        if layout.task:
            stack.enter_context(told_of_lost_tasks(task, name, registry.touch()))
        stack.enter_context(stall_watch.call(name))
        if layout.workers > 1:  # a variable that one of them makes must not wait for the others
            stack.enter_context(tf_strategies.out_of_scope())
        if layout.workers > 1 and name in CALLS:
            gather = AllGather.of(strategy, layout)
            gather.meet(name)
            if name == "fit":
                agree_on_hyperparameters(receiver.model, gather.all_gather)
        yield


def stand_in(receiver: Receiver, name: str, of: Of) -> Callable[..., object]:
    """Returns what stands in for a plugged model's method of this name."""
    model = receiver.model
    is_own = name in _REACHED and has_own(model, name)
    method = functools.partial(_call_own, receiver, name, of) if is_own else reach(receiver, name)
    return functools.wraps(getattr(type(model), name))(
        lambda *args, **named: method(*args, **named)
    )


def _call_own(receiver: Receiver, name: str, of: Of, *args: object, **kwargs: object) -> object:
    """Calls the method of this name that the model's class has itself."""
    model = receiver.model
    guarded = name in _TRAINING and receiver.is_shared_out
    guard = _trains_by_tfdist(receiver, name) if guarded else contextlib.nullcontext()
    with _reaches_tfdist(receiver, of), guard:
        return getattr(type(model), name)(model, *args, **kwargs)


@contextlib.contextmanager
def _reaches_tfdist(receiver: Receiver, of: Of) -> Iterator[None]:
    """Has `keras.Model`'s methods, which `super()` reaches, be tfdist's for plugged models.

    Args:
        receiver: of the model whose own method runs; the models that this saves beside, which are
            not plugged (the two of a GAN), are written as its own files are.
        of: tells which models are plugged.
    """
    global _open
    with _lock:
        _open += 1
        if _open == 1:
            _before.update({name: vars(keras.Model).get(name) for name in _REACHED})
            for name in _REACHED:
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


_before: dict[str, Callable[..., object] | None] = {}
"""What `keras.Model` itself has under these names; None where it inherits it."""


def _dispatching(name: str, receiver: Receiver, of: Of) -> Callable[..., object]:
    original = getattr(keras.Model, name)

    @functools.wraps(original)
    def method(self: keras.Model, *args: object, **kwargs: object) -> object:
        plugged = of(self)
        if plugged is not None:
            return reach(plugged, name)(*args, **kwargs)
        bound: Callable[..., Any] = functools.partial(original, self)
        if name in _WRITERS:
            bound = receiver.write_alone(bound)
        return bound(*args, **kwargs)

    return method


@contextlib.contextmanager
def _trains_by_tfdist(receiver: Receiver, method: str) -> Iterator[None]:
    """Makes sure that a class's own `fit` or `train_on_batch` has tfdist take the steps.

    Args:
        receiver: of a model that is trained by several.
        method: the name of its class's own method, which runs in the block.

    Raises:
        PlugError: an optimizer of the model was applied outside of tfdist's steps, or the method
            has ended without having called one of tfdist's that trains.
    """
    model, calls = receiver.model, receiver.calls
    own = f"{type(model).__name__}.{method}"
    remedy = f"put what it does with a batch into train_step, and call super().{method}(...)"
    before = calls.trained

    def guarded(optimizer: keras.optimizers.Optimizer) -> Callable[..., object]:
        def apply(*args: object, **kwargs: object) -> object:
            if not calls.running:
                raise PlugError(
                    f"{own} takes steps by itself (it applies the optimizer {optimizer.name!r}), "
                    f"which the strategy's replicas know nothing of: {remedy}"
                )
            return type(optimizer).apply(optimizer, *args, **kwargs)

        return apply

    # Its own `train_on_batch` may run in its own `fit`.
    optimizers = [one for one in optimizers_of(model) if "apply" not in vars(one)]
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
