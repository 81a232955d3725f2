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
functions of Keras and TensorFlow (`tfdist.compat.patches`) have stand-ins, a file a subject:
`losses`, `metrics`, `gradients`, `state`, `collectives`, `random_numbers`. Outside of a traced
step, and on every other thread, Keras is untouched.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from tfdist.compat import tf_strategies
from tfdist.training.replica import collectives, gradients, losses, random_numbers, state
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
