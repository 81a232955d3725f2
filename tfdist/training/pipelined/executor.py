"""One step of a pipeline as a TensorFlow program, written slot by slot.

Each (stage, microbatch) runs its forward with a tape of its own, and its backward by that tape and
the gradients that the next stages sent back; `Ordering` says what begins after what.

The step is functional: variables are read once, at its beginning; what layers write is assigned at
the end (`State`). So the forward can be run again in the backward (`recompute`) and draws the same
random numbers.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import keras
import tensorflow as tf

from tfdist.compat import keras_data, keras_layers, keras_trainer
from tfdist.schedules import schedule as schedules
from tfdist.schedules.schedule import Slot
from tfdist.strategies.pipeline_strategy import PipelineStrategy
from tfdist.structures import Nest
from tfdist.training.mode import Mode
from tfdist.training.pipelined.gradient_sums import Gradients, Penalties, total
from tfdist.training.pipelined.layer_graph import Graph, Segment, Stage
from tfdist.training.pipelined.microbatch import Key, MicrobatchRows, Outcome, Part, again, is_float
from tfdist.training.pipelined.ordering import Ordering
from tfdist.training.pipelined.segment import run_segment, target
from tfdist.training.pipelined.variable_values import State, assign, copies
from tfdist.training.pipelined.weight_gradients import leave, run_later
from tfdist.training.replica import part_losses as losses

__all__ = ["Executor", "StepWriting"]


class Executor:
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
        self.slots = self.plan.slots()
        self.split = any(slot.direction == "weights" for slot in self.slots)

    def run(self, mode: Mode, data: Nest, timed: bool = False) -> Outcome:
        """Writes one step.

        Args:
            mode: "train", "test" or "predict".
            data: the batch, `(x,)`, `(x, y)` or `(x, y, sample_weight)`.
            timed: whether to note when each slot begins and ends.
        """
        return StepWriting(self, mode, data, timed).run()

    def last(self, replica: int = 0) -> str:
        """The device of a replica's last stage, where its outputs are."""
        return self.strategy.device(replica, self.stages[-1].segments[-1].task)

    def needs_rehearsal(self) -> bool:
        """Whether a loss divides by something of the whole batch that no microbatch knows."""
        if any(
            getattr(loss, "reduction", None) == "mean_with_sample_weight"
            for loss in keras_trainer.flat_losses(self.model)
        ):
            return True
        return any(keras_layers.mask_of(tensor) is not None for tensor in self.graph.flat_outputs)


