"""What each device of a pipeline does after what, written as control dependencies.

TensorFlow would run all microbatches of a stage at once, and the next stage would start late. So a
segment's work begins when the work before it on its device has ended and all that it needs has
arrived.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfdist.strategies.pipeline_strategy import PipelineStrategy
from tfdist.structures import Nest
from tfdist.training.pipelined.layer_graph import Segment, Stage
from tfdist.training.pipelined.microbatch import again

__all__ = ["Ordering"]

_FED_AHEAD = 2
"""Microbatches that the chief sends before the first stage has done with them."""


class Ordering:
    """The order of one step's work, while it is written.

    Args:
        strategy: where the stages run.
        stages: of the pipeline.

    Attributes:
        begun: the time stamps by which the segments of the current slot began.
    """

    def __init__(self, strategy: PipelineStrategy, stages: Sequence[Stage]) -> None:
        self._strategy = strategy
        self._stages = stages
        self._in_one_chain = strategy.plan.schedule == "sequential"
        self._last: dict[str, list[tf.Tensor]] = {}
        self._fed: list[list[tf.Tensor]] = [[] for _ in range(strategy.plan.replicas)]
        self.begun: list[tf.Tensor] = []

    def device(self, replica: int, segment: Segment) -> str:
        """Where a segment runs."""
        return self._strategy.device(replica, segment.task)

    def before(self, replica: int, device: str) -> list[tf.Tensor]:
        """What a device has to do first."""
        return self._last.get(self._chain(replica, device), [])

    def ended(self, replica: int, device: str, after: Sequence[tf.Tensor | None]) -> None:
        """What the device does next waits for these tensors."""
        done = [tensor for tensor in after if tensor is not None]
        if done:
            self._last[self._chain(replica, device)] = done

    def _chain(self, replica: int, device: str) -> str:
        """Under "sequential" all devices of a replica do one thing after the other."""
        return f"replica {replica}" if self._in_one_chain else device

    def begin(self, replica: int, device: str, needs: Sequence[Nest]) -> tf.Tensor:
        """What a segment's work waits for: its turn, and that all it needs has arrived.

        So it begins as a whole, and what the device has to send goes out before. It is a time
        stamp, as an operation without effects would be optimized away, and the waiting with it.
        """
        arrived = tf.nest.flatten(list(needs), expand_composites=True)
        with tf.device(device), tf.control_dependencies([*self.before(replica, device), *arrived]):
            begin = tf.timestamp()
        self.begun.append(begin)
        return begin

    def feed(self, replica: int, value: tf.Tensor) -> tf.Tensor:
        """An input of the model, which leaves the chief only when its turn is near.

        All at once they would stand in the way of what the first stage has to hand on.
        """
        ahead = self._fed[replica][-_FED_AHEAD:]
        if len(ahead) < _FED_AHEAD:
            return value
        with tf.device(self._strategy.home), tf.control_dependencies(ahead[0]):
            return again(value)

    def took(self, replica: int, after: Sequence[tf.Tensor]) -> None:
        """The first stage has done with a microbatch's inputs when these tensors are there."""
        self._fed[replica].append(list(after))
