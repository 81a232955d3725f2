"""Steps of a class's own in a pipeline: whenever they call the model, it runs in its stages.

All microbatches go forward before the step sees the batch's outputs, and backward when it asks a
tape for gradients, as under GPipe (Huang et al., 2019). What the step computes itself, losses and
metrics, it computes from the whole batch on the last stage's device.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence

import keras
import tensorflow as tf

from tfdist.compat import keras_layers, keras_trainer, patches, tf_graphs
from tfdist.errors import PlugError
from tfdist.schedules import schedule as schedules
from tfdist.structures import Gradient, Nest
from tfdist.training.mode import Mode
from tfdist.training.pipelined.executor import Executor, StepWriting
from tfdist.training.pipelined.gradient_sums import Gradients, Penalties, total
from tfdist.training.pipelined.microbatch import Key, Outcome, Part, is_float
from tfdist.training.pipelined.optimizer_update import updates_in_place
from tfdist.training.pipelined.variable_values import State
from tfdist.training.tensor_parallel.own_parts import OwnParts

__all__ = ["has_own_step", "take_own_step"]


def has_own_step(model: keras.Model, mode: Mode) -> bool:
    """Whether a model, or its class, takes steps of a mode otherwise than Keras does."""
    return keras_trainer.overrides(model, f"{mode}_step") or keras_layers.calls_itself(model)


def take_own_step(
    executor: Executor, mode: Mode, data: Nest, timed: bool = False
) -> tuple[object, list[Outcome]]:
    """Writes one step as the model's class takes it.

    Args:
        executor: runs batches of the model through the stages.
        mode: "train", "test" or "predict".
        data: the batch, as the step takes it.
        timed: whether to note when each slot begins and ends.

    Returns:
        What the step returns, and what the slots of each call of the model have left.

    Raises:
        PlugError: the step does not call the model.
    """
    model = executor.model
    own = OwnParts(model)
    with _calls_in_stages(executor, timed) as calls, own.seen():
        result = getattr(model, f"{mode}_step")(data)
    own.check_logs(result)
    if not calls:
        raise PlugError(
            f"the {mode}_step of {type(model).__name__} does not call the model, so that nothing "
            "of it would run in the stages of the pipeline: call self(x) in it, not the layers one "
            "by one, or train on another kind of strategy"
        )
    return result, [call.outcome for call in calls]


@contextlib.contextmanager
def _calls_in_stages(executor: Executor, timed: bool) -> Iterator[list[_Call]]:
    """Has calls of the model run in its stages, and all else on the last stage's device."""
    function = keras_layers.functional_of(executor.model)
    calls: list[_Call] = []
    tapes: list[tf.GradientTape] = []
    thread = threading.get_ident()

    def enter(tape: tf.GradientTape) -> tf.GradientTape:
        if threading.get_ident() == thread:
            tapes.append(tape)
        return patches.original("tape_enter")(tape)

    def leave(tape: tf.GradientTape, *error: object) -> None:
        if threading.get_ident() == thread:
            tapes.remove(tape)
        patches.original("tape_exit")(tape, *error)

    def call(
        self: keras.Layer,
        inputs: Nest,
        training: bool | None = None,
        mask: Nest = None,
        **context: object,
    ) -> Nest:
        leaves = keras.tree.flatten(inputs)
        if self is not function or any(isinstance(leaf, keras.KerasTensor) for leaf in leaves):
            return patches.original("call_functional")(self, inputs, training, mask, **context)
        calls.append(_Call(executor, inputs, bool(training), timed))
        alone = tapes[0] if len(tapes) == 1 and tf_graphs.tells_once(tapes[0]) else None
        with keras_layers.not_cast():
            return calls[-1].outputs([] if mask is None else keras.tree.flatten(mask), alone)

    mine: dict[str, Callable[..., object]] = {
        "call_functional": call,
        "tape_enter": enter,
        "tape_exit": leave,
    }
    in_place = updates_in_place(executor.strategy.home)
    with patches.Patches(mine), in_place, tf.device(executor.last()):
        yield calls


