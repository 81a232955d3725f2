"""Workers of a parameter-server job that read their own data: `fit(lambda input_context: dataset)`.

The function is called once for every worker, with a `tf.distribute.InputContext` that says which
worker it is, and its dataset lives on that worker: nothing passes through the chief. A worker that
is lost and comes back begins its dataset anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfdist.strategies.layout import ReplicaLayout
from tfdist.training.data.per_worker import dataset_of
from tfdist.training.data.stream import AllGatherNumbers, Stream

__all__ = ["WorkerPipelines"]


class WorkerPipelines(Stream):
    """The data of one `fit` or `evaluate`, a dataset of its own on every worker.

    Args:
        layout: of the chief.
        coordinator: of the strategy.
        workers: how many there are.
        function: returns a worker's `tf.data.Dataset` for a `tf.distribute.InputContext`; its
            batches are what the worker takes in a step.
        steps: the user's `steps_per_epoch`, over all workers; None goes on until every worker has
            run out.
    """

    has_position = False  # workers read each at its own pace

    def __init__(
        self,
        layout: ReplicaLayout,
        coordinator: tf.distribute.coordinator.ClusterCoordinator,
        workers: int,
        function: Callable[..., Any],
        steps: int | None = None,
    ) -> None:
        super().__init__(layout, steps)
        self.workers = workers
        self._function = function
        self._coordinator = coordinator
        self._spec = self._dataset(0).element_spec
        self.iterators: Any = None
        self._remote: Any = None
        self.ended_workers: set[int] = set()
        self.promised = 0

    @property
    def given(self) -> int:
        """Steps of this epoch that were taken, or may be by what is in flight."""
        return self._seen + self.promised

    def returned(self, steps: int, promised: int) -> None:
        """Notes what a worker has done of what it was asked for."""
        self.promised -= promised
        self._seen += steps

    def _dataset(self, worker: int) -> tf.data.Dataset:
        context = tf.distribute.InputContext(
            num_input_pipelines=self.workers,
            input_pipeline_id=worker,
            num_replicas_in_sync=self.workers,
        )
        return dataset_of(self._function, context)

    def _on_worker(self) -> tf.data.Dataset:
        """The dataset of whichever worker runs this."""
        index = tf.distribute.coordinator.experimental_get_current_worker_index()
        branches = [
            lambda worker=worker: tf.data.experimental.to_variant(self._dataset(worker).prefetch(2))
            for worker in range(self.workers)
        ]
        variant = tf.switch_case(tf.cast(index, tf.int32), branches)
        return tf.data.experimental.from_variant(variant, self._spec)

    @property
    def batch_size(self) -> int | None:
        """Unknown: every worker chooses its own."""
        return None

    @property
    def may_leave_replicas_out(self) -> bool:
        """False: a step is one worker's."""
        return False

    def sample_batch(self) -> Any:
        """Specs of one worker's batch."""
        return self._spec

    def begin_epoch(self, all_gather: AllGatherNumbers) -> None:
        """Starts an epoch: from the beginning, or where the last one stopped with `steps` given."""
        del all_gather
        if self.iterators is None or self.steps_asked is None:
            if self._remote is None:
                self._remote = self._coordinator.create_per_worker_dataset(self._on_worker)
            self.iterators = iter(self._remote)
            self.ended_workers.clear()
        self._seen = self.promised = 0

    def end_epoch(self) -> None:
        """Ends an epoch."""
        if len(self.ended_workers) == self.workers:
            self.iterators = None

    def rewind(self) -> None:
        """Makes the next epoch begin at each dataset's first batch."""
        self.iterators = None

    def ran_out(self) -> None:
        """Notes that every worker's dataset has ended."""
        self.iterators = None
