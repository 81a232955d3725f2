"""Gradients: those of the model's variables are the global batch's from the tape on.

Whoever calls `tape.gradient` in a step gets, for a variable, the gradient of the whole batch's
loss: each replica's loss is weighted by its share before the backward pass (or not, if it is a sum
over the rows: `reductions`), and what comes out is summed over the replicas. So clipping, noise,
accumulation and all else that stands between the tape and the optimizer sees what one machine sees,
and an optimizer does not sum again. A gradient with respect to a tensor (an input, in a gradient
penalty) is the replica's own.

What reaches an optimizer and is not the same on all replicas was made by other means than the tape;
its mean by the shares is taken then, and of what is random the first replica's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence

import keras
import tensorflow as tf

from tfdist import log
from tfdist.compat import keras_optimizers, patches, tf_graphs
from tfdist.compat.patches import Patches
from tfdist.errors import PlugError
from tfdist.structures import Gradient, Nest, T, Variable
from tfdist.training.replica.reductions import flow_of, parts_of, warn_of
from tfdist.training.replica.replication import Kind
from tfdist.training.replica.sparse_gradients import Lookup, lookup_of, once_each
from tfdist.training.replica.step import ReplicaStep, current, on_numbers, replica_step

__all__ = ["PATCHES", "compiled"]


def _gradient(
    self: tf.GradientTape,
    target: Nest,
    sources: Nest,
    output_gradients: Nest = None,
    unconnected_gradients: tf.UnconnectedGradients = tf.UnconnectedGradients.NONE,
) -> Nest:
    """`tf.GradientTape.gradient`, of the global batch where the sources are variables."""
    step = current()
    plain = patches.original("tape_gradient")
    flat = tf.nest.flatten(sources)
    ours = [i for i, source in enumerate(flat) if isinstance(source, keras.Variable | tf.Variable)]
    if step is None or not ours or step.row_by_row:
        return plain(self, target, sources, output_gradients, unconnected_gradients)
    if tf_graphs.is_in_a_loop(step.graph):
        step.has_looped = True
        return plain(self, target, sources, output_gradients, unconnected_gradients)
    targets = tf.nest.flatten(target)
    # Weighted first, a scaled loss does not overflow where one machine's would not, and what flows
    # back through a sum over the replicas is right.
    factors: set[str] | None = None
    if all(isinstance(one, tf.Tensor) for one in targets):
        terms, weights, factors = _parts(step, targets, output_gradients)
    first = factors is not None and (len(ours) == len(flat) or len(factors) == 1)
    if factors is not None and not first:
        log.warning_once(_OF_BOTH)
    if first:
        target, output_gradients = terms, weights
    found = plain(self, target, sources, output_gradients, unconnected_gradients)
    gradients = tf.nest.flatten(found, expand_composites=False)
    if first and factors == {"share"}:
        for i in set(range(len(flat))) - set(ours):  # with respect to a tensor: its own
            if gradients[i] is not None:
                gradients[i] = on_numbers(step.undo_share, gradients[i])
    there = [i for i in ours if gradients[i] is not None]
    if step.postponed is None and there:
        _exchange(step, step.if_present if first else step.weighted, gradients, flat, there)
    return tf.nest.pack_sequence_as(sources, gradients)


def _parts(
    step: ReplicaStep, targets: list[tf.Tensor], given: Nest
) -> tuple[list[tf.Tensor], list[tf.Tensor], set[str]]:
    """Returns targets that sum to this replica's part of the given ones, and their gradients.

    Returns:
        The targets, the gradients that flow into them, and what weighs them: "share" or "one".
    """
    owns = [None] * len(targets) if given is None else tf.nest.flatten(given)
    terms, gradients, factors = [], [], set()
    for target, own in zip(targets, owns, strict=True):
        parts = parts_of(step, target)
        warn_of(step, parts, "the loss of a step")
        for term in parts:
            terms.append(term.value)
            gradients.append(term.weight * (tf.ones_like(term.value) if own is None else own))
            factors.add("share" if term.by_share else "one")
    return terms, gradients, factors


def _exchange(
    step: ReplicaStep,
    weigh: Callable[[Gradient], Gradient],
    gradients: list[Gradient | None],
    variables: Sequence[Variable],
    places: Sequence[int],
    lookups: Sequence[Lookup] | None = None,
) -> None:
    """Puts what an optimizer is to apply in some places of a replica's gradients.

    Args:
        step: of this replica.
        weigh: takes a gradient, and returns this replica's part of the sum.
        gradients: all of them.
        variables: of each.
        places: where those are that are exchanged.
        lookups: whose rows each of all names; None where their graph is the one that is written.
    """
    if step.exchange is None or not step.exchange.goes_alone:
        whose = _lookups(step, gradients) if lookups is None else lookups
        places = _sum_the_batchs(step, weigh, gradients, places, whose)
        if not places:
            return
    weighted = [weigh(gradients[i]) for i in places]
    if step.shares is not None:
        waits = [
            step.shares.waits(step, one, variables[i])
            for i, one in zip(places, weighted, strict=True)
        ]
        for i, one, will_wait in zip(places, weighted, waits, strict=True):
            if will_wait:
                gradients[i] = step.wait_with(one)
        weighted = [one for one, will_wait in zip(weighted, waits, strict=True) if not will_wait]
        places = [i for i, will_wait in zip(places, waits, strict=True) if not will_wait]
        if not places:
            return
    if step.exchange is None:
        totals = step.sum_over_replicas(weighted)
    else:
        totals = step.exchange.gradients(step, weighted, [variables[i] for i in places])
        step.replication.mark(totals)
    for i, total in zip(places, totals, strict=True):
        gradients[i] = total


def _lookups(step: ReplicaStep, gradients: Sequence[Gradient | None]) -> list[Lookup]:
    rows = None if step.rows is None else step.rows.static
    return [lookup_of(gradient, rows) for gradient in gradients]


def _sum_the_batchs(
    step: ReplicaStep,
    weigh: Callable[[Gradient], Gradient],
    gradients: list[Gradient | None],
    places: Sequence[int],
    lookups: Sequence[Lookup],
) -> list[int]:
    """Sums sparse gradients of what was looked up once for the batch; returns the other places."""
    batchs = [i for i in places if lookups[i] is not Lookup.EXAMPLES]
    if not batchs:
        return list(places)
    parts = [weigh(gradients[i]) for i in batchs]
    sent = [
        part.values if lookups[i] is Lookup.BATCH else part
        for i, part in zip(batchs, parts, strict=True)
    ]
    for i, part, total in zip(batchs, parts, step.sum_over_replicas(sent), strict=True):
        if lookups[i] is Lookup.BATCH:
            gradients[i] = tf.IndexedSlices(total, part.indices, part.dense_shape)
        else:
            gradients[i] = once_each(total)
        step.replication.mark([gradients[i]])
    return [i for i in places if lookups[i] is Lookup.EXAMPLES]


def _row_by_row(name: str) -> Callable[..., Nest]:
    """A function of TensorFlow's that asks for a gradient of each row: they are the replica's own.

    TensorFlow writes what it calls once, and then makes it one for all rows: no sum over the
    replicas may stand in it.
    """

    def call(*args: object, **kwargs: object) -> Nest:
        step = current()
        if step is None:
            return patches.original(name)(*args, **kwargs)
        outer, step.row_by_row = step.row_by_row, True
        try:
            found = patches.original(name)(*args, **kwargs)
        finally:
            step.row_by_row = outer
        of_what = args[1] if len(args) > 1 else kwargs.get("target", kwargs.get("elems"))
        meet = any(flow_of(step, one).mixed for one in _tensors(found))
        if not meet and all(flow_of(step, one).axis == 0 for one in _tensors(of_what)):
            for one in _tensors(found):
                if one.shape.rank:
                    step.in_rows(one)
        return found

    return call


def _tensors(nest: Nest) -> list[tf.Tensor]:
    return [one for one in tf.nest.flatten(nest) if isinstance(one, tf.Tensor)]


def _agreed(
    step: ReplicaStep, gradients: list[Gradient | None], variables: Sequence[Variable]
) -> list[Gradient | None]:
    """Returns gradients of any origin as all replicas are to apply them."""
    if step.exchange is not None and step.exchange.goes_alone:
        return gradients
    agreed = list(gradients)
    kinds = [
        Kind.REPLICATED if g is None or id(g) in step.waiting else step.replication.of(g)
        for g in gradients
    ]
    varying = [i for i, kind in enumerate(kinds) if kind is Kind.VARYING]
    random = [i for i, kind in enumerate(kinds) if kind is Kind.RANDOM]
    if varying:
        if step.has_looped and not all(_is_as_a_loop_left_it(agreed[i]) for i in varying):
            log.warning_once(_CHANGED_AFTER_A_LOOP)
        _exchange(step, functools.partial(_part_of, step), agreed, variables, varying)
    if random:
        dense = [tf.convert_to_tensor(gradients[i]) for i in random]
        for i, first in zip(random, step.first_of_replicas(dense), strict=True):
            agreed[i] = first
    return agreed


def _part_of(step: ReplicaStep, gradient: Gradient) -> Gradient:
    """This replica's part of a gradient of any origin: of a sum over rows all of it."""
    if not isinstance(gradient, tf.Tensor) or not tf_graphs.is_symbolic(gradient):
        return step.weighted(gradient)
    parts, waiting = [], [(gradient, 1)]
    while waiting:
        one, sign = waiting.pop()
        degree = flow_of(step, one).degree
        if degree is None and one.op.type in ("AddN", "AddV2"):
            waiting += [(addend, sign) for addend in one.op.inputs]
        elif degree is None and one.op.type == "Sub":
            waiting += [(one.op.inputs[0], sign), (one.op.inputs[1], -sign)]
        else:
            part = step.if_present(one) if degree == 1 else step.weighted(one)
            parts.append(part if sign > 0 else -part)
    if len(parts) == 1:
        return parts[0]
    shape = tf.shape(gradient)  # an addend may be broadcast
    return tf.add_n([tf.broadcast_to(part, shape) for part in parts])


