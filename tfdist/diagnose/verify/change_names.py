"""The names of the changes to a program by which a cause is tried; `script_changes` makes them.

one worker has all rows      a replica takes the whole batch, the others count nothing
synchronized                 every BatchNormalization normalizes by the global batch
random layers stand still    Dropout, noise and augmentation layers return their inputs
draws stand still            tf.random.* in a step returns the middle of its range
alone                        the script, where it asks, hears of a job of one worker
same rank                    the script, where it asks, hears that it is the first worker
no own sums                  the script's own sums over replicas return what they are given
plain options                tfdist.plug is given no options that change the results
fixed entropy                what no seed fixes is fixed: the system's entropy, clock, ids
fixed hash seed              texts have the same hashes in all processes
no callbacks, without NAME   the user's callbacks, or one of them, are left out
last bits of weights alone   of what a jitter changes
"""

from __future__ import annotations

__all__ = [
    "ALL_TO_ONE",
    "ALONE",
    "BITS_OF_WEIGHTS",
    "DRAWS_STILL",
    "FIXED_ENTROPY",
    "FIXED_HASHES",
    "LAYERS_STILL",
    "NO_CALLBACKS",
    "NO_OWN_SUMS",
    "PLAIN_OPTIONS",
    "SAME_RANK",
    "SYNCHRONIZED",
    "WITHOUT",
]

ALL_TO_ONE = "one worker has all rows"
SYNCHRONIZED = "synchronized"
LAYERS_STILL = "random layers stand still"
DRAWS_STILL = "draws stand still"
ALONE = "alone"
SAME_RANK = "same rank"
NO_OWN_SUMS = "no own sums"
PLAIN_OPTIONS = "plain options"
FIXED_ENTROPY = "fixed entropy"
FIXED_HASHES = "fixed hash seed"
NO_CALLBACKS = "no callbacks"
WITHOUT = "without "
"""Followed by the name of a callback's class."""

BITS_OF_WEIGHTS = "last bits of weights alone"
