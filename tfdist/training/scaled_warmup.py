"""Linear scaling of a learning rate with gradual warm-up.

    rate(step) = base(step) * (1 + (scale - 1) * min(step / warmup_steps, 1))

Source: Goyal et al., "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour", 2017, sections
2.1 (the linear scaling rule) and 2.2 (gradual warm-up, over 5 epochs).
"""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from tfdist.errors import StrategyError
from tfdist.given_numbers import is_count, is_number
from tfdist.strategies import current

__all__ = ["ScaledWarmup"]


@keras.saving.register_keras_serializable("tfdist")
class ScaledWarmup(keras.optimizers.schedules.LearningRateSchedule):
    """The rate of one replica, multiplied for a batch that is as many times larger.

    Where a global batch is `scale` times as large, the rate is to be, too; it is reached in equal
    steps from the rate of one, as the large one would harm in the beginning. `base` may be a
    schedule: it counts its steps from the beginning of training, as in Goyal et al., whose rates
    fall at epochs 30, 60 and 80, with the warm-up in the first five. Without replicas it is `base`.

    The batch size that `fit` is given is the global one: multiply it by `scale`, too, and count
    the steps of `base` in these larger batches. With the batch of one machine on more replicas,
    the rate stays as it is. For a job that changes its number of workers, whose global batch
    stays, give `scale` as a number. Parameter servers take each worker's batch by itself, and a
    pipeline the whole one: there the strategy has one replica.

    A model that was saved with it is loaded where tfdist is installed, or with `compile=False`;
    `scale` is then what it was.

    Args:
        base: the rate for one replica's batch, above 0, or a schedule of it.
        warmup_steps: in how many steps it grows, 0 or more; five epochs, say.
        scale: how many times larger the global batch is, above 0; None for the replicas in sync of
            the strategy in whose scope this is made, else of this process's job.
        name: what Keras calls it.

    Raises:
        ValueError: an argument is wrong.
        StrategyError: `scale` is None, and there is no strategy to count the replicas of.

    Example:
        >>> with strategy.scope():
        ...     rate = tfdist.ScaledWarmup(0.1, warmup_steps=5 * steps_per_epoch)
        ...     model.compile(keras.optimizers.SGD(rate, momentum=0.9), "mse")
    """

    def __init__(
        self,
        base: float | keras.optimizers.schedules.LearningRateSchedule,
        warmup_steps: int,
        scale: float | None = None,
        name: str = "ScaledWarmup",
    ) -> None:
        super().__init__()
        if not isinstance(base, keras.optimizers.schedules.LearningRateSchedule):
            base = _number("base", base, "a rate above 0, or a schedule of keras.optimizers")
        if not is_count(warmup_steps, 0):
            raise ValueError(f"warmup_steps={warmup_steps!r}: give a number of steps, 0 or more")
        if scale is not None:
            scale = _number("scale", scale, "a number above 0, or None for the replicas in sync")
        self.base = base
        self.warmup_steps = warmup_steps
        self.scale = float(_replicas_in_sync()) if scale is None else scale
        self.name = name

    def __call__(self, step: tf.Tensor | int) -> tf.Tensor:
        """Returns the rate at a step, from 0."""
        base = self.base(step) if callable(self.base) else self.base
        base = tf.convert_to_tensor(base, tf.as_dtype(keras.config.floatx()))
        done = tf.cast(step, base.dtype) / max(self.warmup_steps, 1)
        grown = tf.minimum(done, 1.0) if self.warmup_steps else tf.ones_like(done)
        return base * (1.0 + (self.scale - 1.0) * grown)

    def get_config(self) -> dict[str, Any]:
        """Returns what the schedule is made of, for `from_config`."""
        base = self.base
        if isinstance(base, keras.optimizers.schedules.LearningRateSchedule):
            base = keras.saving.serialize_keras_object(base)
        return {
            "base": base,
            "warmup_steps": self.warmup_steps,
            "scale": self.scale,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ScaledWarmup:
        """Makes a schedule of what `get_config` has returned."""
        base = config["base"]
        if isinstance(base, dict):
            base = keras.saving.deserialize_keras_object(base)
        return cls(**{**config, "base": base})


def _number(name: str, value: object, allowed: str) -> float:
    if not is_number(value, above=0) or math.isinf(value):
        raise ValueError(f"{name}={value!r}: give {allowed}")
    return float(value)


def _replicas_in_sync() -> int:
    """Those of the strategy whose scope this is in, else of the job's.

    Raises:
        StrategyError: there is neither.
    """
    if tf.distribute.has_strategy():
        return int(tf.distribute.get_strategy().num_replicas_in_sync)
    made = current.of_the_job()
    if made is not None:
        return int(made.num_replicas_in_sync)
    raise StrategyError(
        "ScaledWarmup outside of a strategy's scope, whose replicas it counts: make it inside of "
        "strategy.scope(), or give scale, as 1 for one replica's batch"
    )
