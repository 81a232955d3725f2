"""Steps of a class's own on weights in parts: what they compute of each part by itself is refused.

A step sees the parts as variables, and their gradients; see `part_flow`.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import keras
import tensorflow as tf

from tfdist.compat import patches, tf_graphs
from tfdist.errors import PlugError
from tfdist.structures import Gradient, Nest
from tfdist.training.model_parts import unique
from tfdist.training.tensor_parallel.part_flow import PartFlow, PartState
from tfdist.training.tensor_parallel.split_weight import whole_of
from tfdist.user_frames import is_library, last_own_line

__all__ = ["OwnParts", "applied"]

_OF_LAYERS = ("layers", "models", "optimizers", "trainers")


_current: ContextVar[OwnParts | None] = ContextVar("own parts", default=None)


@contextlib.contextmanager
def applied(
    gradients: Sequence[Gradient | None], variables: Sequence[keras.Variable] | None
) -> Iterator[None]:
    """Around an optimizer's `apply`: checks what it is given, where an own step is traced.

    Args:
        gradients: as given to it.
        variables: as given to it; None for all that it was built for.

    Raises:
        PlugError: some of it was computed of a part alone.
    """
    own = _current.get()
    if own is None:
        yield
        return
    own.check_applied(gradients, variables)
    token = _current.set(None)  # what optimizers assign is theirs
    try:
        yield
    finally:
        _current.reset(token)


class OwnParts:
    """What one step that is being traced has asked tapes for.

    Args:
        model: whose weights may be in parts.
    """

    def __init__(self, model: keras.Model) -> None:
        self._wholes = unique(w for v in model.variables if (w := whole_of(v)) is not None)
        self._handles = {
            id(shard.value.handle): PartState(
                "part", frozenset([(i, k)]), whole.axis, (k, len(whole.shards))
            )
            for i, whole in enumerate(self._wholes)
            for k, shard in enumerate(whole.shards)
        }
        self._known: dict[int, PartState] = {}
        self._given: dict[int, PartState] = {}
        self._kept: list[object] = []
        parts = {i: len(whole.shards) for i, whole in enumerate(self._wholes)}
        self._flow = PartFlow(self._known, self._read, parts)

    @contextlib.contextmanager
    def seen(self) -> Iterator[None]:
        """Looks at what tapes are asked for in the block, and at what comes of it."""
        if not self._wholes:
            yield
            return

        def noted(name: str) -> Callable[..., Nest]:
            def gradient(
                tape: tf.GradientTape, target: Nest, sources: Nest, *args: object, **named: object
            ) -> Nest:
                for one in tf.nest.flatten(target):
                    self._check(one, adds_up=True)
                found = patches.original(name)(tape, target, sources, *args, **named)
                flat = tf.nest.flatten(found, expand_composites=False)
                for one, source in zip(flat, tf.nest.flatten(sources), strict=False):
                    self._note(one, source)
                return found

            return gradient

        def assign(variable: keras.Variable, value: tf.Tensor) -> None:
            if _current.get() is self:
                self._check(value, variable)
                self._remember(variable, value)
            patches.original("assign")(variable, value)

        mine = {name: noted(name) for name in ("tape_gradient", "tape_jacobian")}
        token = _current.set(self)
        try:
            with patches.Patches({**mine, "assign": assign}):
                yield
        finally:
            _current.reset(token)

    def check_applied(
        self, gradients: Sequence[Gradient | None], variables: Sequence[keras.Variable] | None
    ) -> None:
        """Checks what an optimizer is to apply; see `applied`."""
        if self._known:
            given = variables or [None] * len(gradients)
            for gradient, variable in zip(gradients, given, strict=True):
                self._check(gradient, variable)

    def check_logs(self, logs: object) -> None:
        """Checks what the step returns.

        Raises:
            PlugError: some of it was computed of a part alone.
        """
        if self._wholes:
            for value in tf.nest.flatten(logs):
                self._check(value)

    def _note(self, gradient: Any, source: Any) -> None:
        """Notes a gradient: of parts as theirs, of whole variables as free of what it came by."""
        if gradient is None:
            return
        tensor = gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient
        state = self._state_of(source)
        if state.kind == "part" and tensor is gradient:  # behind the axes of a jacobian's target
            more = tensor.shape.rank - source.shape.rank
            state = dataclasses.replace(state, axis=state.axis + more)
        self._known[id(tensor)] = state
        self._kept.append(gradient)

    def _state_of(self, source: Any) -> PartState:
        """Of a variable, or of a tensor that was made of one."""
        handle = getattr(getattr(source, "value", source), "handle", None)
        if id(handle) in self._handles:
            return self._handles[id(handle)]
        return self._flow.of(source) if isinstance(source, tf.Tensor) else PartState()

    def _remember(self, variable: keras.Variable, value: object) -> None:
        """Notes what an own variable has been given of parts, for who reads it after that."""
        if isinstance(value, tf.Tensor) and whole_of(variable) is None:
            self._given[id(variable.value.handle)] = self._flow.of(value)
            self._kept.append(variable.value.handle)

    def _read(self, operation: tf.Operation) -> PartState | None:
        """Of which part an operation reads the value, for the step itself and for no layer."""
        handle = operation.inputs[0]
        while tf_graphs.is_symbolic(handle) and handle.op.type == "Placeholder":
            outer = tf_graphs.captured(handle)
            if outer is None:
                return None
            handle = outer
        if id(handle) in self._given:
            return self._given[id(handle)]
        state = self._handles.get(id(handle))
        return state if state is not None and _is_in_own_lines(operation) else None

    def _check(
        self, value: object, variable: keras.Variable | None = None, adds_up: bool = False
    ) -> None:
        tensor = value.values if isinstance(value, tf.IndexedSlices) else value
        if not isinstance(tensor, tf.Tensor) or not tf_graphs.is_symbolic(tensor):
            return
        state = self._flow.of(tensor)
        if state.kind == "bad":
            line = last_own_line(self._flow.origin(tensor).traceback or ())
        elif state.kind == "sum" and not adds_up:
            line = last_own_line(tensor.op.traceback or ())
        else:
            return
        of_what = "" if variable is None else f", for {variable.path},"
        raise PlugError(
            f"train_step computes a number of a part of a weight, or of its gradient{of_what} "
            f"where one machine has that of the whole ({line or 'in a library'}): take what treats "
            "each number by itself, or sums over all parts, as tf.clip_by_global_norm has them; or "
            "name in layout_map the weights that may be cut, and leave this one out"
        )


def _is_in_own_lines(operation: tf.Operation) -> bool:
    """Whether the user's line has a variable read, and no layer, or optimizer, that it calls."""
    for frame in reversed(operation.traceback or ()):
        if not is_library(frame.filename):
            return True
        name = frame.filename.replace("\\", "/")
        if "/tfdist/" in name or any(f"/keras/src/{one}/" in name for one in _OF_LAYERS):
            return False
    return False
