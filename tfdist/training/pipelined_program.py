"""One step of a pipeline as a TensorFlow program, written slot by slot.

Each (stage, microbatch) runs its forward with a tape of its own, and its backward by that tape and
the gradients that the next stages sent back. A slot begins only when the one before it on the same
device has ended: control dependencies say so, as TensorFlow would otherwise run all microbatches of
a stage at once, and the next stage would start late.

The step is functional: variables are read once, at its beginning; what layers write (the moving
statistics of BatchNormalization, the states of random numbers) goes from microbatch to microbatch
as tensors, and is assigned at the end. So the forward can be run again in the backward
(`recompute`) and draws the same random numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfdist import internals
from tfdist.pipeline import schedule as schedules
from tfdist.pipeline.graph import Graph, Segment, Stage
from tfdist.pipeline.schedule import Slot
from tfdist.strategies.pipeline import PipelineStrategy
from tfdist.training import pipelined_losses as losses

__all__ = ["Outcome", "Program"]

_SUMMED_AT_ONCE = 2
"""Gradients that are kept until they are added up: fewer additions pass over the memory less often,
more keep more of them alive."""

_FED_AHEAD = 2
"""Microbatches that the chief sends before the first stage has done with them."""

_SEED_STRIDE = 1_000_003


@dataclasses.dataclass
class Outcome:
    """What the slots of one step left.

    Attributes:
        loss: the batch's loss, or None in a prediction.
        outputs: what the model returns for the batch, structured; None where nobody asked.
        gradients: by the identity of a variable; none unless training.
        times: of each replica's slots, `[slots, 2]` seconds: begin and end; where asked for.
        slots: the replica and the slot of each row of `times`.
    """

    loss: tf.Tensor | None
    outputs: Any
    gradients: dict[int, Any]
    times: list[tuple[tf.Tensor, tf.Tensor]]
    slots: list[tuple[int, Slot]]


@dataclasses.dataclass
class _Part:
    """One microbatch of one replica."""

    inputs: list[Any]
    x: Any
    y: Any
    sample_weight: Any
    share: tf.Tensor
    rows: Any
    values: dict[int, Any] = dataclasses.field(default_factory=dict)
    added: dict[Any, tf.Tensor] = dataclasses.field(default_factory=dict)
    cotangents: dict[Any, list[Any]] = dataclasses.field(default_factory=dict)
    tapes: dict[Any, Any] = dataclasses.field(default_factory=dict)
    loss: tf.Tensor | None = None


@dataclasses.dataclass
class _Ran:
    """What one segment's forward gave.

    Attributes:
        outputs: as the segment's.
        state: what its layers made of their variables that are not trained.
        added: the losses that its layers added.
        tape: what recorded it, or None.
        keys: the identities of the variables that the tape watched.
    """

    outputs: list[Any]
    state: dict[int, tf.Tensor]
    added: list[tf.Tensor]
    tape: tf.GradientTape | None
    keys: list[int]


class Program:
    """Writes the steps of one model on one pipeline.

    Args:
        graph: the model's layers.
        stages: how they are cut.
        strategy: where they run.
    """

    def __init__(self, graph: Graph, stages: Sequence[Stage], strategy: PipelineStrategy) -> None:
        self.graph = graph
        self.model = graph.model
        self.stages = stages
        self.strategy = strategy
        self.plan = strategy.plan
        self.slots = schedules.schedule(self.plan.schedule, len(stages), self.plan.microbatches)

    def run(self, mode: str, data: Any, timed: bool = False) -> Outcome:
        """Writes one step.

        Args:
            mode: "train", "test" or "predict".
            data: the batch, `(x,)`, `(x, y)` or `(x, y, sample_weight)`.
            timed: whether to note when each slot begins and ends.
        """
        return _Writing(self, mode, data, timed).run()

    def needs_rehearsal(self) -> bool:
        """Whether a loss divides by something of the whole batch that no microbatch knows."""
        if any(
            getattr(loss, "reduction", None) == "mean_with_sample_weight"
            for loss in internals.flat_losses(self.model)
        ):
            return True
        return any(internals.mask_of(tensor) is not None for tensor in self.graph.flat_outputs)


class _Writing:
    """The writing of one step: what is known while the slots are gone through."""

    def __init__(self, program: Program, mode: str, data: Any, timed: bool) -> None:
        self.program = program
        self.model = program.model
        self.plan = program.plan
        self.strategy = program.strategy
        self.stages = program.stages
        self.graph = program.graph
        self.model_inputs = {id(symbol) for symbol in program.graph.inputs}
        self.mode = mode
        self.training = mode == "train"
        self.timed = timed
        self.x, self.y, self.sample_weight = internals.unpack(data)
        self.totals = losses.Totals()
        self.state: list[dict[int, tf.Tensor]] = [{} for _ in range(self.plan.replicas)]
        self.first_state: list[dict[int, tf.Tensor]] = []
        self.variables: dict[int, keras.Variable] = {}
        self.places: dict[int, set[int]] = {}
        self.loss_state: dict[int, tf.Tensor] = {}
        self.gradients: dict[tuple[int, int, int], list[Any]] = {}
        self.penalties: dict[int, tf.Tensor] = {}
        self.penalty_tapes: dict[int, tf.GradientTape] = {}
        self.penalty_cotangents: dict[int, list[tf.Tensor]] = {}
        self.last: dict[str, list[tf.Tensor]] = {}
        self.outcome = Outcome(None, None, {}, [], [])
        self.fed: list[list[Any]] = [[] for _ in range(self.plan.replicas)]
        self.begun: list[tf.Tensor] = []

    # ------------------------------------------------------------ the whole step

    def run(self) -> Outcome:
        home = self.strategy.home
        with tf.device(home):
            self.parts = self._cut_the_batch()
        self._read_variables()
        if self.mode != "predict":
            self._compute_penalties()
            if self.program.needs_rehearsal():
                with tf.device(home):
                    self._rehearse()
        slots = self.program.slots
        if not self.training:
            slots = schedules.forward_only(slots)
        for slot in slots:
            for replica in range(self.plan.replicas):
                self._slot(replica, slot)
        self._finish()
        return self.outcome

    def device(self, replica: int, segment: Segment) -> str:
        return self.strategy.device(replica, segment.task)

    @property
    def last_device(self) -> str:
        return self.device(0, self.stages[-1].segments[-1])

    def _cut_the_batch(self) -> list[list[_Part]]:
        """Cuts the batch into microbatches whose sizes differ by one row at most."""
        inputs = internals.functional_inputs(self.model, self.x)
        static = inputs[0].shape[0]
        total: Any = tf.shape(inputs[0])[0] if static is None else static
        count = self.plan.replicas * self.plan.microbatches
        self.total = total
        self.may_be_absent = static is None or static < count
        parts = []
        for replica in range(self.plan.replicas):
            own = []
            for m in range(self.plan.microbatches):
                number = replica * self.plan.microbatches + m
                start, stop = number * total // count, (number + 1) * total // count
                rows = stop - start
                low, high = start, stop
                if self.may_be_absent:
                    # Too few rows for all: one stands in, and counts nothing by its share of 0.
                    low = tf.maximum(tf.minimum(start, total - 1), 0)
                    high = tf.maximum(stop, low + 1)

                def piece(leaf: Any, low: Any = low, high: Any = high) -> Any:
                    return None if leaf is None else leaf[low:high]

                own.append(
                    _Part(
                        inputs=[piece(leaf) for leaf in inputs],
                        x=tf.nest.map_structure(piece, self.x),
                        y=tf.nest.map_structure(piece, self.y),
                        sample_weight=tf.nest.map_structure(piece, self.sample_weight),
                        share=tf.cast(rows / tf.maximum(total, 1), tf.float32),
                        rows=rows,
                    )
                )
            parts.append(own)
        for own in parts:
            for part in own:
                for symbol, value in zip(self.graph.inputs, part.inputs, strict=True):
                    part.values[id(symbol)] = value
        return parts

    def _read_variables(self) -> None:
        """Reads every variable once; replicas beyond the first get copies on their devices."""
        for stage in self.stages:
            for segment in stage.segments:
                for variable in segment.variables:
                    self.variables[id(variable)] = variable
                    self.places.setdefault(id(variable), set()).add(segment.task)
        for replica, state in enumerate(self.state):
            for key, variable in self.variables.items():
                with tf.device(variable.value.device):
                    value = tf.convert_to_tensor(self.state[0].get(key, variable.value))
                tasks = self.places[key]
                if replica and len(tasks) == 1:
                    with tf.device(self.strategy.device(replica, min(tasks))):
                        value = tf.identity(value)
                        if _is_seed(variable):
                            offset = tf.constant(_SEED_STRIDE * replica, tf.int64)
                            value += tf.cast(tf.stack([offset, tf.zeros_like(offset)]), value.dtype)
                state[key] = value
        self.first_state = [dict(state) for state in self.state]
        if self.mode != "predict":
            for metric in self.model.metrics:
                for variable in metric.variables:
                    self.variables.setdefault(id(variable), variable)

    def _compute_penalties(self) -> None:
        """Computes every regularizer's loss once, on its variable's device."""
        for variable in self.model.trainable_weights:
            if variable.regularizer is None:
                continue
            key = id(variable)
            with tf.device(variable.value.device):
                if not self.training:
                    self.penalties[key] = variable.regularizer(self.state[0][key])
                    continue
                with tf.GradientTape(watch_accessed_variables=False) as tape:
                    tape.watch(self.state[0][key])
                    self.penalties[key] = variable.regularizer(self.state[0][key])
                self.penalty_tapes[key] = tape

    def _rehearse(self) -> None:
        """Finds what the loss of the whole batch divides by; TensorFlow drops the rest of it."""
        values = {}
        inputs = internals.functional_inputs(self.model, self.x)
        for symbol, value in zip(self.graph.inputs, inputs, strict=True):
            values[id(symbol)] = value
        mapping = [(self.variables[key], value) for key, value in self.state[0].items()]
        mapping += [
            (v, tf.convert_to_tensor(v.value)) for m in self.model.metrics for v in m.variables
        ]
        with keras.StatelessScope(state_mapping=mapping, collect_losses=True) as scope:
            for piece in self.graph.pieces:
                outputs = internals.call_node(piece.node, values, self.training)
                for symbol, value in zip(piece.outputs, outputs, strict=True):
                    values[id(symbol)] = value
            scope.losses = []
            predicted = self._structured(values)
            with losses.rehearsal(self.totals):
                self._compute_loss(self.x, self.y, predicted, self.sample_weight, [])

    # ------------------------------------------------------------ slots

    def _slot(self, replica: int, slot: Slot) -> None:
        stage = self.stages[slot.stage]
        part = self.parts[replica][slot.microbatch]
        self.begun = []
        forward = slot.direction == "forward"
        after = (self._forward if forward else self._backward)(replica, stage, part)
        if forward and slot.stage == 0:
            self.fed[replica].append(after[:1])
        if self.timed and self.begun:
            devices = list(dict.fromkeys(self.device(replica, s) for s in stage.segments))
            with tf.device(devices[0]), tf.control_dependencies(after):
                end = tf.timestamp()
            self.outcome.times.append((self.begun[0], end))
            self.outcome.slots.append((replica, slot))
            for device in devices:
                self._ended(replica, device, [end])

    def _before(self, replica: int, device: str) -> list[Any]:
        """What a device has to do first: it does one thing after the other."""
        return self.last.get(self._chain(replica, device), [])

    def _ended(self, replica: int, device: str, after: Sequence[Any]) -> None:
        done = [tensor for tensor in after if tensor is not None]
        if done:
            self.last[self._chain(replica, device)] = done

    def _chain(self, replica: int, device: str) -> str:
        """Under "sequential" all devices of a replica do one thing after the other."""
        return f"replica {replica}" if self.plan.schedule == "sequential" else device

    def _begin(self, device: str, before: Sequence[Any], needs: Sequence[Any]) -> tf.Tensor:
        """What a segment's work waits for: its turn, and that all it needs has arrived.

        So it begins as a whole, and what the device has to send goes out before. It is a time
        stamp, an operation that TensorFlow leaves where it is.
        """
        arrived = tf.nest.flatten(list(needs), expand_composites=True)
        with tf.device(device), tf.control_dependencies([*before, *arrived]):
            begin = tf.timestamp()
        self.begun.append(begin)
        return begin

    def _forward(self, replica: int, stage: Stage, part: _Part) -> list[Any]:
        after: list[Any] = []
        for segment in stage.segments:
            device = self.device(replica, segment)
            with tf.device(device):
                given = [_again(self._value(replica, part, s)) for s in segment.inputs]
            begin = self._begin(device, self._before(replica, device), given)
            state = {id(v): self.state[replica][id(v)] for v in segment.variables}
            keep = self.training and not self.plan.recompute
            with tf.device(device), tf.control_dependencies([begin]):
                ran = self._run_segment(segment, given, state, keep)
            for symbol, value in zip(segment.outputs, ran.outputs, strict=True):
                part.values[id(symbol)] = value
            for i, loss in enumerate(ran.added):
                part.added[segment, i] = loss
            part.tapes[segment] = (ran if keep else None, given, state)
            if self.training:
                for key, value in ran.state.items():
                    old = self.state[replica][key]
                    if value is not old and self.may_be_absent:
                        with tf.device(device):
                            value = tf.where(part.share > 0, value, old)
                    self.state[replica][key] = value
            after += ran.outputs
            self._ended(replica, device, ran.outputs)
        if stage is self.stages[-1] and self.mode != "predict":
            device = self.device(replica, stage.segments[-1])
            with tf.device(device), tf.control_dependencies(self._before(replica, device)):
                self._loss(replica, part)
            after.append(part.loss)
            self._ended(replica, device, [part.loss])
        return after

    def _value(self, replica: int, part: _Part, symbol: Any) -> Any:
        """What a segment takes; an input of the model leaves the chief only when its turn is near.

        All at once they would stand in the way of what the first stage has to hand on.
        """
        value = part.values[id(symbol)]
        if id(symbol) not in self.model_inputs:
            return value
        ahead = self.fed[replica][-_FED_AHEAD:]
        if len(ahead) < _FED_AHEAD:
            return value
        with tf.device(self.strategy.home), tf.control_dependencies(ahead[0]):
            return _again(value)

    def _run_segment(
        self, segment: Segment, given: list[Any], state: dict[int, tf.Tensor], keep: bool
    ) -> _Ran:
        trainable = {id(v): v for v in self.model.trainable_weights}
        sources = [value for value in given if _is_float(value)]
        keys = [key for key in state if key in trainable]
        tape = tf.GradientTape(watch_accessed_variables=False) if keep else None
        values = {id(symbol): v for symbol, v in zip(segment.inputs, given, strict=True)}
        mapping = [(self.variables[key], value) for key, value in state.items()]
        with keras.StatelessScope(state_mapping=mapping, collect_losses=True) as scope:
            if tape is not None:
                tape.__enter__()
                for value in [*sources, *(state[key] for key in keys)]:
                    tape.watch(value)
            try:
                for piece in segment.pieces:
                    outputs = internals.call_node(piece.node, values, self.training)
                    for symbol, value in zip(piece.outputs, outputs, strict=True):
                        values[id(symbol)] = value
            finally:
                if tape is not None:
                    tape.__exit__(None, None, None)
            changed = {key: scope.get_current_value(self.variables[key]) for key in state}
            added = list(scope.losses)
        kept = {key: changed[key] for key in state if key not in trainable}
        return _Ran(
            outputs=[values[id(symbol)] for symbol in segment.outputs],
            state=kept,
            added=added,
            tape=tape,
            keys=keys,
        )

    def _loss(self, replica: int, part: _Part) -> None:
        """Computes a microbatch's loss, and its gradients for what it is computed from."""
        watched = self._seen_by_the_loss(part)
        added = list(part.added.values())
        penalties = {key: tf.identity(value) for key, value in self.penalties.items()}
        metrics = {id(v): v for m in self.model.metrics for v in m.variables}
        mapping = [
            (v, self.loss_state.get(key, tf.convert_to_tensor(v.value)))
            for key, v in metrics.items()
        ]
        tape = tf.GradientTape(watch_accessed_variables=False, persistent=False)
        sources = [*watched.values(), *added, *penalties.values()]
        with (
            keras.StatelessScope(state_mapping=mapping, collect_losses=True) as scope,
            losses.microbatch(part.share, self.totals),
            tape,
        ):
            tape.watch(sources)
            predicted = self._structured(part.values)
            extra = [*added, *penalties.values()]
            loss = self._compute_loss(part.x, part.y, predicted, part.sample_weight, extra)
            part.loss = loss * tf.cast(part.share, loss.dtype)
            objective = part.loss
            if self.training:
                objective = self.model.optimizer.scale_loss(loss)
                objective *= tf.cast(part.share, objective.dtype)
        for key, variable in metrics.items():
            value = scope.get_current_value(variable)
            if self.may_be_absent:
                old = self.loss_state.get(key, tf.convert_to_tensor(variable.value))
                value = tf.where(part.share > 0, value, old)
            self.loss_state[key] = value
        del replica
        part.tapes["loss"] = (
            tape,
            objective,
            sources,
            list(watched),
            list(part.added),
            list(penalties),
        )

    def _seen_by_the_loss(self, part: _Part) -> dict[Any, Any]:
        """The outputs, and the logits before a last softmax: Keras' losses look for them."""
        seen: dict[Any, Any] = {}
        for symbol in self.graph.flat_outputs:
            value = part.values[id(symbol)]
            if not _is_float(value):
                continue
            seen[id(symbol)] = value
            logits = internals.logits_of(value)
            if logits is not None:
                seen["logits", id(symbol)] = logits
        return seen

    def _compute_loss(
        self, x: Any, y: Any, predicted: Any, sample_weight: Any, added: list[Any]
    ) -> tf.Tensor:
        return internals.compute_loss(
            self.model, x, y, predicted, sample_weight, added, self.training
        )

    def _backward(self, replica: int, stage: Stage, part: _Part) -> list[Any]:
        after: list[Any] = []
        if stage is self.stages[-1]:
            tape, objective, sources, watched, added, penalties = part.tapes.pop("loss")
            device = self.device(replica, stage.segments[-1])
            with tf.device(device), tf.control_dependencies(self._before(replica, device)):
                found = tape.gradient(objective, sources)
            for key, cotangent in zip(watched, found[: len(watched)], strict=True):
                if cotangent is not None:
                    part.cotangents.setdefault(key, []).append(cotangent)
            for key, cotangent in zip(added, found[len(watched) :], strict=False):
                if cotangent is not None:
                    part.cotangents.setdefault(key, []).append(cotangent)
            for key, cotangent in zip(penalties, found[len(watched) + len(added) :], strict=True):
                if cotangent is not None:
                    self.penalty_cotangents.setdefault(key, []).append(cotangent)
        for segment in reversed(stage.segments):
            own = self._backward_of(replica, stage, segment, part)
            self._ended(replica, self.device(replica, segment), own)
            after += own
        return after

    def _backward_of(self, replica: int, stage: Stage, segment: Segment, part: _Part) -> list[Any]:
        ran, given, state = part.tapes.pop(segment)
        device = self.device(replica, segment)
        wanted: list[Any] = [id(symbol) for symbol in segment.outputs]
        wanted += [("logits", key) for key in wanted]
        wanted += [key for key in part.added if key[0] is segment]
        with tf.device(device):
            came = {
                key: tf.nest.map_structure(tf.identity, found, expand_composites=True)
                for key in wanted
                if (found := part.cotangents.get(key))
            }
        if not came:
            return []
        begin = self._begin(device, self._before(replica, device), list(came.values()))
        with tf.device(device), tf.control_dependencies([begin]):
            if ran is None:
                # Only what crossed the border was kept: run the forward again, after the slot
                # before this one.
                given = [_again(value) for value in given]
                state = {key: tf.identity(value) for key, value in state.items()}
                ran = self._run_segment(segment, given, state, keep=True)
            outputs = dict(zip(wanted, ran.outputs, strict=False))
            targets = [self._target(key, outputs, ran, segment) for key in came]
            cotangents = [_total(found) for found in came.values()]
            back_to = [
                (symbol, value)
                for symbol, value in zip(segment.inputs, given, strict=True)
                if _is_float(value) and id(symbol) not in self.model_inputs
            ]
            sources = [value for _, value in back_to]
            found = ran.tape.gradient(
                targets,
                [*sources, *(state[key] for key in ran.keys)],
                output_gradients=cotangents,
            )
            back, own = found[: len(sources)], found[len(sources) :]
            after = [
                leaf for leaf in tf.nest.flatten(back, expand_composites=True) if leaf is not None
            ]
            for key, gradient in zip(ran.keys, own, strict=True):
                if gradient is None:
                    continue
                kept = self.gradients.setdefault((replica, stage.number, key), [])
                kept.append(gradient)
                after += tf.nest.flatten(gradient, expand_composites=True)
                dense = not any(isinstance(g, tf.IndexedSlices) for g in kept)
                if len(kept) >= _SUMMED_AT_ONCE and dense:
                    kept[:] = [tf.add_n(kept)]
                    after.append(kept[0])
        self._hand_back(part, [symbol for symbol, _ in back_to], back)
        return after

    def _target(self, key: Any, outputs: dict[Any, Any], ran: _Ran, segment: Segment) -> Any:
        """What of a segment's forward a cotangent belongs to."""
        if not isinstance(key, tuple):
            return outputs[key]
        kind, which = key
        return ran.added[which] if kind is segment else internals.logits_of(outputs[which])

    def _hand_back(self, part: _Part, symbols: Sequence[Any], found: Sequence[Any]) -> None:
        for symbol, cotangent in zip(symbols, found, strict=True):
            if cotangent is not None:
                part.cotangents.setdefault(id(symbol), []).append(cotangent)

    # ------------------------------------------------------------ the end

    def _finish(self) -> None:
        flat = [part for own in self.parts for part in own]
        with tf.device(self.last_device):
            if self.mode != "predict":
                self.outcome.loss = tf.add_n([part.loss for part in flat])
            leaves = []
            for symbol in self.graph.flat_outputs:
                pieces = [self._real(part.values[id(symbol)], part) for part in flat]
                whole = tf.concat(pieces, 0) if len(pieces) > 1 else pieces[0]
                masks = [internals.mask_of(part.values[id(symbol)]) for part in flat]
                if masks[0] is not None:
                    real = [self._real(m, p) for m, p in zip(masks, flat, strict=True)]
                    internals.set_mask(whole, tf.concat(real, 0))
                leaves.append(whole)
            self.outcome.outputs = keras.tree.pack_sequence_as(self.graph.outputs, leaves)
        if self.training:
            self._sum_gradients()
            self._assign_state()
        for key, value in self.loss_state.items():
            self._assign(self.variables[key], value)

    def _real(self, value: Any, part: _Part) -> Any:
        return value[: part.rows] if self.may_be_absent else value

    def _sum_gradients(self) -> None:
        by_variable: dict[int, list[Any]] = {}
        for (replica, stage, key), found in self.gradients.items():
            segment = next(
                s for s in self.stages[stage].segments if key in {id(v) for v in s.variables}
            )
            with tf.device(self.device(replica, segment)):
                by_variable.setdefault(key, []).append(_total(found))
        for key, cotangents in self.penalty_cotangents.items():
            with tf.device(self.variables[key].value.device):
                penalty = self.penalty_tapes[key].gradient(
                    self.penalties[key], self.state_read(key), output_gradients=_total(cotangents)
                )
                if penalty is not None:
                    by_variable.setdefault(key, []).append(penalty)
        for key, found in by_variable.items():
            with tf.device(self.variables[key].value.device):
                self.outcome.gradients[key] = _total(found)

    def state_read(self, key: int) -> tf.Tensor:
        """The value that a variable had at the step's beginning."""
        return self.first_state[0][key]

    def _assign_state(self) -> None:
        """Writes what the layers wrote; over replicas the mean of what is no integer."""
        for key, first in self.first_state[0].items():
            variable = self.variables[key]
            if all(
                state[key] is begun[key]
                for state, begun in zip(self.state, self.first_state, strict=True)
            ):
                continue
            with tf.device(variable.value.device):
                value = self.state[0][key]
                if len(self.state) > 1 and first.dtype.is_floating:
                    value = tf.add_n([state[key] for state in self.state]) / len(self.state)
            self._assign(variable, value)

    def _assign(self, variable: keras.Variable, value: Any) -> None:
        with tf.device(variable.value.device):
            variable.assign(value)

    def _structured(self, values: dict[int, Any]) -> Any:
        leaves = [values[id(symbol)] for symbol in self.graph.flat_outputs]
        return keras.tree.pack_sequence_as(self.graph.outputs, leaves)


def _is_float(value: Any) -> bool:
    dtype = tf.as_dtype(value.dtype)
    return bool(dtype.is_floating or dtype.is_complex)


def _is_seed(variable: keras.Variable) -> bool:
    return variable.name == "seed_generator_state"


def _again(value: Any) -> Any:
    """The same tensor under another name, with its mask."""
    copy = tf.identity(value)
    mask = internals.mask_of(value)
    if mask is not None:
        internals.set_mask(copy, mask)
    return copy


def _total(found: Sequence[Any]) -> Any:
    """The sum of gradients; sparse ones stay sparse where all are."""
    if len(found) == 1:
        return found[0]
    sparse = [g for g in found if isinstance(g, tf.IndexedSlices)]
    if len(sparse) == len(found):
        return tf.IndexedSlices(
            tf.concat([g.values for g in sparse], 0),
            tf.concat([g.indices for g in sparse], 0),
            sparse[0].dense_shape,
        )
    return tf.add_n([tf.convert_to_tensor(g) for g in found])