_OF_BOTH = (
    "train_step asks a tape for gradients with respect to variables and other tensors at once, of "
    "a loss that has sums and means over rows: its sums count as means; ask twice, of a persistent "
    "tape"
)

_CHANGED_AFTER_A_LOOP = (
    "train_step changes gradients that a loop of TensorFlow's (tf.range) has taken, before it "
    "applies them: there each replica has its own rows' gradients, so that clipping, say, is not "
    "one machine's; write the loop with Python's range, which TensorFlow unrolls"
)


_LOOPS = ("While", "StatelessWhile", "TensorListStack")


def _is_as_a_loop_left_it(gradient: Gradient) -> bool:
    """Whether only sums and factors lie between a gradient and the loop that has taken it.

    What a loop over rows has stacked has a gradient for each of them, as it should.
    """
    waiting = [gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient]
    while waiting:
        one = waiting.pop()
        if not tf_graphs.is_symbolic(one) or one.op.type in _LOOPS:
            continue
        if one.op.type in ("Mul", "RealDiv"):
            scales = [scale for scale in one.op.inputs if scale.op.type == "Const"]
            if not scales:
                return False
            waiting += [other for other in one.op.inputs if other.op.type != "Const"]
        elif one.op.type in ("AddN", "AddV2", "Cast", "Identity", "Neg"):
            waiting += one.op.inputs
        elif one.op.type in ("Mean", "Reshape", "Sum"):
            waiting.append(one.op.inputs[0])
        elif one.op.inputs:
            return False
    return True


