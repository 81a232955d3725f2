"""All optimizers of a model, their slots shared out over the replicas.

Gradients that go from the tape to an optimizer as they are, Keras' own `train_step` among them, are
summed where the optimizer applies them, each share on its replica alone. That nobody looks at them
before is seen when the step is traced; where somebody does (clips them by their norm, say), it is
traced again, and they are summed for all replicas as ever: then a step sends half as much again.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections import ChainMap
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from tfdist import log
from tfdist.compat import keras_layers, tf_graphs
from tfdist.errors import PlugError
from tfdist.strategies.layout import ReplicaLayout
from tfdist.structures import Gradient, Variable
from tfdist.training.model_parts import optimizers_of
from tfdist.training.replica import ReplicaStep, one_machine_semantics
from tfdist.training.slot_shards import whole_slots
from tfdist.training.slot_shards.cut import Cut
from tfdist.training.slot_shards.sharded_optimizer import ShardedOptimizer
from tfdist.training.slot_shards.slot_transport import SlotTransport
from tfdist.training.slot_shards.whole_slots import WholeSlots
from tfdist.training.tracing import traced

__all__ = ["ShardedSlots"]

_KEPT = "_tfdist_shares"


class ShardedSlots:
    """The optimizers of one model, whose replicas keep and update shares.

    Args:
        model: the model; before its optimizers are built, if nothing is ever to be whole.
        strategy: in whose scope it was made, of several replicas.
        layout: these.

    Attributes:
        by_value: the variables that hold shares, by identity; it grows as optimizers are built.
    """

    def __init__(
        self, model: keras.Model, strategy: tf.distribute.Strategy, layout: ReplicaLayout
    ) -> None:
        self._model = model
        self._strategy = strategy
        self._layout = layout
        self._optimizers: dict[int, ShardedOptimizer] = {}
        self.by_value: ChainMap[int, tf.Variable] = ChainMap()
        self._transport = SlotTransport(strategy, layout)
        self._sums_for_all = False
        self._told = False

    def adopt(self) -> None:
        """Has the optimizers that the model has now keep shares, and forgets those it had.

        Raises:
            PlugError: one of them cannot.
        """
        if self._model.run_eagerly and self._layout.local > 1:
            raise PlugError(
                f"run_eagerly with shard_optimizer where this process has {self._layout.local} "
                "devices: they would wait for one another, as one after the other takes its step; "
                "leave one of the two out"
            )
        found = {}
        for optimizer in optimizers_of(self._model):
            kept = vars(optimizer).get(_KEPT)
            if kept is None:
                kept = ShardedOptimizer(
                    optimizer, self._strategy, self._layout, self._is_table, self._on_replicas
                )
                object.__setattr__(optimizer, _KEPT, kept)
            found[id(optimizer)] = kept
        self._optimizers = found
        self.by_value.maps[:] = [one.by_value for one in found.values()] or [{}]

    def _is_table(self, variable: keras.Variable) -> bool:
        layers = keras_layers.all_layers(self._model)
        tables = [one for one in layers if isinstance(one, keras.layers.Embedding)]
        return any(variable is own for table in tables for own in table.variables)

    def _on_replicas(self, function: Callable[[], None]) -> None:
        def run() -> None:
            with one_machine_semantics(self._strategy):
                self._strategy.run(function)

        traced(run)()

    def tell_sizes(self) -> None:
        """Says once how much memory the slots take."""
        if self._told or not self._layout.is_chief or not self.by_value:
            return
        self._told = True
        sizes = [(tf.as_dtype(slot.dtype).size, cut) for slot, cut in self._slots]
        log.info(
            "optimizer slots: %.3g MB, %.3g MB on each of %d replicas",
            sum(size * math.prod(cut.shape) for size, cut in sizes) / 1e6,
            sum(size * cut.numbers for size, cut in sizes) / 1e6,
            self._layout.replicas,
        )

    @property
    def _slots(self) -> list[tuple[keras.Variable, Cut]]:
        return [slot for one in self._optimizers.values() for slot in one.slots.values()]

    # ------------------------------------------------------------ in a step; see `Shares`

    def has(self, optimizer: keras.optimizers.Optimizer) -> bool:
        """Whether an optimizer keeps shares."""
        return id(optimizer) in self._optimizers

    def variables(self, optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
        """The variables that it was built for."""
        return self._optimizers[id(optimizer)].variables

    def waits(self, step: ReplicaStep, gradient: Gradient, variable: Variable) -> bool:
        """Whether a gradient is summed where it is applied; see `Shares`."""
        return (
            not self._sums_for_all
            and step.lockstep is None
            and isinstance(gradient, tf.Tensor)
            and tf_graphs.is_symbolic(gradient)
            and any(one.trains(variable) for one in self._optimizers.values())
        )

    def show_sums(self) -> None:
        """From now on, gradients are summed for all replicas before anybody sees them."""
        self._sums_for_all = True

    def apply(
        self,
        step: ReplicaStep,
        optimizer: keras.optimizers.Optimizer,
        apply: Callable[..., object],
        gradients: Sequence[Gradient | None],
        variables: Sequence[Variable],
    ) -> object:
        """Has one of the optimizers apply gradients; see `Shares`."""
        if tf_graphs.in_control_flow():
            raise PlugError(
                "an optimizer's apply in a tf.cond or a loop within a step, with shard_optimizer: "
                "its replicas meet in it, which some might not come to; move it out, or leave "
                "shard_optimizer out"
            )
        kept = self._optimizers[id(optimizer)]
        if not all(map(kept.trains, variables)):
            return apply(optimizer, gradients, variables)  # Keras says which it does not know
        parts = {}
        for place, gradient in enumerate(gradients):
            if (waiting := step.waiting.get(id(gradient))) is not None:
                waiting.applied = True
                parts[place] = waiting.part
        return kept.apply(apply, gradients, variables, parts, step.lockstep is not None)

    # ------------------------------------------------------------ files

    @contextlib.contextmanager
    def gathered(self, keep: bool) -> Iterator[None]:
        """Shows this thread whole slots; every worker must enter it together.

        Args:
            keep: whether this worker wants them; it takes part anyway.
        """
        if whole_slots.current() is not None:
            yield
            return
        with whole_slots.shown(self._gather(keep)):
            yield

    def _gather(self, keep: bool) -> WholeSlots:
        found: dict[int, np.ndarray] = {}
        for dtype in dict.fromkeys(slot.dtype for slot, _ in self._slots):
            slots = [(slot, cut) for slot, cut in self._slots if slot.dtype == dtype]
            tables = self._tables(slots, tf.as_dtype(dtype).as_numpy_dtype, keep)
            for (slot, cut), table in zip(slots, tables, strict=bool(tables)):
                found[id(slot)] = cut.whole(table)
        return found

    def _tables(
        self, slots: Sequence[tuple[keras.Variable, Cut]], kind: np.dtype, keep: bool
    ) -> list[np.ndarray]:
        """Returns all replicas' shares of slots of one type, `[replicas, numbers]`, if kept."""
        if self._layout.workers == 1:
            return [np.stack(self._own(slot)) for slot, _ in slots]
        replicas = self._layout.replicas
        tables = [np.empty((replicas, cut.numbers), kind) for _, cut in slots] if keep else []

        def take(number: int, place: int, shares: np.ndarray) -> None:
            if keep:
                tables[number][:, place : place + shares.shape[1]] = shares

        own = [functools.partial(self._first, slot) for slot, _ in slots]
        self._transport.show(own, [cut.numbers for _, cut in slots], kind, take)
        return tables

    def _first(self, slot: keras.Variable) -> np.ndarray:
        """Returns the share of this process's only replica, flat."""
        return self._own(slot)[0]

    def _own(self, slot: keras.Variable) -> list[np.ndarray]:
        """Returns the shares of this process's replicas, flat."""
        there = self._strategy.experimental_local_results(slot.value)
        return [np.asarray(one).reshape(-1) for one in there]

    def take_the_chiefs(self, all_gather: Callable[[Sequence[float]], np.ndarray]) -> None:
        """Gives every worker its shares of the slots that the chief has loaded, if it has."""
        for one in self._optimizers.values():
            loaded = all_gather([float(len(one.pending))])[0, 0]
            if loaded:
                self._take(one)

    def _take(self, optimizer: ShardedOptimizer) -> None:
        for slot, cut in optimizer.slots.values():
            kind = tf.as_dtype(slot.dtype).as_numpy_dtype
            whole = np.zeros(math.prod(cut.shape), kind)
            loaded = optimizer.pending.pop(id(slot), None)
            own = whole if loaded is None else np.asarray(loaded, kind).reshape(-1)
            take = functools.partial(_of_the_first, whole)
            self._transport.show([functools.partial(np.copy, own)], [len(own)], kind, take)
            optimizer.set_own(slot, whole.reshape(cut.shape))

    def forget_loaded(self) -> None:
        """Lets go of what the chief has loaded, and nobody else is to be given any more."""
        for one in self._optimizers.values():
            one.pending.clear()


def _of_the_first(whole: np.ndarray, number: int, place: int, arrays: np.ndarray) -> None:
    """Puts what the first worker has shown where it belongs."""
    del number
    whole[place : place + arrays.shape[1]] = arrays[0]
