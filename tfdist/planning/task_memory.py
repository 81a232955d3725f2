"""The memory that each task of a job takes, by strategy. Pure.

Of one worker and of two it was measured. For more workers the rows of a step change, and what the
exchange takes stays. A parameter-server job and a pipeline were not run: there weights, gradients,
slots and activations are shared out as these strategies do.
"""

from __future__ import annotations

import dataclasses

from tfdist.planning.seen_process import SeenProcess
from tfdist.planning.server_speed import servers_name
from tfdist.planning.shard_speed import sharded_name
from tfdist.planning.stage_cuts import cut_layers

__all__ = ["MemoryPlan", "TaskMemory"]


@dataclasses.dataclass(frozen=True)
class TaskMemory:
    """What a task holds at its peak, in bytes.

    Attributes:
        strategy: as "2 workers".
        task: which of its tasks, as "worker".
        tasks: how many there are of them.
        program: interpreter, libraries, data, traced programs, buffers.
        weights: of the model.
        gradients: one for each weight that is trained.
        slots: of the optimizer.
        activations: of a step.
        exchange: what more than one worker needs for talking to each other.
        is_measured: whether such a task was run.
    """

    strategy: str
    task: str
    tasks: int
    program: int
    weights: int
    gradients: int
    slots: int
    activations: int
    exchange: int
    is_measured: bool

    def __post_init__(self) -> None:
        if min(self.parts.values()) < 0 or self.tasks < 1:
            raise ValueError(f"{self}: no part of a task's memory is below 0")

    @property
    def parts(self) -> dict[str, int]:
        """The bytes of each part, by name."""
        names = ("program", "weights", "gradients", "slots", "activations", "exchange")
        return {name: getattr(self, name) for name in names}

    @property
    def total(self) -> int:
        """Bytes of the task."""
        return sum(self.parts.values())


@dataclasses.dataclass(frozen=True)
class MemoryPlan:
    """Memory by strategy, from what one worker and two have shown.

    Attributes:
        alone: the one worker.
        of_two: that one of two which took more.
    """

    alone: SeenProcess
    of_two: SeenProcess

    def __post_init__(self) -> None:
        if self.alone.place != self.of_two.place:
            raise ValueError(
                f"{self.alone.place} and {self.of_two.place}: measure both in one place"
            )

    @property
    def batch_grows(self) -> bool:
        """Whether each worker trains on as many rows as one alone: the script's batch grows."""
        return self.of_two.rows > 0.75 * self.alone.rows

    def rows(self, workers: int) -> float:
        """Rows of a step that each of so many workers trains on."""
        return self.alone.rows if self.batch_grows else self.alone.rows / workers

    @property
    def exchange(self) -> int:
        """What each of several workers needs besides, as two have shown."""
        rest = self.of_two.peak - self._worker(2, 0).total
        return max(0, rest)

    def workers(self, count: int) -> TaskMemory:
        """Each of so many workers in step."""
        return self._worker(count, self.exchange if count > 1 else 0)

    def sharded(self, count: int) -> TaskMemory:
        """Each of so many workers in step with a share of the optimizer's slots."""
        whole = self.workers(count)
        return dataclasses.replace(
            whole,
            strategy=sharded_name(count),
            slots=-(-whole.slots // count),
            is_measured=False,
        )

    def _worker(self, count: int, exchange: int) -> TaskMemory:
        seen = self.alone
        return TaskMemory(
            strategy="1 worker" if count == 1 else f"{count} workers",
            task="worker",
            tasks=count,
            program=seen.program,
            weights=seen.weights,
            gradients=seen.gradients,
            slots=seen.slots,
            activations=round(seen.activations_a_row * self.rows(count)),
            exchange=exchange,
            is_measured=count <= 2,
        )

    @property
    def pipeline(self) -> list[TaskMemory]:
        """The tasks of a pipeline of two stages; see `stages`."""
        return self.stages(2)

    def stages(self, count: int) -> list[TaskMemory]:
        """The tasks of a pipeline, each with its part; none where it cannot be cut so often.

        Activations are taken by the bytes that layers give. The batch is cut into microbatches, but
        the first stage holds those on their way: all of its part is counted.
        """
        seen = self.alone
        given = sum(layer.outputs for layer in seen.layers)
        found = []
        for stage, own in enumerate(cut_layers(seen.layers, count)):
            trained = sum(layer.gradients for layer in own)
            part = sum(layer.outputs for layer in own) / given if given else 0.0
            share = trained / seen.gradients if seen.gradients else 0.0
            found.append(
                TaskMemory(
                    strategy=f"{count}-stage pipeline",
                    task=f"stage {stage}",
                    tasks=1,
                    program=seen.program,
                    weights=sum(layer.weights for layer in own),
                    gradients=trained,
                    slots=round(seen.slots * share),
                    activations=round(seen.activations * part),
                    exchange=0,
                    is_measured=False,
                )
            )
        return found

    def servers(self, workers: int, servers: int = 1) -> list[TaskMemory]:
        """The tasks of a parameter-server job: its workers and its servers.

        A worker holds what it fetches for a step, and its gradients, as tensors and as messages.
        Servers share weights and slots, and hold as much for each worker.
        """
        seen = self.alone
        strategy = servers_name(workers, servers)
        fetched, pushed = round(seen.fetched), round(seen.pushed)
        worker = dataclasses.replace(
            self._worker(1, 0),
            strategy=strategy,
            tasks=workers,
            weights=fetched,
            gradients=pushed,
            slots=0,
            exchange=fetched + pushed,
            is_measured=False,
        )
        server = TaskMemory(
            strategy=strategy,
            task="ps",
            tasks=servers,
            program=max(0, seen.program_at_start - seen.weights),
            weights=-(-seen.weights // servers),
            gradients=-(-workers * pushed // servers),
            slots=-(-seen.slots // servers),
            activations=0,
            exchange=-(-workers * (pushed + 2 * fetched) // servers),
            is_measured=False,
        )
        return [worker, server]
