"""How parameter servers are trained in step: each batch is one update, shared out over workers.

The chief cuts a batch in parts, one for each worker that is not a backup, and hands them out; the
gradients wait on the servers, and as soon as all parts are there the update is made. A worker that
is slow, hangs or is lost holds up nobody for long (`backup_tasks`).
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Generator, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tfdist import log
from tfdist.compat import keras_build
from tfdist.errors import PlugError
from tfdist.strategies import registry
from tfdist.training.data.stream import (
    Step,
    Stream,
    count_rows,
    leaves,
    map_leaves,
    slice_rows,
    without_optionals,
)
from tfdist.training.loop.chunking import ChunkLength
from tfdist.training.loop.family import Chunk
from tfdist.training.mode import Mode
from tfdist.training.parameter_server.asynchronous import Asynchronous
from tfdist.training.parameter_server.backup_tasks import NO_PART, BackupTasks
from tfdist.training.parameter_server.batch_messages import types_of
from tfdist.training.parameter_server.part_buffers import PartBuffers
from tfdist.training.parameter_server.part_step import PartPrograms, PartStep
from tfdist.training.parameter_server.server_updates import ServerUpdates
from tfdist.training.parameter_server.work_queue import WorkQueue
from tfdist.training.parameter_server.worker_pipelines import WorkerPipelines

__all__ = ["WholeBatches", "check_backup_workers"]

_LOOK_SECONDS = 0.005  # between two looks at what is late


def check_backup_workers(spare: int, workers: int) -> None:
    """Checks that somebody is left to compute.

    Raises:
        PlugError: all are backups.
    """
    if spare >= workers:
        raise PlugError(
            f"backup_workers={spare} in a job of {workers} workers, of which one at least must "
            f"compute: give a number from 0 to {workers - 1}"
        )


class WholeBatches(Asynchronous):
    """Trains in step on a parameter-server strategy; evaluates and predicts as ever.

    Args:
        arguments: of `Asynchronous`, with `backup_workers` among the options.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        spare = self._options.backup_workers
        assert spare is not None
        self._parts = self.workers - spare
        self._tasks = BackupTasks(self.workers, spare)
        keras_build.make_global_seeds(self.strategy)
        self._number = 0
        self._told_of_tasks = ""
        self._work = WorkQueue(self.coordinator)

    @functools.cached_property
    def _part_programs(self) -> PartPrograms:
        writes = ServerUpdates(self._parts, repeatable=True)
        buffers = PartBuffers(self._parts, writes)
        options, tables, rest = self._options, self._tables, self._totals.rest
        return PartPrograms(
            PartStep(buffers, self.model, options, tables, rest, self._logs, writes, self.device)
        )

    def chunks(
        self, mode: Mode, data: Stream, chunk_length: ChunkLength
    ) -> Generator[Chunk, None, None]:
        """Yields, until an epoch's data end, what makes the next updates."""
        if mode != "train":
            yield from super().chunks(mode, data, chunk_length)
            return
        if isinstance(data, WorkerPipelines):
            raise PlugError(
                "a function of InputContext with backup_workers, which has the chief cut each "
                "batch in parts: give arrays or a dataset, or leave backup_workers out"
            )
        given = 0
        try:
            while (left := data.left(given)) != 0:
                steps = data.take(chunk_length.next_length(left, given), self.all_gather)
                if not steps:
                    break
                given += len(steps)
                yield functools.partial(self._updates, steps, data, chunk_length)
            told = self._tasks.describe()
            if told != self._told_of_tasks:
                log.info("%s", told or "no worker is left out any more")
            self._told_of_tasks = told
        finally:  # copies of parts may still be under way: they change nothing
            self._totals.store()

    def _updates(
        self, steps: list[Step], data: Stream, chunk_length: ChunkLength
    ) -> tuple[int, dict[str, Any]]:
        """Makes some updates; returns how many, and the logs so far."""
        began = time.monotonic()
        own: dict[str, Any] = {}
        for step in steps:
            rows, own = self._update(step.parts[0])
            data.rows += rows
        chunk_length.agreed(*([one] for one in chunk_length.told))
        chunk_length.took(len(steps), time.monotonic() - began)
        return len(steps), self._results("train", own)

    def on_batch(self, mode: Mode, step: Step) -> dict[str, Any]:
        """Takes one step by itself; returns its logs."""
        if mode != "train":
            return super().on_batch(mode, step)
        _, own = self._update(step.parts[0])
        self._totals.store()
        return self._results(mode, own)

    @property
    def at_rest(self) -> bool:
        """Always, as far as it can be asked: variables change in updates alone."""
        return True

    # ------------------------------------------------------------ one update

    def _update(self, batch: Any) -> tuple[int, dict[str, Any]]:
        """Makes the update of one batch; returns its rows, and its logs that are no metrics."""
        self._number += 1
        parts = list(self._cut(without_optionals(batch)))
        tasks = self._tasks
        membership = registry.membership_of(self.strategy)
        if membership is not None:
            tasks.gone(task.index for task in membership.absent() if task.type == "worker")
        self._function(parts[0][0])  # what traces it is no work of a worker's
        tasks.begin(range(len(parts)), time.monotonic())
        came: dict[int, dict[str, Any]] = {}
        try:
            for part in range(len(parts)):
                self._hand_out(parts, part, tasks.left_out)
            if (probed := tasks.to_probe()) is not None:
                self._hand_out(parts, probed, [not out for out in tasks.left_out], probe=True)
            while tasks.left:
                self._note_next(came)
                for part in tasks.again():
                    self._hand_out(parts, part, tasks.left_out)
                for part in tasks.late(time.monotonic()):
                    self._hand_out(parts, part, [False] * self.workers)
        except BaseException:
            tasks.forget()
            self._work = WorkQueue(self.coordinator)  # what still comes to the other is nobody's
            raise
        self._part_programs.update(len(parts), self._number)
        for part in range(len(parts)):
            self._totals.add_flat(came[part]["told"][3:])
        shares = [share for _, share in parts]
        logs = [came[part]["logs"] for part in range(len(parts))]
        return count_rows(batch), _averaged(logs, shares)

    def _note_next(self, came: dict[int, dict[str, Any]]) -> None:
        """Waits a moment for what comes next; of each part of this update the first is noted."""
        one = self._work.wait(_LOOK_SECONDS)
        if one is None:
            self.look_for_workers(self._work)
            return
        (number, part), result = one
        part = part if number == self._number else NO_PART
        worker, declined, seconds = result["told"][:3].tolist()
        if declined:
            self._tasks.declined(part, time.monotonic())
        elif self._tasks.came(part, int(worker), seconds, time.monotonic()):
            came[part] = result

    def _cut(self, batch: Any) -> Iterator[tuple[Any, float]]:
        """The parts of a batch, each with its share of the rows; none is without rows."""
        rows = count_rows(batch)
        others = {count_rows([leaf]) for leaf in leaves(batch)} - {rows}
        if others:
            raise PlugError(
                f"a batch with {rows} rows in one tensor and {min(others)} in another, but with "
                "backup_workers it is cut between rows: give all tensors the same number of rows, "
                "or leave backup_workers out"
            )
        count = max(1, min(self._parts, rows))
        borders = [rows * i // count for i in range(count + 1)]
        for low, high in itertools.pairwise(borders):
            cut = functools.partial(slice_rows, low=low, high=high)
            yield map_leaves(cut, batch), (high - low) / max(1, rows)

    def _function(self, rows: Any) -> Any:
        """The program that computes a part of such rows."""
        return self._part_programs.part(
            [
                types_of(rows),
                tf.TensorSpec([], tf.float64),
                tf.TensorSpec([2], tf.int64),
                tf.TensorSpec([self.workers], tf.bool),
            ]
        )

    def _hand_out(
        self,
        parts: list[tuple[Any, float]],
        part: int,
        left_out: list[bool],
        probe: bool = False,
    ) -> None:
        rows, share = parts[part]
        ticket = tf.constant([part, self._number], tf.int64)
        arguments = [rows, tf.constant(share, tf.float64), ticket, tf.constant(left_out)]
        self._work.start(
            self._function(rows), arguments, tag=(self._number, NO_PART if probe else part)
        )


def _averaged(logs: list[dict[str, Any]], shares: list[float]) -> dict[str, Any]:
    """A step's own logs over the rows of all parts; of what is no fraction, the first part's."""
    found: dict[str, Any] = dict(logs[0])
    for name, value in logs[0].items():
        if tf.convert_to_tensor(value).dtype.is_floating:
            parts = zip(logs, shares, strict=True)
            found[name] = sum(np.asarray(one[name]) * share for one, share in parts)
    return found