def _applying(name: str) -> Callable[..., object]:
    """An optimizer's `apply`, which gets the same gradients on all replicas."""

    def apply(
        self: keras.optimizers.Optimizer,
        grads: Iterable[Gradient | None],
        trainable_variables: Sequence[keras.Variable] | None = None,
    ) -> object:
        step = current()
        if step is None or step.applies:
            return patches.original(name)(self, grads, trainable_variables)
        if tf_graphs.is_in_a_loop(step.graph) and step.shares_a_process:
            raise PlugError(
                "optimizer.apply in a loop of TensorFlow's (tf.range, a while of a tf.function), "
                "but several replicas share this process, and would wait for each other for ever: "
                "write the loop with Python's range, which TensorFlow unrolls, or start a worker "
                "for each device (tfdist run --workers 2)"
            )
        grads = list(grads)
        if step.postponed is not None:
            step.postponed.append((self, grads, trainable_variables))
            return None
        variables = _variables_of(step, self, trainable_variables)
        grads = _agreed(step, grads, variables)

        def update() -> object:
            with replica_step(step):
                step.applies = True
                try:
                    own_apply = patches.original(name)
                    if step.shares is not None and step.shares.has(self):
                        return step.shares.apply(step, self, own_apply, grads, variables)
                    return own_apply(self, grads, trainable_variables)
                finally:
                    step.applies = False

        return update() if step.lockstep is None else step.lockstep.once(self, update)

    return apply