class StepWriting:
    """The writing of one step: what is known while the slots are gone through.

    Args:
        program: whose step it is.
        mode: "train", "test" or "predict", which has no loss.
        data: the batch, as for `Executor.run`.
        timed: whether to note when each slot begins and ends.
    """

    def __init__(self, program: Executor, mode: Mode, data: Nest, timed: bool) -> None:
        self.program = program
        self.model = program.model
        self.plan = program.plan
        self.strategy = program.strategy
        self.stages = program.stages
        self.graph = program.graph
        self.model_inputs = {id(symbol) for symbol in program.graph.inputs}
        self.not_wanted = self.model_inputs  # nobody asks for their gradients
        self.model_outputs = {id(symbol) for symbol in program.graph.flat_outputs}
        self.mode = mode
        self.training = self.changes_state = mode == "train"
        self.keeps = self.training and not program.plan.recompute
        self.timed = timed
        self.x, self.y, self.sample_weight = keras_data.unpack(data)
        self.totals = losses.Totals()
        self.turns = Ordering(program.strategy, program.stages)
        self.gradients = Gradients(program.strategy, program.stages)
        self.loss_state: dict[int, tf.Tensor] = {}
        self.outcome = Outcome(None, None, {}, [], [])

    # ------------------------------------------------------------ the whole step

    def run(self) -> Outcome:
        """Writes the whole step, as Keras takes it."""
        home = self.strategy.home
        with tf.device(home):
            inputs = keras_layers.functional_inputs(self.model, self.x)
            self.parts = self.cut_the_batch(inputs)
        self.state = State(self.strategy, self.stages)
        weights = self.model.trainable_weights if self.mode != "predict" else []
        self.penalties = Penalties(weights, self.state.now[0])
        if self.mode != "predict" and self.program.needs_rehearsal():
            with tf.device(home):
                self._rehearse()
        slots = self.program.slots
        if not self.training:
            slots = schedules.forward_only(slots, self.plan.placement)
        self.write(slots)
        self._finish()
        return self.outcome

    def write(self, slots: Sequence[Slot]) -> None:
        """Writes some slots of a schedule, in all replicas."""
        for together in schedules.in_one_go(slots, self.plan.placement):
            for replica in range(self.plan.replicas):
                self._slots(replica, together)

    def cut_the_batch(self, inputs: list[tf.Tensor]) -> list[list[Part]]:
        """Returns the microbatches of each replica, given the model's inputs."""
        each = self.plan.microbatches
        self.rows = MicrobatchRows(inputs, self.plan.replicas * each)
        parts = []
        for replica in range(self.plan.replicas):
            numbers = range(replica * each, (replica + 1) * each)
            batch = (inputs, self.x, self.y, self.sample_weight)
            parts.append(
                [self.rows.part(number, *batch, self.program.last(replica)) for number in numbers]
            )
        for own in parts:
            for part in own:
                for symbol, value in zip(self.graph.inputs, part.inputs, strict=True):
                    part.values[id(symbol)] = value
        return parts

    def _rehearse(self) -> None:
        """Finds what the loss of the whole batch divides by; TensorFlow drops the rest of it."""
        inputs = keras_layers.functional_inputs(self.model, self.x)
        values = dict(zip(map(id, self.graph.inputs), inputs, strict=True))
        known = self.state.variables
        mapping = [(known[key], value) for key, value in self.state.now[0].items()]
        mapping += [
            (v, tf.convert_to_tensor(v.value)) for m in self.model.metrics for v in m.variables
        ]
        with keras.StatelessScope(state_mapping=mapping, collect_losses=True) as scope:
            for piece in self.graph.pieces:
                outputs = keras_layers.call_node(piece.node, values, self.training)
                for symbol, value in zip(piece.outputs, outputs, strict=True):
                    values[id(symbol)] = value
            scope.losses = []
            predicted = self._structured(values)
            with losses.part_of_batch(None, self.totals):
                self._compute_loss(self.x, self.y, predicted, self.sample_weight, [])

    # ------------------------------------------------------------ slots

    def _slots(self, replica: int, slots: tuple[Slot, ...]) -> None:
        stage, direction = self.stages[slots[0].stage], slots[0].direction
        parts = [self.parts[replica][slot.microbatch] for slot in slots]
        self.turns.begun = []
        if direction == "weights":
            after = self._weights(replica, stage, parts)
        else:
            [part] = parts
            work = self._forward if direction == "forward" else self._backward
            after = work(replica, stage, part)
        if direction == "forward" and not stage.number:
            self.turns.took(replica, after[:1])
        if self.timed and self.turns.begun:
            devices = list(dict.fromkeys(self.turns.device(replica, s) for s in stage.segments))
            with tf.device(devices[0]), tf.control_dependencies(after):
                end = tf.timestamp()
            self.outcome.times.append((self.turns.begun[0], end))
            self.outcome.slots.append((replica, slots))
            for device in devices:
                self.turns.ended(replica, device, [*self.turns.before(replica, device), end])

    def _forward(self, replica: int, stage: Stage, part: Part) -> list[tf.Tensor]:
        after: list[tf.Tensor] = []
        now = self.state.now[replica]
        has_loss = stage is self.stages[-1] and self.mode != "predict"
        before_loss = stage.segments[-1] if has_loss else None
        for segment in stage.segments:
            device = self.turns.device(replica, segment)
            with tf.device(device):
                given = [again(self._value(replica, part, s)) for s in segment.inputs]
            begin = self.turns.begin(replica, device, given)
            state = self.state.of(replica, segment)
            with tf.device(device), tf.control_dependencies([begin]):
                # These wait, as `done` below is waited for, in place of a layer's own operations:
                # TensorFlow makes one of a product, its bias and activation unless they do.
                given = [again(value) for value in given]
                ran = run_segment(self.model, segment, given, state, self.training, self.keeps)
            with tf.device(device):
                done = [self._done(s, v) for s, v in zip(segment.outputs, ran.outputs, strict=True)]
            for symbol, value in zip(segment.outputs, done, strict=True):
                part.values[id(symbol)] = value
            for i, loss in enumerate(ran.added):
                part.added[segment, i] = loss
            part.tapes[segment] = (ran if self.keeps else None, given, state)
            if self.changes_state:
                for key, value in ran.state.items():
                    with tf.device(device):
                        now[key] = self.rows.unless_absent(part, value, now[key])
            if segment is not before_loss:
                after += done
                self.turns.ended(replica, device, done)
        if before_loss is not None:  # they are of one turn, which ends with the loss
            device = self.turns.device(replica, before_loss)
            with tf.device(device), tf.control_dependencies(self.turns.before(replica, device)):
                self._loss(part)
            after.append(part.loss)
            self.turns.ended(replica, device, [part.loss])
        return after

    def _value(self, replica: int, part: Part, symbol: keras.KerasTensor) -> tf.Tensor:
        value = part.values[id(symbol)]
        return self.turns.feed(replica, value) if id(symbol) in self.model_inputs else value

    def _done(self, symbol: keras.KerasTensor, value: tf.Tensor) -> tf.Tensor:
        """What a segment hands on; Keras' losses look at what the model's outputs come from."""
        return value if id(symbol) in self.model_outputs else again(value)

    def _loss(self, part: Part) -> None:
        """Computes a microbatch's loss, and notes what it is computed from."""
        watched = part.seen_by_the_loss(self.graph.flat_outputs)
        added = dict(part.added)
        penalties = {key: tf.identity(value) for key, value in self.penalties.losses.items()}
        metrics = {id(v): v for m in self.model.metrics for v in m.variables}
        mapping = [
            (v, self.loss_state.get(key, tf.convert_to_tensor(v.value)))
            for key, v in metrics.items()
        ]
        tape = tf.GradientTape(watch_accessed_variables=False)
        with (
            keras.StatelessScope(state_mapping=mapping, collect_losses=True) as scope,
            losses.part_of_batch(part.share, self.totals, part.with_rows(watched.values())),
            tape,
        ):
            tape.watch([*watched.values(), *added.values(), *penalties.values()])
            predicted = self._structured(part.values)
            extra = [*added.values(), *penalties.values()]
            loss = self._compute_loss(part.x, part.y, predicted, part.sample_weight, extra)
            objective = part.loss = losses.weighed(loss)
            if self.training:
                objective = losses.weighed(self.model.optimizer.scale_loss(loss))
        for (key, variable), (_, old) in zip(metrics.items(), mapping, strict=True):
            value = scope.get_current_value(variable)
            self.loss_state[key] = self.rows.unless_absent(part, value, old)
        part.tapes["loss"] = (tape, objective, watched | added, penalties)

    def _compute_loss(
        self, x: Nest, y: Nest, predicted: Nest, sample_weight: Nest, added: list[tf.Tensor]
    ) -> tf.Tensor:
        return keras_trainer.compute_loss(
            self.model, x, y, predicted, sample_weight, added, self.training
        )

    def _backward(self, replica: int, stage: Stage, part: Part) -> list[tf.Tensor]:
        after: list[tf.Tensor] = []
        if "loss" in part.tapes:
            tape, objective, watched, penalties = part.tapes.pop("loss")
            device = self.program.last(replica)
            with tf.device(device), tf.control_dependencies(self.turns.before(replica, device)):
                back, own = tape.gradient(objective, (list(watched.values()), penalties))
            part.give_back(list(watched), back)
            for key, cotangent in own.items():
                self.penalties.give_back(key, cotangent)
        for segment in reversed(stage.segments):
            own = self._backward_of(replica, stage, segment, part)
            self.turns.ended(replica, self.turns.device(replica, segment), own)
            after += own
        return after

    def _backward_of(
        self, replica: int, stage: Stage, segment: Segment, part: Part
    ) -> list[tf.Tensor]:
        ran, given, state = part.tapes[segment]
        part.tapes[segment] = (None, given, state)  # a tape tells once: asked again, it runs again
        device = self.turns.device(replica, segment)
        outputs = [id(symbol) for symbol in segment.outputs]
        wanted: list[Key] = [*outputs, *(("logits", key) for key in outputs)]
        wanted += [key for key in part.added if key[0] is segment]
        with tf.device(device):
            came = {
                key: tf.nest.map_structure(tf.identity, found, expand_composites=True)
                for key in wanted
                if (found := part.cotangents.get(key))
            }
        if not came:
            return []
        begin = self.turns.begin(replica, device, list(came.values()))
        with tf.device(device), tf.control_dependencies([begin]):
            if ran is None:
                # Only what crossed the border was kept: run the forward again, after the slot
                # before this one.
                given = [again(value) for value in given]
                state = copies(state)
                ran = run_segment(self.model, segment, given, state, self.training, keep=True)
            values = dict(zip(outputs, ran.outputs, strict=True))
            targets = [target(key, values, ran, segment) for key in came]
            cotangents = [total(found) for found in came.values()]
            back_to = [
                (symbol, value)
                for symbol, value in zip(segment.inputs, given, strict=True)
                if is_float(value) and id(symbol) not in self.not_wanted
            ]
            graph = tf.compat.v1.get_default_graph()
            known = len(graph.get_operations())
            back, own = ran.tape.gradient(
                targets,
                ([value for _, value in back_to], [state[key] for key in ran.keys]),
                output_gradients=cotangents,
            )
            symbols = [symbol for symbol, _ in back_to]
            gradients = {k: g for k, g in zip(ran.keys, own, strict=True) if g is not None}
            self.gradients.see(gradients, part.rows)
            found = [value for value in back if value is not None]
            after = list(tf.nest.flatten(found, expand_composites=True))
            if self.program.split:
                made = graph.get_operations()[known:]
                part.later[segment], after = leave(gradients, after, made)
            else:
                for key, gradient in gradients.items():
                    after += self.gradients.add(replica, stage.number, key, gradient)
        part.give_back([id(symbol) for symbol in symbols], back)
        return after

    def _weights(self, replica: int, stage: Stage, parts: list[Part]) -> list[tf.Tensor]:
        """Computes what the backwards of some microbatches have left."""
        after: list[tf.Tensor] = []
        for segment in reversed(stage.segments):
            left = [part.later.pop(segment) for part in parts if segment in part.later]
            if not left:
                continue
            device = self.turns.device(replica, segment)
            begin = self.turns.begin(replica, device, [])
            add = functools.partial(self.gradients.add, replica, stage.number)
            own = run_later(left, begin, device, add)
            self.turns.ended(replica, device, own)
            after += own
        return after

    # ------------------------------------------------------------ the end

    def _finish(self) -> None:
        flat = [part for own in self.parts for part in own]
        with tf.device(self.program.last()):
            if self.mode != "predict":
                self.outcome.loss = tf.add_n([part.loss for part in flat])
            leaves = []
            for symbol in self.graph.flat_outputs:
                values = [part.values[id(symbol)] for part in flat]
                leaves.append(whole := self.joined(values))
                self.join_masks(whole, values)
            self.outcome.outputs = keras.tree.pack_sequence_as(self.graph.outputs, leaves)
        if self.training:
            self.outcome.gradients = self.gradients.sums(self.state.variables, self.penalties)
            self.state.assign()
        for metric in self.model.metrics if self.mode != "predict" else []:
            for variable in metric.variables:
                if id(variable) in self.loss_state:
                    assign(variable, self.loss_state[id(variable)])

    def joined(self, values: Sequence[tf.Tensor]) -> tf.Tensor:
        """One value of all microbatches as that of the batch."""
        flat = [part for own in self.parts for part in own]
        real = [self.rows.real(value, part) for value, part in zip(values, flat, strict=True)]
        return tf.concat(real, 0) if len(real) > 1 else real[0]

    def join_masks(self, whole: tf.Tensor, values: Sequence[tf.Tensor]) -> None:
        """Gives a batch's value the masks of its microbatches'."""
        masks = [keras_layers.mask_of(value) for value in values]
        if masks[0] is not None:
            keras_layers.set_mask(whole, self.joined(masks))

    def _structured(self, values: dict[int, tf.Tensor]) -> Nest:
        leaves = [values[id(symbol)] for symbol in self.graph.flat_outputs]
        return keras.tree.pack_sequence_as(self.graph.outputs, leaves)