class _Call(StepWriting):
    """The writing of one call of the model, and of its way back."""

    def __init__(self, program: Executor, inputs: Nest, training: bool, timed: bool) -> None:
        super().__init__(program, "predict", (inputs,), timed)
        self.training = training
        self.changes_state = True

    def outputs(self, masks: Sequence[tf.Tensor | None], alone: tf.GradientTape | None) -> Nest:
        """Returns what the model returns for the batch, as tapes are to see it.

        Args:
            masks: of the inputs, flat, where they are given.
            alone: the one tape around the call, if there is no other and it tells once.
        """
        with tf.device(self.strategy.home):
            self.given = keras_layers.functional_inputs(self.model, self.x)
            for value, mask in zip(self.given, masks, strict=False):
                if mask is not None:
                    keras_layers.set_mask(value, mask)
            self.parts = self.cut_the_batch(self.given)
        self.flat = [part for own in self.parts for part in own]
        self.state = State(self.strategy, self.stages)
        self.penalties = Penalties([], {})
        trained = {id(v) for v in self.model.trainable_weights}
        self.keys = [key for key in self.state.first[0] if key in trained]
        floats = [value for value in self.given if is_float(value)]
        if tf_graphs.is_watched(floats):
            self.not_wanted = set()
        sources = [*floats, *(self.state.first[0][key] for key in self.keys)]
        is_watched = tf_graphs.is_watched(sources)
        self.keeps = is_watched and not self.plan.recompute
        # A tape that looked into the stages would see what gradients of gradients need, too. For
        # that TensorFlow makes a function of each loop: not where nobody can ask.
        hidden = None if alone is None or not is_watched else alone.stop_recording()
        with hidden or contextlib.nullcontext():
            self.write(schedules.forward_only(self.program.slots, self.plan.placement))
            self.state.assign()
            with tf.device(self.program.last()):
                whole = self._whole()
        with tf.device(self.program.last()):
            return self._as_one_operation(sources, whole)

    def _whole(self) -> dict[Key, tf.Tensor]:
        """What the step may look at, of the whole batch."""
        self.seen = [self._seen(part) for part in self.flat]
        self.join_tape = tf.GradientTape(persistent=True, watch_accessed_variables=False)
        with self.join_tape:
            self.join_tape.watch([list(one.values()) for one in self.seen])
            return {key: self._joined(key, [one[key] for one in self.seen]) for key in self.seen[0]}

    def _as_one_operation(self, sources: Sequence[tf.Tensor], whole: dict[Key, tf.Tensor]) -> Nest:
        def backward(*flow: Gradient | None) -> list[Gradient | None]:
            return self._backwards(list(whole.values()), list(flow))

        found = tf_graphs.recorded("Pipeline", sources, lambda: list(whole.values()), backward)
        known = dict(zip(whole, found, strict=True))
        leaves = []
        for symbol in self.graph.flat_outputs:
            values = [part.values[id(symbol)] for part in self.flat]
            leaf = known[id(symbol)] if id(symbol) in known else self.joined(values)
            self.join_masks(leaf, values)
            if ("logits", id(symbol)) in known:
                keras_layers.set_logits(leaf, known["logits", id(symbol)])
            leaves.append(leaf)
        for key in self.flat[0].added:
            layer = next(p.operation for p in key[0].pieces if isinstance(p.operation, keras.Layer))
            keras.Layer.add_loss(layer, known[key])  # `losses` of the model are those of its layers
        return keras.tree.pack_sequence_as(self.graph.outputs, leaves)

    def _seen(self, part: Part) -> dict[Key, tf.Tensor]:
        """What of a microbatch the step may look at."""
        seen = part.seen_by_the_loss(self.graph.flat_outputs)
        for key, loss in part.added.items():
            seen[key] = loss
        return seen

    def _joined(self, key: Key, values: Sequence[tf.Tensor]) -> tf.Tensor:
        if key not in self.flat[0].added:
            return self.joined(values)
        return tf.add_n(
            [v * tf.cast(p.share, v.dtype) for v, p in zip(values, self.flat, strict=True)]
        )

    def _backwards(
        self, whole: list[tf.Tensor], flow: list[Gradient | None]
    ) -> list[Gradient | None]:
        """From the gradients of what the step has seen to those of the inputs and variables."""
        self.gradients = Gradients(self.strategy, self.stages)
        came = [
            (w, tf.convert_to_tensor(f)) for w, f in zip(whole, flow, strict=True) if f is not None
        ]
        with tf.device(self.program.last()):
            targets, cotangents = [w for w, _ in came], [f for _, f in came]
            values = [list(one.values()) for one in self.seen]
            each = self.join_tape.gradient(targets, values, output_gradients=cotangents)
        for part, seen, back in zip(self.flat, self.seen, each, strict=True):
            part.cotangents, part.later = {}, {}
            part.give_back(list(seen), back)
        self.write([slot for slot in self.program.slots if slot.direction != "forward"])
        sums = self.gradients.sums(self.state.variables, self.penalties)
        return [*self._of_inputs(), *(sums.get(key) for key in self.keys)]

    def _of_inputs(self) -> list[Gradient | None]:
        found: list[Gradient | None] = []
        for symbol, value in zip(self.graph.inputs, self.given, strict=True):
            if not is_float(value):
                continue
            each = [part.cotangents.get(id(symbol), []) for part in self.flat]
            if self.not_wanted or not all(each):
                found.append(None)
                continue
            with tf.device(self.strategy.home):
                found.append(self.joined([tf.convert_to_tensor(total(one)) for one in each]))
        return found
