"""One Keras optimizer whose slots are shares, and which updates shares of the variables.

It is built for a stand-in of each variable, of the shape of a share (`Cut`): so all that it makes
for a variable, slots, moving averages and sums of gradients, is as large as a share from the
beginning, and all that it does to a number it does as ever, by Keras' own code. Only what looks at
a variable as a whole is done here: norms, finiteness, constraints, files.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, MutableMapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from tfdist.compat import keras_optimizers, keras_slots, patches
from tfdist.errors import PlugError
from tfdist.strategies.layout import ReplicaLayout
from tfdist.structures import Gradient
from tfdist.training.replica.local_state import write
from tfdist.training.replica.step import on_numbers
from tfdist.training.slot_shards import whole_slots
from tfdist.training.slot_shards.cut import Cut
from tfdist.training.slot_shards.share_exchange import ShareExchange

__all__ = ["ShardedOptimizer", "Share"]


@dataclasses.dataclass(frozen=True)
class Share:
    """What an optimizer takes for a variable.

    Attributes:
        variable: the variable.
        part: the stand-in.
        cut: how the variable is cut.
    """

    variable: keras.Variable
    part: keras.Variable
    cut: Cut


class ShardedOptimizer:
    """Has an optimizer keep and update shares.

    Args:
        optimizer: built, or not yet; with a `LossScaleOptimizer`, what it has inside is meant, too.
        strategy: in whose scope it was made.
        layout: its replicas.
        is_table: tells of a variable whether its gradients may be sparse.
        on_replicas: runs a function in the context of every replica.

    Attributes:
        optimizer: the same.
        slots: of the variables that it has made for shares, by identity: the variable, and how
            what it is a share of is cut.
        by_value: those that TensorFlow has for them, by identity.
        pending: whole slots that were loaded here, and that other workers have not seen.

    Raises:
        PlugError: it does not update each number by itself, as far as tfdist knows.
    """

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        strategy: tf.distribute.Strategy,
        layout: ReplicaLayout,
        is_table: Callable[[keras.Variable], bool],
        on_replicas: Callable[[Callable[[], None]], None],
    ) -> None:
        self.optimizer = optimizer
        self._base = base = keras_slots.base_of(optimizer)
        if not keras_slots.elementwise(base):
            raise PlugError(
                f"shard_optimizer with {type(base).__name__}, which may look at a variable as a "
                "whole, or at others: a share's update would be another one; take SGD, Adam, "
                "AdamW or another of Keras' elementwise optimizers, or leave shard_optimizer out"
            )
        self._strategy = strategy
        self._layout = layout
        self._is_table = is_table
        self._on_replicas = on_replicas
        self.exchange = ShareExchange(strategy, layout)
        self.slots: dict[int, tuple[keras.Variable, Cut]] = {}
        self.by_value: dict[int, tf.Variable] = {}
        self.pending: dict[int, np.ndarray] = {}
        self._shares: dict[object, Share] = {}
        self._cuts: list[Cut] = []
        self._exact = False
        self._given: list[Gradient] = []
        keras_slots.replace_method(optimizer, "build", self._build)
        for one in {id(one): one for one in (optimizer, base)}.values():
            save, load = functools.partial(self._save, one), functools.partial(self._load, one)
            keras_slots.replace_method(one, "save_own_variables", save)
            keras_slots.replace_method(one, "load_own_variables", load)
        for name, method in (
            ("add_variable_from_reference", self._make_slot),
            ("_clip_gradients", self._clip),
            ("finalize_variable_values", self._finalize),
        ):
            keras_slots.replace_method(base, name, method)
        if base is not optimizer:
            keras_slots.replace_method(optimizer, "check_finite", self._all_finite)
        if optimizer.built:
            self._build_anew()

    # ------------------------------------------------------------ what it is built for

    @property
    def variables(self) -> list[keras.Variable]:
        """Those that it trains, whole."""
        return [share.variable for share in self._shares.values()]

    def trains(self, variable: keras.Variable | tf.Variable) -> bool:
        """Whether it was built for a variable."""
        return keras_slots.key_of(self._base, variable) in self._shares

    def _build(self, variables: Sequence[keras.Variable]) -> None:
        optimizer, base = self.optimizer, self._base
        if optimizer.built:
            return
        for variable in variables:
            if keras_slots.overwrites(variable):
                raise PlugError(
                    f"shard_optimizer with {variable.path!r}, whose gradient is its new value (of "
                    "a float8 layer): leave shard_optimizer out, or take another dtype policy"
                )
            cut = Cut.of(tuple(variable.shape), self._layout.replicas, self._is_table(variable))
            part = keras_slots.make_share(variable, cut.share)
            self._shares[keras_slots.key_of(base, variable)] = Share(variable, part, cut)
        shares = list(self._shares.values())
        for share in shares:
            keras_slots.decay_alike(base, share.part, share.variable)
        type(optimizer).build(optimizer, [share.part for share in shares])

    def _build_anew(self) -> None:
        """Has a built optimizer keep its shares of the slots that it has whole."""
        optimizer = self.optimizer
        values = [np.asarray(v.value) for v in optimizer.variables]
        trained = keras_optimizers.trained_by(self._base)
        keras_slots.forget_slots(optimizer)
        with self._strategy.scope():
            self._build(trained)
        for variable, value in zip(optimizer.variables, values, strict=True):
            self._put(variable, value)

    def _make_slot(
        self, reference_variable: keras.Variable, *args: object, **kwargs: object
    ) -> keras.Variable:
        base = self._base
        slot = type(base).add_variable_from_reference(base, reference_variable, *args, **kwargs)
        (cut,) = (s.cut for s in self._shares.values() if s.part is reference_variable)
        self.slots[id(slot)] = slot, cut
        self.by_value[id(slot.value)] = slot.value
        return slot

    # ------------------------------------------------------------ an update

    def apply(
        self,
        apply: Callable[..., object],
        gradients: Sequence[Gradient | None],
        variables: Sequence[keras.Variable | tf.Variable],
        parts: dict[int, tf.Tensor],
        exact: bool,
    ) -> object:
        """Updates variables; call it in a replica's context, on every replica.

        Args:
            apply: the optimizer's own `apply`, which takes the optimizer first.
            gradients: of the whole batch, the same on all replicas; None where there is none.
            variables: of each.
            parts: of some gradients, by their place, this replica's part of the sum in their stead.
            exact: whether norms are to have the bits that one replica would compute.
        """
        shares = [self._shares[keras_slots.key_of(self._base, v)] for v in variables]
        own = self._own(gradients, shares, parts)
        used = [s for s, gradient in zip(shares, own, strict=True) if gradient is not None]
        self._given = [one for one in gradients if one is not None]
        self._cuts, self._exact = [share.cut for share in used], exact
        if self._base.use_ema:
            used = list(self._shares.values())
        for share in used:
            self._assign(
                share.part, self.exchange.own(tf.convert_to_tensor(share.variable.value), share.cut)
            )
        result = apply(self.optimizer, own, [share.part for share in shares])
        wholes = self.exchange.gathered(
            [_of_shape(share.part, share.cut.share) for share in used],
            [share.cut for share in used],
        )
        for share, whole in zip(used, wholes, strict=True):
            self._assign(share.variable, whole)
            if share.variable.constraint is not None:
                self._assign(share.variable, share.variable.constraint(share.variable))
            self._assign(share.part, tf.zeros([0, *share.cut.share[1:]], whole.dtype))
        return result

    def _own(
        self,
        gradients: Sequence[Gradient | None],
        shares: Sequence[Share],
        parts: dict[int, tf.Tensor],
    ) -> list[Gradient | None]:
        """Returns this replica's shares of the gradients."""
        own: list[Gradient | None] = list(gradients)
        if parts:
            sums = self.exchange.sums(list(parts.values()), [shares[i].cut for i in parts])
            for i, total in zip(parts, sums, strict=True):
                own[i] = total
        for i, (gradient, share) in enumerate(zip(gradients, shares, strict=True)):
            if gradient is None or i in parts:
                continue
            if not isinstance(gradient, tf.IndexedSlices):
                own[i] = self.exchange.own(gradient, share.cut)
            elif share.cut.by_rows:
                own[i] = self.exchange.own_rows(gradient, share.cut)
            else:
                raise PlugError(
                    f"shard_optimizer with a sparse gradient of {share.variable.path!r}, whose "
                    f"{share.cut.shape[0]} rows do not come in {self._layout.replicas} equal "
                    "shares: look it up in a keras.layers.Embedding, or leave shard_optimizer out"
                )
        return own

    def _assign(self, variable: keras.Variable, value: tf.Tensor) -> None:
        write(self._strategy, variable.value, value)

    # ------------------------------------------------------------ what looks at all shares

    def _clip(self, gradients: list[Gradient]) -> list[Gradient]:
        """Clips shares of gradients as Keras clips the gradients."""
        base = self._base
        if not base.clipnorm and not base.global_clipnorm:
            return list(patches.original("clip")(base, gradients))
        if self._exact:
            clipped = patches.original("clip")(base, self._wholes(gradients))
            return [
                self.exchange.own_rows(one, cut)
                if isinstance(one, tf.IndexedSlices)
                else self.exchange.own(one, cut)
                for one, cut in zip(clipped, self._cuts, strict=True)
            ]
        squares = tf.stack([tf.cast(_sum_of_squares(one), tf.float64) for one in gradients])
        squares = tf.reduce_sum(self.exchange.of_all(squares), 0)
        if base.clipnorm:
            return [
                on_numbers(functools.partial(_clipped, norm=norm, limit=base.clipnorm), one)
                for one, norm in zip(gradients, tf.unstack(tf.sqrt(squares)), strict=True)
            ]
        norm = tf.sqrt(tf.reduce_sum(squares))
        limit = tf.cast(base.global_clipnorm, norm.dtype)
        scale = limit * tf.minimum(1 / norm, 1 / limit) + (norm - norm)
        # Keras' `v * scale` makes sparse ones dense: rows that are used twice are added up.
        return [tf.convert_to_tensor(one) * tf.cast(scale, one.dtype) for one in gradients]

    def _wholes(self, gradients: Sequence[Gradient]) -> list[Gradient]:
        """All of the gradients of which these are shares.

        Raises:
            PlugError: a sparse one is not as it was given: its rows' order is that of the bits.
        """
        wholes = list(gradients)
        dense = [i for i, one in enumerate(wholes) if not isinstance(one, tf.IndexedSlices)]
        for i in set(range(len(wholes))) - set(dense):
            if self._base is not self.optimizer:
                raise PlugError(
                    "virtual_replicas with shard_optimizer, a LossScaleOptimizer and clipping of a "
                    "sparse gradient (an Embedding's): leave one of these out"
                )
            wholes[i] = self._given[i]  # Keras' norm has each lookup by itself
        cuts = [self._cuts[i] for i in dense]
        found = self.exchange.gathered([wholes[i] for i in dense], cuts)
        for i, whole in zip(dense, found, strict=True):
            wholes[i] = whole
        return wholes

    def _all_finite(self, gradients: Sequence[Gradient | None]) -> tf.Tensor:
        """Whether all numbers of all gradients are finite, on whatever replica."""
        numbers = [_numbers(one) for one in gradients if one is not None]
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(one)) for one in numbers])
        return tf.reduce_all(self.exchange.of_all(tf.cast(finite, tf.int32)) > 0)

    def _finalize(self, variables: Sequence[keras.Variable]) -> None:
        """Sets the variables to their moving averages, if any; all workers together."""
        del variables
        if self._base.use_ema:
            self._on_replicas(self._take_averages)

    def _take_averages(self) -> None:
        shares = list(self._shares.values())
        means = [_of_shape(one, one.shape) for one in keras_slots.averages(self._base)]
        wholes = self.exchange.gathered(means, [share.cut for share in shares])
        for share, whole in zip(shares, wholes, strict=True):
            self._assign(share.variable, whole)

    # ------------------------------------------------------------ files

    def _save(
        self, optimizer: keras.optimizers.Optimizer, store: MutableMapping[str, np.ndarray]
    ) -> None:
        """Keras' `save_own_variables`, with whole slots."""
        wholes = whole_slots.current() or {}
        if not wholes.keys() >= self.slots.keys() and self._layout.workers == 1:
            wholes = {id(slot): self.whole(slot) for slot, _ in self.slots.values()}
        if not wholes.keys() >= self.slots.keys():
            raise PlugError(
                "a file with the slots of an optimizer that shard_optimizer has spread over the "
                "replicas, which nobody has gathered: call model.save(path) of the plugged model, "
                "on every worker, or give fit a tfdist.callbacks.Checkpoint"
            )
        for i, variable in enumerate(optimizer.variables):
            is_slot = id(variable) in self.slots
            store[str(i)] = wholes[id(variable)] if is_slot else variable.numpy()

    def _load(
        self, optimizer: keras.optimizers.Optimizer, store: MutableMapping[str, np.ndarray]
    ) -> None:
        """Keras' `load_own_variables`, of whole slots."""
        if len(store.keys()) != len(optimizer.variables):
            type(optimizer).load_own_variables(optimizer, store)  # which says so
            return
        for i, variable in enumerate(optimizer.variables):
            self._put(variable, np.asarray(store[str(i)]))

    def _put(self, variable: keras.Variable, value: np.ndarray) -> None:
        """Sets one of the optimizer's variables, of a whole value."""
        if id(variable) not in self.slots:
            variable.assign(value)
            return
        cut = self.slots[id(variable)][1]
        if tuple(value.shape) != cut.shape:
            raise ValueError(
                f"the slot {variable.path!r} of shape {tuple(value.shape)}; it must be {cut.shape}"
            )
        self.set_own(variable, value)
        if self._layout.workers > 1 and self._layout.is_chief:
            self.pending[id(variable)] = value

    def whole(self, slot: keras.Variable) -> np.ndarray:
        """Returns a slot of which all shares are in this process."""
        there = self._strategy.experimental_local_results(slot.value)
        return self.slots[id(slot)][1].whole(np.stack([np.asarray(one) for one in there]))

    def set_own(self, slot: keras.Variable, whole: np.ndarray) -> None:
        """Gives this process's replicas their shares of a slot."""
        cut = self.slots[id(slot)][1]
        there = self._strategy.experimental_local_results(slot.value)
        for replica, own in zip(self._layout.local_replicas, there, strict=True):
            own.assign(tf.cast(cut.own(whole, replica), own.dtype))


def _numbers(gradient: Gradient) -> tf.Tensor:
    return gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient


def _sum_of_squares(gradient: Gradient) -> tf.Tensor:
    return tf.reduce_sum(tf.square(_numbers(gradient)))


def _clipped(value: tf.Tensor, norm: tf.Tensor, limit: float) -> tf.Tensor:
    return value * limit / tf.cast(tf.maximum(norm, limit), value.dtype)


def _of_shape(variable: keras.Variable, shape: Sequence[int]) -> tf.Tensor:
    return tf.ensure_shape(tf.convert_to_tensor(variable.value), shape)