def _variables_of(
    step: ReplicaStep,
    optimizer: keras.optimizers.Optimizer,
    given: Sequence[keras.Variable] | None,
) -> list[keras.Variable]:
    """The variables that gradients are of, which an optimizer's `apply` may have been given."""
    if given is not None:
        return list(given)
    if step.shares is not None and step.shares.has(optimizer):
        return step.shares.variables(optimizer)
    return keras_optimizers.trained_by(optimizer)


def _reduce_gradients(self: keras.optimizers.Optimizer, grads_and_vars: Iterable[T]) -> list[T]:
    if current() is None:
        return patches.original("reduce_gradients")(self, grads_and_vars)
    return list(grads_and_vars)  # the tape has done it


def compiled(step: ReplicaStep, step_function: Callable[[Nest], T], data: Nest) -> T:
    """Runs a step with its forward and backward passes compiled by XLA.

    The sum of the gradients over the replicas and the update, which XLA on several machines has no
    word for, follow outside. So the step must do nothing after the update that depends on it.

    Args:
        step: the current step.
        step_function: `train_step` or `test_step`, returning a structure of tensors.
        data: this replica's part of the batch.

    Returns:
        What `step_function` returns.
    """
    waiting: list[tuple[keras.optimizers.Optimizer, Sequence[keras.Variable] | None]] = []

    all_lookups: list[list[Lookup]] = []

    def forward_and_backward(data: Nest) -> tuple[T, list[list[Gradient | None]]]:
        step.postponed = []
        outer, step.graph = step.graph, tf.compat.v1.get_default_graph()
        try:
            result = step_function(data)
            waiting[:] = [(optimizer, variables) for optimizer, _, variables in step.postponed]
            all_lookups[:] = [_lookups(step, gradients) for _, gradients, _ in step.postponed]
            return result, [gradients for _, gradients, _ in step.postponed]
        finally:
            step.postponed, step.graph = None, outer

    result, all_gradients = tf.function(forward_and_backward, jit_compile=True, autograph=False)(
        data
    )
    for (optimizer, given), gradients, lookups in zip(
        waiting, all_gradients, all_lookups, strict=True
    ):
        variables = _variables_of(step, optimizer, given)
        there = [i for i, gradient in enumerate(gradients) if gradient is not None]
        _exchange(step, step.if_present, gradients, variables, there, lookups)
        optimizer.apply(gradients, given)
    return result


PATCHES = Patches(
    {
        "tape_gradient": _gradient,
        "tape_jacobian": _row_by_row("tape_jacobian"),
        "tape_batch_jacobian": _row_by_row("tape_batch_jacobian"),
        "vectorized_map": _row_by_row("vectorized_map"),
        "apply": _applying("apply"),
        "scaled_apply": _applying("scaled_apply"),
        "reduce_gradients": _reduce_gradients,
    }
)
