"""What a pipeline is to be, checked before anything is built. Pure: imports no TensorFlow."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

from tfdist.errors import StrategyError
from tfdist.given_numbers import is_count
from tfdist.schedules.schedule import SCHEDULES, Slot, placement, schedule, stages_a_task
from tfdist.schedules.weight_layout import WeightLayout

__all__ = ["PipelinePlan"]


@dataclasses.dataclass(frozen=True)
class PipelinePlan:
    """The degrees of a pipeline, and where each stage runs.

    Attributes:
        tasks: the names of the tasks that compute, such as "worker:0" or "CPU:1".
        microbatches: M, the parts that every batch of a replica is cut into.
        schedule: "gpipe", "1f1b", "zero_bubble", "interleaved", "zb_v" or "sequential".
        replicas: how many copies of the pipeline train on disjoint tasks, each on its part of
            the batch.
        stages: the name of the first layer of each stage but the first; or how many stages there
            are, to be split automatically; or None for one stage a task, and two of "interleaved"
            and "zb_v".
        recompute: whether a stage's forward is run again in its backward, instead of keeping what
            it computed.
        place: tasks of single layers, by patterns of their names; tasks are counted within one
            replica, from 0.
        tensor_parallel_size: T, over how many tasks each stage cuts the weights of its layers. T
            tasks are one in all that is said of tasks here but for the first line.
        layout_map: which weights are cut, and along which axis; see `WeightLayout`. None has
            tfdist choose.

    Raises:
        StrategyError: the degrees do not fit the tasks; each is listed.
    """

    tasks: tuple[str, ...]
    microbatches: int = 4
    schedule: str = "1f1b"
    replicas: int = 1
    stages: tuple[str, ...] | int | None = None
    recompute: bool = False
    place: Mapping[str, int] = dataclasses.field(default_factory=dict)
    tensor_parallel_size: int = 1
    layout_map: Mapping[str, object] | None = None

    def __post_init__(self) -> None:
        for name in ("microbatches", "replicas", "tensor_parallel_size"):
            value = getattr(self, name)
            if not is_count(value):
                raise StrategyError(f"{name}={value!r}: give a number of at least 1")
        if not isinstance(self.schedule, str) or self.schedule not in SCHEDULES:
            raise StrategyError(
                f"schedule={self.schedule!r}: give one of {', '.join(map(repr, SCHEDULES))}"
            )
        if self.schedule in ("zero_bubble", "zb_v") and self.recompute:
            raise StrategyError(
                f"recompute=True with schedule={self.schedule!r}, which keeps what the gradients "
                "of weights are computed from: save memory with '1f1b', or time without recompute"
            )
        if isinstance(self.stages, str):
            raise StrategyError(
                f"stages={self.stages!r}: give a list of layer names, such as [{self.stages!r}], "
                "the first layer of each stage but the first"
            )
        if isinstance(self.stages, Sequence):
            object.__setattr__(self, "stages", tuple(self.stages))
            for name in self.stages:
                if not isinstance(name, str):
                    raise StrategyError(
                        f"stages holds {name!r}: give names of layers, the first layer of each "
                        "stage but the first"
                    )
        elif not (self.stages is None or is_count(self.stages)):
            raise StrategyError(f"stages={self.stages!r}: give layer names, or a number of stages")
        if not isinstance(self.recompute, bool):
            raise StrategyError(f"recompute={self.recompute!r}: give True or False")
        if not isinstance(self.place, Mapping):
            raise StrategyError(
                f"place={self.place!r}: give a dictionary from patterns of layer names to the "
                "number of a task, such as {'tower_a*': 0}"
            )
        if not self.tasks or len(self.tasks) % (self.replicas * self.tensor_parallel_size):
            raise StrategyError(self._misfit())
        if self.layout_map is not None:
            WeightLayout.of(self.layout_map, self.tensor_parallel_size)
        if self.schedule == "zb_v" and self.num_stages != 2 * self.tasks_each:
            raise StrategyError(
                f"schedule='zb_v' with {self.num_stages} stages on {self.tasks_each} tasks, each "
                f"of which has two: give {2 * self.tasks_each} stages, or leave `stages` out"
            )
        if self.num_stages % self.tasks_each and not (
            self.place and self.schedule != "interleaved"
        ):
            raise StrategyError(self._misfit())
        for pattern, task in self.place.items():
            if not is_count(task, 0) or task >= self.tasks_each:
                raise StrategyError(
                    f"place={{{pattern!r}: {task!r}}}: give the number of a task of one replica, "
                    f"0 to {self.tasks_each - 1}"
                )

    @classmethod
    def of_one_stage(
        cls,
        tasks: tuple[str, ...],
        replicas: int = 1,
        tensor_parallel_size: int | None = None,
        layout_map: object = None,
    ) -> PipelinePlan:
        """A plan that cuts no model between its layers: tensor parallelism alone.

        Args:
            tasks: see above.
            replicas: see above.
            tensor_parallel_size: by default as many as each replica has tasks.
            layout_map: see above.
        """
        if not is_count(replicas):
            raise StrategyError(f"replicas={replicas!r}: give a number of at least 1")
        each, left = divmod(len(tasks), replicas)
        size = tensor_parallel_size if tensor_parallel_size is not None else each
        if left or size != each:
            raise StrategyError(
                f"{len(tasks)} tasks ({', '.join(tasks)}) for {replicas} replicas x {size} tasks "
                "that share the weights of each: give replicas and a tensor_parallel_size whose "
                "product is the number of tasks, or leave tensor_parallel_size out"
            )
        layout: Any = layout_map
        return cls(
            tasks,
            microbatches=1,
            schedule="gpipe",
            replicas=replicas,
            stages=1,
            tensor_parallel_size=size,
            layout_map=layout,
        )

    @property
    def weight_layout(self) -> WeightLayout | None:
        """What `layout_map` says; None where tfdist is to choose."""
        if self.layout_map is None:
            return None
        return WeightLayout.of(self.layout_map, self.tensor_parallel_size)

    @property
    def tasks_each(self) -> int:
        """Tasks of one replica, those that share weights counted as one."""
        return max(1, len(self.tasks) // self.replicas // self.tensor_parallel_size)

    def names_of(self, task: int) -> str:
        """The name of a task of the first replica; "a + b" of two that share weights."""
        size = self.tensor_parallel_size
        return " + ".join(self.tasks[task * size : (task + 1) * size])

    @property
    def num_stages(self) -> int:
        """K, the number of stages."""
        if self.stages is None:
            return self.tasks_each * stages_a_task(self.schedule)
        return len(self.stages) + 1 if isinstance(self.stages, Sequence) else int(self.stages)

    def task_of(self, stage: int) -> int:
        """Returns the number, within a replica, of the task that runs a stage."""
        return self.placement[stage]

    @property
    def placement(self) -> tuple[int, ...]:
        """The task, within a replica, of each stage."""
        return placement(self.schedule, self.num_stages, self.tasks_each)

    def slots(self) -> tuple[Slot, ...]:
        """Returns what each stage does, and when."""
        return schedule(self.schedule, self.num_stages, self.microbatches, self.tasks_each)

    def placed(self, layer: str, stage: int) -> int:
        """Returns the number, within a replica, of the task that runs a layer of a stage."""
        for pattern, task in self.place.items():
            if fnmatch.fnmatchcase(layer, pattern):
                return task
        return self.task_of(stage)

    def describe(self) -> str:
        """Says the degrees, such as "4 tasks = 2 replicas x 2 stages, 8 microbatches, 1f1b"."""
        each = self.num_stages / self.tasks_each
        stages = f"{self.num_stages} stages" + ("" if each == 1 else f" ({each:g} a task)")
        size = self.tensor_parallel_size
        tasks = f"{self.replicas} replicas x {self.tasks_each * size} tasks"
        if size > 1:
            tasks = f"{self.replicas} replicas x {self.tasks_each} stages' tasks x {size} parts"
        if self.num_stages == 1 and self.tasks_each == 1 and self.microbatches == 1:
            return (
                f"{len(self.tasks)} tasks = {self.replicas} replicas x {size} tasks, each with a "
                "part of the weights"
            )
        return (
            f"{len(self.tasks)} tasks = {tasks}; "
            f"{stages}, {self.microbatches} microbatches, {self.schedule}"
        )

    def _misfit(self) -> str:
        size = self.tensor_parallel_size
        parts = f" x {size} tasks that share each stage's weights" if size > 1 else ""
        names = "replicas, stages, tensor_parallel_size" if size > 1 else "replicas, stages"
        return (
            f"{len(self.tasks)} tasks ({', '.join(self.tasks)}) for {self.replicas} replicas x "
            f"{self.num_stages} stages{parts}: the tasks must divide into the replicas, and the "
            "stages of a replica into its tasks (one or several a task); change "
            f"{names} or the cluster"
        )
