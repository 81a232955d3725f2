"""What makes N replicas equal to one machine.

The rule: **each replica computes its loss as one machine would on its own examples; the losses
are weighted by the replicas' shares (their examples over the global batch's), and what comes of
them is summed.** Let replica r have n_r of the n rows, its share s_r = n_r / n, and its loss L_r, a
mean over its rows. Then sum_r s_r L_r is the mean over all rows, whatever the shares are; the
gradient of a sum is the sum of the gradients, so sum_r s_r dL_r/dw is one machine's gradient; and
with equal gradients, equal weights and an optimizer that computes the same from both, the next
weights are equal, too. A sum over rows is a mean divided by the share, a metric's state a sum as it
is.

Keras weighs every replica by 1/N instead, which is wrong as soon as shares are uneven, and clips,
scales and checks gradients before it sums them. So while a replica's step is traced, a few
functions of Keras and TensorFlow (`tfdist.compat.patches`) have stand-ins, a file a subject.
Outside of a traced step, and on every other thread, Keras is untouched.

`step.py`: what a replica knows of its part of the batch: its share, its rows, sums over replicas.
`losses.py`: losses: masks, weights, `compute_average_loss`, regularizers.
`part_losses.py`: the same of parts that one batch is cut in: a pipeline's microbatches, and what
    parameter servers' workers compute in step.
`metrics.py`: metrics of one's own: what a replica adds is its part of one machine's.
`reductions.py`: whether a number of a step is a mean over rows or a sum.
`terms.py`: a number taken apart into sums and means; what is told of losses that look across rows.
`graph_walk.py`: how a graph is walked through, from a tensor to what it comes from.
`row_flow.py`: where rows go in a step's graph: what has them, sums them up, averages them.
`row_rules.py`: which rule says what an operation makes of rows.
`row_entries.py`: the rules of what works entry by entry, and of what has no rule.
`row_shapes.py`: those of what moves, sums or picks along dimensions.
`row_moves.py`: those of what mixes entries along a dimension, or leaves some out.
`row_products.py`: those of products of matrices, and of lookups.
`across_rows.py`: Keras' losses and layers that look across the rows: Dice, Circle, MixUp.
`gradients.py`: gradients are the whole batch's from the tape on; clipping, `apply`, XLA.
`sparse_gradients.py`: sparse gradients of rows that are looked up once for a batch.
`replication.py`: which tensors are the same on all replicas, which vary or are random.
`random_numbers.py`: random numbers by row: Dropout, `keras.random`, `tf.random`.
`state.py`: what a step writes: BatchNormalization's statistics, counters, by `aggregation`.
`local_state.py`: variables that differ between replicas, and when they are brought together.
`replica_states.py`: these variables read and set, in a checkpoint of another number of replicas.
`collectives.py`: `gather_batch`, `own_rows`, a step's own sums over replicas.
`step_logs.py`: which logs of a step are metrics, and which stand for themselves.
`lockstep.py`: `virtual_replicas`: several replicas on one device, traced in turns; refusals.
`python_state.py`: what Python keeps in layers meanwhile.
`ordered_sum.py`: sums over virtual replicas, of the same bits on any number of tasks.
`summation_tree.py`: the order of these sums. Pure.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from tfdist.compat import tf_strategies
from tfdist.training.replica import (
    across_rows,
    collectives,
    gradients,
    losses,
    random_numbers,
    state,
)
from tfdist.training.replica.gradients import compiled
from tfdist.training.replica.metrics import known_metrics
from tfdist.training.replica.replication import Kind, Replication
from tfdist.training.replica.step import ReplicaStep, Rows, replica_step

__all__ = [
    "Kind",
    "ReplicaStep",
    "Replication",
    "Rows",
    "compiled",
    "known_metrics",
    "one_machine_semantics",
    "replica_step",
]

_PATCHES = (
    losses.PATCHES
    | gradients.PATCHES
    | state.PATCHES
    | collectives.PATCHES
    | random_numbers.PATCHES
    | across_rows.PATCHES
)


@contextlib.contextmanager
def one_machine_semantics(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Enter it around `strategy.run`; each replica then enters `replica_step`."""
    with (
        _PATCHES,
        random_numbers.seeds_of_this_thread(),
        tf_strategies.without_merge_call(strategy),
    ):
        yield
